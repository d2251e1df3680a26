/**
 * A virtqueue with both of its sides in this thread: the driver's by the load driver's `DriverQueue`, or by descriptors
 * written one by one, right or wrong; the device's over mappings of its own, as a worker has them.
 */
import { DriverQueue, queueSizes } from '../../bench/driver/driverQueue.js';
import {
  type GuestMemoryShape,
  guestAddress,
  guestRegions,
  MappedMemory,
  MemoryPlan,
} from '../../bench/driver/guestMemory.js';
import { GuestMemory } from '../../device/guestMemory.js';
import { QUEUE_LAST_AVAIL, QUEUE_PUBLISHED, QUEUE_STATE_WORDS, QUEUE_USED, Virtqueue } from '../../device/virtqueue.js';
import { addon } from '../../src/native/addon.js';
import { bindScratch } from '../native/support.js';

export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;

export const IOVECS = 2200;

export interface MockOptions {
  /** Entries. */
  readonly size?: number;
  readonly eventIdx?: boolean;
  readonly indirect?: boolean;
  readonly indirectEntries?: number;
  /** Bytes for buffers. */
  readonly dataBytes?: number;
  /** Bytes of each memory region, and of the hole behind it. */
  readonly regionSize?: number;
  readonly gap?: number;
  /** Indices that the queue begins with on both sides; for descriptors written by hand. */
  readonly startIdx?: number;
}

export interface UsedElement {
  readonly id: number;
  readonly len: number;
}

export class MockDriver implements Disposable {
  readonly driver: DriverQueue;
  readonly memory: MappedMemory;
  readonly shape: GuestMemoryShape;
  readonly guest: GuestMemory;
  readonly queue: Virtqueue;
  readonly iovecs: Uint32Array;
  readonly state = new Int32Array(new SharedArrayBuffer(4 * QUEUE_STATE_WORDS));
  /** Offset of the bytes for buffers. */
  readonly data: number;
  readonly size: number;
  private readonly view: DataView;
  private availIdx: number;
  private seenUsed: number;

  constructor(options: MockOptions = {}) {
    const { size = 8, eventIdx = false, indirect = true, indirectEntries = 16, dataBytes = 8192 } = options;
    const plan = new MemoryPlan(options.regionSize ?? Infinity);
    const sizes = queueSizes(size);
    const layout = {
      size,
      descTable: plan.place(sizes.descTable, 16),
      availRing: plan.place(sizes.availRing, 2),
      usedRing: plan.place(sizes.usedRing, 4),
      indirectTables: plan.place(16 * size * indirectEntries, 16),
      indirectEntries,
    };
    // Buffers may cross regions, unlike the parts of the queue.
    this.data = plan.place(1, 1);
    for (let rest = dataBytes; rest > 0; rest -= 64) plan.place(64, 1);
    this.size = size;
    this.shape = plan.create(options.gap ?? 0, 0x10_0000);
    this.memory = new MappedMemory(this.shape);
    this.view = new DataView(this.memory.u8.buffer);
    this.guest = new GuestMemory(addon);
    for (const region of guestRegions(this.shape)) this.guest.map({ ...region, fd: this.shape.fd });
    this.iovecs = bindScratch(IOVECS).iovecs;
    this.queue = new Virtqueue(this.guest, this.iovecs, this.state);
    this.availIdx = this.seenUsed = options.startIdx ?? 0;
    this.state[QUEUE_LAST_AVAIL] = this.state[QUEUE_USED] = this.state[QUEUE_PUBLISHED] = this.availIdx;
    this.driver = new DriverQueue(this.memory, layout, eventIdx);
    const placed = this.queue.place({
      size,
      descTable: this.address(layout.descTable),
      availRing: this.address(layout.availRing),
      usedRing: this.address(layout.usedRing),
      eventIdx,
      indirect,
    });
    if (!placed) throw new Error('the queue does not lie in memory');
    this.setAvailIdx(this.availIdx);
    this.view.setUint16(layout.usedRing + 2, this.seenUsed, true);
  }

  /** Guest physical address of an offset in the file. */
  address(offset: number): number {
    return guestAddress(this.shape, offset);
  }

  /** Writes descriptor `index`, of the indirect table at `table` if given. */
  descriptor(index: number, address: number, length: number, flags: number, next = 0, table?: number): void {
    const at = (table ?? this.driver.layout.descTable) + 16 * index;
    this.view.setBigUint64(at, BigInt(address), true);
    this.view.setUint32(at + 8, length, true);
    this.view.setUint16(at + 12, flags, true);
    this.view.setUint16(at + 14, next, true);
  }

  /** Makes the chain of `head` available. */
  offer(head: number): void {
    this.view.setUint16(this.driver.layout.availRing + 4 + 2 * (this.availIdx & (this.size - 1)), head, true);
    this.setAvailIdx((this.availIdx + 1) & 0xffff);
  }

  setAvailIdx(idx: number): void {
    this.availIdx = idx;
    this.view.setUint16(this.driver.layout.availRing + 2, idx, true);
  }

  /** The driver's avail->flags, used_event; the device's used->flags, idx, avail_event. */
  set availFlags(flags: number) {
    this.view.setUint16(this.driver.layout.availRing, flags, true);
  }
  set usedEvent(idx: number) {
    this.view.setUint16(this.driver.layout.availRing + 4 + 2 * this.size, idx, true);
  }
  get usedFlags(): number {
    return this.view.getUint16(this.driver.layout.usedRing, true);
  }
  get usedIdx(): number {
    return this.view.getUint16(this.driver.layout.usedRing + 2, true);
  }
  get availEvent(): number {
    return this.view.getUint16(this.driver.layout.usedRing + 4 + 8 * this.size, true);
  }

  /** Used elements that the driver has not read yet. */
  takeUsed(): UsedElement[] {
    const elements: UsedElement[] = [];
    for (; this.seenUsed !== this.usedIdx; this.seenUsed = (this.seenUsed + 1) & 0xffff) {
      const at = this.driver.layout.usedRing + 4 + 8 * (this.seenUsed & (this.size - 1));
      elements.push({ id: this.view.getUint32(at, true), len: this.view.getUint32(at + 4, true) });
    }
    return elements;
  }

  /** The next head, taken off the available ring; -1 if there is none. */
  takeHead(): number {
    if (this.queue.poll() === 0) return -1;
    const head = this.queue.headAt(0);
    if (head >= 0) this.queue.take(1);
    return head;
  }

  /** The chain walked last, as [guest address, bytes] of each triple. */
  buffers(): [number, number][] {
    return this.triples(this.queue.first, this.queue.count);
  }

  triples(first: number, count: number): [number, number][] {
    return Array.from({ length: count }, (_, n) => {
      const [region, offset, length] = this.iovecs.subarray(3 * (first + n), 3 * (first + n) + 3);
      const window = this.guest.region.indexOf(region!);
      return [this.guest.start[window]! + offset!, length!];
    });
  }

  /** The bytes that triples name, read through the device's mappings. */
  bytesOf(first: number, count: number): Uint8Array {
    const parts: number[] = [];
    for (let n = first; n < first + count; n++) {
      const [region, offset, length] = this.iovecs.subarray(3 * n, 3 * n + 3);
      parts.push(...this.guest.bytesOf(region!).subarray(offset!, offset! + length!));
    }
    return Uint8Array.from(parts);
  }

  [Symbol.dispose](): void {
    this.guest.clear();
    this.memory.unmap();
    addon.close(this.shape.fd);
  }
}
