/** A driver of a console device on a PCI bus: its queues, buffers for what comes in, and what it says on them. */
import { DriverQueue, queueSizes } from '../../../bench/driver/driverQueue.js';
import { MappedMemory, MemoryPlan, guestRegions } from '../../../bench/driver/guestMemory.js';
import { CONTROL_RECEIVE, CONTROL_TRANSMIT, RECEIVE, TRANSMIT } from '../../../device/console.js';
import { VIRTIO_F_EVENT_IDX } from '../../../device/features.js';
import { PciBus } from '../../../device/pci/bus.js';
import { VirtioConsolePci } from '../../../device/pci/virtioConsolePci.js';
import { addon } from '../../../src/native/addon.js';
import { FakePlatform } from './fakePlatform.js';
import { PCI_HOLE } from './harness.js';
import { PciDriver, SLOT } from './pciDriver.js';

export const SIZE = 16;
/** Bytes of each buffer. */
export const BUFFER = 256;
const QUEUES = 4;
/** Descriptors of an indirect chain at most. */
export const INDIRECT = 64;

export class ConsoleGuest implements AsyncDisposable {
  readonly platform = new FakePlatform(undefined);
  readonly bus = new PciBus();
  readonly device: VirtioConsolePci;
  readonly driver: PciDriver;
  readonly warnings: string[] = [];
  /** What the guest wrote to its port, as the host got it. */
  output = '';
  onOutput = (): void => undefined;
  readonly memory: MappedMemory;
  queues: DriverQueue[] = [];
  /** Offset in memory of each queue's SIZE buffers of BUFFER bytes. */
  readonly buffers: readonly number[];
  private readonly layouts;

  constructor() {
    const plan = new MemoryPlan(Infinity);
    const sizes = queueSizes(SIZE);
    this.layouts = Array.from({ length: QUEUES }, () => ({
      size: SIZE,
      descTable: plan.place(sizes.descTable, 16),
      availRing: plan.place(sizes.availRing, 2),
      usedRing: plan.place(sizes.usedRing, 4),
      indirectTables: plan.place(SIZE * INDIRECT * 16, 16),
      indirectEntries: INDIRECT,
    }));
    this.buffers = this.layouts.map(() => plan.place(SIZE * BUFFER, 4096));
    this.memory = new MappedMemory(plan.create(0, 0x4000_0000));
    const { shape } = this.memory;
    this.device = new VirtioConsolePci({
      addon,
      platform: this.platform,
      memory: guestRegions(shape).map((region) => ({ ...region, fd: shape.fd })),
      output: (bytes) => {
        this.output += bytes.toString('latin1');
        this.onOutput();
      },
      warn: (message) => this.warnings.push(message),
    });
    this.bus.add(SLOT, this.device);
    this.bus.assignBars(PCI_HOLE, PCI_HOLE + 0x10_0000);
    this.driver = new PciDriver(this.bus);
  }

  /** Resets the device and brings these queues up; queue n has vector n + 1. */
  async start(features: bigint, queues: readonly number[] = [0, 1, 2, 3]): Promise<void> {
    const { driver, memory } = this;
    await driver.enable();
    await driver.enableMsix();
    if (!(await driver.negotiate(features))) throw new Error(this.warnings.at(-1));
    memory.u8.fill(0, 0, this.buffers[0]);
    this.queues = this.layouts.map((layout) => new DriverQueue(memory, layout, (features & VIRTIO_F_EVENT_IDX) !== 0n));
    const { guestBase } = memory.shape;
    for (const queue of queues) {
      const { descTable, availRing, usedRing } = this.layouts[queue]!;
      const place = { desc: guestBase + descTable, driver: guestBase + availRing, device: guestBase + usedRing };
      await driver.setQueue(queue, { size: SIZE, ...place, vector: queue + 1 });
    }
    await driver.setStatus(15);
  }

  /** Posts the buffers of a receive queue that aren't with the device. */
  post(queue: number): void {
    const ring = this.queues[queue]!;
    while (ring.freeCount > 0) {
      ring.beginChain(false);
      ring.addBuffer(this.bufferOf(queue, ring.nextHead()), BUFFER, true);
      ring.endChain();
    }
    this.publish(queue);
  }

  /** Bytes that came in on a receive queue, and its buffers posted again. */
  received(queue: number = RECEIVE): Buffer[] {
    const ring = this.queues[queue]!;
    const found: Buffer[] = [];
    for (let head = ring.takeUsed(); head >= 0; head = ring.takeUsed()) {
      const at = this.bufferOf(queue, head);
      found.push(Buffer.from(this.memory.u8.slice(at, at + ring.usedLength)));
    }
    this.post(queue);
    return found;
  }

  /** Puts bytes on a transmit queue, in a chain of pieces of this length. */
  write(bytes: Uint8Array, { queue = TRANSMIT, piece = BUFFER, indirect = false } = {}): void {
    const ring = this.queues[queue]!;
    const at = this.bufferOf(queue, ring.nextHead());
    this.memory.u8.set(bytes, at);
    ring.beginChain(indirect);
    for (let from = 0; from < bytes.length; from += piece) {
      ring.addBuffer(at + from, Math.min(piece, bytes.length - from), false);
    }
    ring.endChain();
    this.publish(queue);
  }

  /** A control message about port 0. */
  tell(event: number, value: number): void {
    const message = Buffer.alloc(8);
    message.writeUInt16LE(event, 4);
    message.writeUInt16LE(value, 6);
    this.write(message, { queue: CONTROL_TRANSMIT });
  }

  /** What the device said about port 0: event and value. */
  told(): number[][] {
    return this.received(CONTROL_RECEIVE).map((message) => [
      message.readUInt32LE(0),
      message.readUInt16LE(4),
      message.readUInt16LE(6),
    ]);
  }

  /** Shows the device what there is on a queue, and notifies it if it wants that. */
  publish(queue: number): void {
    const ring = this.queues[queue]!;
    ring.publish();
    if (ring.needsNotification()) void this.bus.writeMemory(this.driver.notifyAddress(queue), 2, queue);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.device.close();
    this.platform[Symbol.dispose]();
    this.memory.unmap();
    addon.close(this.memory.shape.fd);
  }

  private bufferOf(queue: number, head: number): number {
    return this.buffers[queue]! + head * BUFFER;
  }
}
