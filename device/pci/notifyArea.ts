/**
 * The notify addresses of a device's queues (virtio 1.2 §4.1.4.4). Where the machine has doorbells, a driver's write signals
 * the queue's kick eventfd without leaving the guest; else, and where one can't be had, the write comes here and is told to
 * what serves the queue.
 */
import type { Addon } from '../../src/native/addon.js';
import type { QueuePlane } from '../dataPlane.js';
import type { Platform } from './platform.js';
import { NOTIFY_MULTIPLIER } from './virtioCapabilities.js';

export class NotifyArea {
  /** Where the area lies in guest memory. */
  private address: number | undefined;
  /** Addresses of doorbells that are attached, by queue. */
  private readonly attached = new Map<number, number>();

  constructor(
    private readonly addon: Addon,
    private readonly platform: Platform,
    private readonly plane: QueuePlane,
    private readonly kickFds: readonly number[],
    private readonly warn: (message: string) => void,
  ) {}

  /** Moves the doorbells to where the area lies now; `undefined`: nowhere. */
  place(address: number | undefined): void {
    if (address === this.address) return;
    this.detachAll();
    this.address = address;
    if (address === undefined || this.platform.doorbells === undefined) return;
    for (const [queue, fd] of this.kickFds.entries()) this.attach(queue, address + NOTIFY_MULTIPLIER * queue, fd);
  }

  /** A write that no doorbell took. The address alone names the queue, as it does for a doorbell. */
  written(offset: number): void {
    const queue = offset / NOTIFY_MULTIPLIER;
    const fd = this.kickFds[queue];
    if (fd === undefined) return;
    this.platform.counts.doorbellExits++;
    if (!this.plane.kick(queue)) this.addon.eventfdSignal(fd);
  }

  /** A doorbell that can't be had costs speed, not function: `written` stands in. */
  private attach(queue: number, address: number, fd: number): void {
    try {
      this.platform.doorbells!.attach(address, fd);
      this.attached.set(queue, address);
    } catch (error) {
      this.warn(`queue ${queue} has no doorbell, its notifications go through this thread: ${String(error)}`);
    }
  }

  private detachAll(): void {
    for (const [queue, address] of this.attached) {
      this.platform.doorbells!.detach(address, this.kickFds[queue]!);
    }
    this.attached.clear();
  }
}
