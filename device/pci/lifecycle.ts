/**
 * A virtio device's life (virtio 1.2 §2.1, §3.1): status, features, and what of its queues runs in the data plane.
 *
 * Registers change at once; the data plane follows: after each change that concerns it, `settle` starts, stops and rewires
 * queues until they are as the registers say. A queue runs from DRIVER_OK to reset, while it is enabled and the function
 * may access memory. Steps are taken one after the other, in the order of the writes that asked for them.
 */
import type { DeviceDataPlane, MemoryRegion } from '../dataPlane.js';
import {
  pciFeaturesFault,
  VIRTIO_F_RING_RESET,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_STATUS,
} from '../features.js';
import { VIRTIO_NET_S_ANNOUNCE, VIRTIO_NET_S_LINK_UP } from '../netState.js';
import type { VirtioInterrupts } from './interrupts.js';
import type { QueueRegisters } from './queueRegisters.js';

export const STATUS_ACKNOWLEDGE = 1;
export const STATUS_DRIVER = 2;
export const STATUS_DRIVER_OK = 4;
export const STATUS_FEATURES_OK = 8;
export const STATUS_NEEDS_RESET = 64;
export const STATUS_FAILED = 128;
const DRIVER_BITS = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_DRIVER_OK | STATUS_FEATURES_OK | STATUS_FAILED;

export interface LifecycleOptions {
  readonly dataPlane: DeviceDataPlane;
  readonly memory: readonly MemoryRegion[];
  readonly mac: Uint8Array;
  readonly warn: (message: string) => void;
  /** Whether the function may access memory (PCI's Bus Master bit). */
  readonly mayAccessMemory: () => boolean;
}

export class Lifecycle {
  /** What the driver accepted so far; the device's word is FEATURES_OK. */
  driverFeatures = 0n;
  private status = 0;
  /** The driver wrote 0, and what ran doesn't all stand yet. */
  private resetting = false;
  /** The data plane knows the features. */
  private configured = false;
  /** Steps under way, and how many of them. */
  private steps: Promise<void> = Promise.resolve();
  private waiting = 0;

  constructor(
    private readonly options: LifecycleOptions,
    readonly queues: readonly QueueRegisters[],
    private readonly interrupts: VirtioInterrupts,
  ) {
    options.dataPlane.net.reset(options.mac);
    options.dataPlane.onQueueBroken = (queue, reason) => this.queueBroken(queue, reason);
  }

  get deviceStatus(): number {
    return this.status;
  }

  /** Resolves once queues are as the register says. */
  setStatus(value: number): void | Promise<void> {
    if (value === 0) return this.reset();
    // A driver waits until it reads 0 (§4.1.4.3.2): what it writes before is lost with the rest.
    if (this.resetting) return;
    const fresh = value & DRIVER_BITS & ~this.status;
    if ((fresh & STATUS_FEATURES_OK) !== 0 && !this.acceptFeatures()) this.status |= fresh & ~STATUS_FEATURES_OK;
    // "The driver MUST NOT clear a device status bit" (§2.1.1): it can't.
    else this.status |= fresh;
    if ((fresh & STATUS_DRIVER_OK) === 0) return;
    if ((this.status & STATUS_FEATURES_OK) === 0) this.needReset('DRIVER_OK without FEATURES_OK (virtio 1.2 §3.1.1)');
    return this.settle();
  }

  /** §3.1.1: features are negotiated before FEATURES_OK and not after. */
  setDriverFeatures(word: number, bits: number): void {
    if (word > 1 || (this.status & STATUS_FEATURES_OK) !== 0) return;
    const kept = BigInt.asUintN(64, this.driverFeatures & ~(0xffff_ffffn << BigInt(32 * word)));
    this.driverFeatures = kept | (BigInt(bits) << BigInt(32 * word));
  }

  /** The registers of queue `index`; `undefined` if there is none under the features that were negotiated. */
  queue(index: number): QueueRegisters | undefined {
    const place = this.placeOf(index);
    return place < 0 ? undefined : this.queues[place];
  }

  /** Which of all queues, and so of all notify addresses, number `index` is under the features that were negotiated; -1: none. */
  placeOf(index: number): number {
    const last = this.queues.length - 1;
    if (index > last) return -1;
    if ((this.status & STATUS_FEATURES_OK) === 0) return index;
    const control = this.controlIndex(last);
    if (index < control) return index;
    return index === control && (this.driverFeatures & VIRTIO_NET_F_CTRL_VQ) !== 0n ? last : -1;
  }

  /** RING_RESET (§2.6.1). Resolves once the queue is reset. */
  resetQueue(queue: QueueRegisters): void | Promise<void> {
    if ((this.negotiated & VIRTIO_F_RING_RESET) === 0n || (this.status & STATUS_DRIVER_OK) === 0) return;
    queue.resetting = true;
    return this.settle();
  }

  /** Tells the driver to send gratuitous packets, as after a restore (§5.1.2, GUEST_ANNOUNCE). False: it can't be told. */
  announce(): boolean {
    const wanted = VIRTIO_NET_F_GUEST_ANNOUNCE | VIRTIO_NET_F_STATUS;
    return (this.negotiated & wanted) === wanted && this.changeStatusField(VIRTIO_NET_S_ANNOUNCE, true);
  }

  /** Plugs the link in or out, as the driver sees it. */
  setLink(up: boolean): void {
    this.changeStatusField(VIRTIO_NET_S_LINK_UP, up);
  }

  /**
   * Makes the data plane follow the registers. Nothing to wait for if it does so already. Never rejects: a data plane that
   * fails is a device that needs a reset.
   */
  settle(): void | Promise<void> {
    if (this.waiting === 0 && this.settled()) return;
    this.waiting++;
    this.steps = this.steps.then(() => this.step());
    return this.steps;
  }

  /** Stops all queues: the device is unplugged. */
  async close(): Promise<void> {
    await this.reset();
    this.options.dataPlane.onQueueBroken = () => undefined;
  }

  private get live(): boolean {
    const both = STATUS_DRIVER_OK | STATUS_FEATURES_OK;
    return (this.status & both) === both && !this.resetting && this.options.mayAccessMemory();
  }

  private get negotiated(): bigint {
    return (this.status & STATUS_FEATURES_OK) !== 0 ? this.driverFeatures : 0n;
  }

  private acceptFeatures(): boolean {
    const fault = pciFeaturesFault(this.driverFeatures);
    if (fault === undefined) return true;
    this.options.warn(`the driver's features are refused: ${fault}`);
    return false;
  }

  /** §5.1.2: the control queue is number 2N, where "N=1 if neither VIRTIO_NET_F_MQ nor VIRTIO_NET_F_RSS are negotiated". */
  private controlIndex(last: number): number {
    return (this.driverFeatures & VIRTIO_NET_F_MQ) !== 0n ? last : 2;
  }

  private reset(): void | Promise<void> {
    this.resetting = true;
    if (this.waiting === 0 && !this.configured && this.settled()) return this.completeReset();
    this.waiting++;
    this.steps = this.steps.then(() => this.step());
    return this.steps;
  }

  private completeReset(): void {
    for (const queue of this.queues) queue.reset();
    this.interrupts.reset();
    this.options.dataPlane.net.reset(this.options.mac);
    this.driverFeatures = 0n;
    this.status = 0;
    this.resetting = false;
  }

  private wanted(queue: QueueRegisters): boolean {
    return this.live && queue.enabled && !queue.broken && !queue.resetting;
  }

  private settled(): boolean {
    return this.queues.every((queue) => {
      if (queue.resetting || this.wanted(queue) !== (queue.running !== undefined)) return false;
      return queue.running === undefined || queue.running.callFd === this.interrupts.callFd(queue.vector);
    });
  }

  private async step(): Promise<void> {
    try {
      for (const queue of this.queues) if (queue.running !== undefined && !this.wanted(queue)) await this.stop(queue);
      for (const queue of this.queues) if (queue.resetting) queue.reset();
      if (this.resetting) await this.finishReset();
      else if (this.live) await this.run();
    } catch (error) {
      this.needReset(`the data plane failed: ${String(error)}`);
    } finally {
      this.waiting--;
    }
  }

  private async finishReset(): Promise<void> {
    try {
      if (this.configured) await this.options.dataPlane.setFeatures(0n);
    } catch (error) {
      this.options.warn(`the data plane failed: ${String(error)}`);
    } finally {
      this.configured = false;
      this.completeReset();
    }
  }

  private async stop(queue: QueueRegisters): Promise<void> {
    const { queue: number } = queue.running!;
    queue.running = undefined;
    try {
      queue.lastAvailIdx = await this.options.dataPlane.stopQueue(number);
    } catch (error) {
      // Others still have to stop, and a reset to end.
      this.queueBroken(number, `the data plane failed: ${String(error)}`);
    }
  }

  private async run(): Promise<void> {
    if (!this.configured) {
      this.configured = true;
      this.options.dataPlane.net.negotiate(this.driverFeatures);
      await this.options.dataPlane.setFeatures(this.driverFeatures);
    }
    for (const [number, queue] of this.queues.entries()) {
      const callFd = this.interrupts.callFd(queue.vector);
      if (queue.running === undefined && this.wanted(queue)) await this.start(number, queue, callFd);
      else if (queue.running !== undefined && queue.running.callFd !== callFd && !queue.broken) {
        await this.options.dataPlane.setCallFd(number, callFd);
        queue.running.callFd = callFd;
      }
    }
  }

  private async start(number: number, queue: QueueRegisters, callFd: number): Promise<void> {
    const setup = queue.setup(this.options.memory, callFd);
    if (typeof setup === 'string') {
      this.queueBroken(number, setup);
      return;
    }
    await this.options.dataPlane.startQueue(number, setup);
    queue.running = { queue: number, callFd };
    await this.options.dataPlane.setQueueEnabled(number, true);
  }

  private queueBroken(number: number, reason: string): void {
    this.queues[number]!.broken = true;
    this.needReset(`queue ${number} is stopped: ${reason}`);
  }

  /** §2.1.2: the driver is told by the bit and, once it is ready, by a configuration change notification. */
  private needReset(reason: string): void {
    this.options.warn(`the driver has to reset the device: ${reason}`);
    this.status |= STATUS_NEEDS_RESET;
    if ((this.status & STATUS_DRIVER_OK) !== 0) this.interrupts.configChanged();
  }

  private changeStatusField(bits: number, set: boolean): boolean {
    const { net } = this.options.dataPlane;
    if (((net.status & bits) !== 0) === set) return true;
    net.setStatus(bits, set);
    if ((this.status & STATUS_DRIVER_OK) !== 0) this.interrupts.configChanged();
    return true;
  }
}
