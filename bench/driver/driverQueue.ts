/**
 * The driver's side of a split virtqueue (virtio 1.2 §2.7): descriptors, available and used ring, and both kinds of
 * notification suppression.
 *
 * A chain is made by `beginChain`, `addBuffer`…, `endChain`; the device sees it at the next `publish`, and is told by
 * `notify`. Chains come back, in whatever order the device used them, from `takeUsed`.
 */
import type { MappedMemory } from './guestMemory.js';

/** Where a queue lies in guest memory: offsets in bytes. */
export interface QueueLayout {
  /** Entries: a power of two, at most 32768. */
  readonly size: number;
  readonly descTable: number;
  readonly availRing: number;
  readonly usedRing: number;
  /** A table of `indirectEntries` descriptors for each head; unused where that is 0. */
  readonly indirectTables: number;
  readonly indirectEntries: number;
}

const DESC_SIZE = 16;
const DESC_F_NEXT = 1;
const DESC_F_WRITE = 2;
const DESC_F_INDIRECT = 4;
const AVAIL_F_NO_INTERRUPT = 1;
const USED_F_NO_NOTIFY = 1;

/** Bytes of each part of a queue (virtio 1.2 §2.7). */
export function queueSizes(size: number): { descTable: number; availRing: number; usedRing: number } {
  return { descTable: DESC_SIZE * size, availRing: 6 + 2 * size, usedRing: 6 + 8 * size };
}

export class DriverQueue {
  /** Descriptors that new chains can take. */
  freeCount: number;
  /** Bytes that the device wrote into the chain which `takeUsed` returned last. */
  usedLength = 0;
  /** Rules of the used ring that the device broke, and what the first was; with that nobody knows what it will do. */
  ringErrors = 0;
  fault = '';

  private readonly u16: Uint16Array;
  private readonly u32: Uint32Array;
  private readonly mask: number;
  private readonly availIdxAt: number;
  private readonly usedEventAt: number;
  private readonly usedIdxAt: number;
  private readonly availEventAt: number;

  /** The free descriptors as a list, and the links of the chains in flight: the device has no part in it. */
  private readonly links: Uint16Array;
  private freeHead = 0;
  /** By head: descriptors of its chain, 0 for one not in flight; and the chain's last. */
  private readonly chainLength: Uint16Array;
  private readonly chainTail: Uint16Array;

  private availIdx = 0;
  private notifiedIdx = 0;
  private lastUsedIdx = 0;
  private seenUsedIdx = 0;

  private tail = 0;
  private length = 0;
  private indirect = false;

  constructor(
    private readonly memory: MappedMemory,
    readonly layout: QueueLayout,
    private readonly eventIdx: boolean,
  ) {
    const { size } = layout;
    this.u16 = memory.u16;
    this.u32 = memory.u32;
    this.mask = size - 1;
    this.freeCount = size;
    this.availIdxAt = layout.availRing / 2 + 1;
    this.usedEventAt = layout.availRing / 2 + 2 + size;
    this.usedIdxAt = layout.usedRing / 2 + 1;
    this.availEventAt = (layout.usedRing + 4 + 8 * size) / 2;
    this.links = Uint16Array.from({ length: size }, (_, n) => n + 1);
    this.chainLength = new Uint16Array(size);
    this.chainTail = new Uint16Array(size);
  }

  /** The head that the next chain will have; only if a descriptor is free. */
  nextHead(): number {
    return this.freeHead;
  }

  /** Chains that the device has not given back, as far as this side has looked. */
  inFlight(): number {
    return (this.availIdx - this.lastUsedIdx) & 0xffff;
  }

  /** Begins a chain. An indirect one takes a single descriptor of the ring. At least that many must be free. */
  beginChain(indirect: boolean): void {
    this.indirect = indirect;
    this.tail = this.freeHead;
    this.length = 0;
  }

  /** Adds a buffer to the chain; `deviceWrites` for one that the device fills. Those it reads come first (virtio 1.2 §2.7.4.2). */
  addBuffer(offset: number, bytes: number, deviceWrites: boolean): void {
    const flags = deviceWrites ? DESC_F_WRITE : 0;
    if (this.indirect) {
      const entry =
        this.layout.indirectTables + (this.freeHead * this.layout.indirectEntries + this.length) * DESC_SIZE;
      if (this.length > 0) this.link(entry - DESC_SIZE, this.length);
      this.describe(entry, offset, bytes, flags);
    } else {
      if (this.length > 0) {
        const next = this.links[this.tail];
        this.link(this.layout.descTable + this.tail * DESC_SIZE, next);
        this.tail = next;
      }
      this.describe(this.layout.descTable + this.tail * DESC_SIZE, offset, bytes, flags);
    }
    this.length++;
  }

  /** Puts the chain into the available ring, unpublished. Returns its head. */
  endChain(): number {
    const head = this.freeHead;
    if (this.indirect) {
      const table = this.layout.indirectTables + head * this.layout.indirectEntries * DESC_SIZE;
      this.describe(this.layout.descTable + head * DESC_SIZE, table, this.length * DESC_SIZE, DESC_F_INDIRECT);
      this.length = 1;
    }
    this.freeHead = this.links[this.tail];
    this.freeCount -= this.length;
    this.chainLength[head] = this.length;
    this.chainTail[head] = this.tail;
    this.u16[this.availIdxAt + 1 + (this.availIdx & this.mask)] = head;
    this.availIdx = (this.availIdx + 1) & 0xffff;
    return head;
  }

  /** Shows the device all chains ended so far. */
  publish(): void {
    Atomics.store(this.u16, this.availIdxAt, this.availIdx);
  }

  /** Whether the device wants to be notified of what was published since the last call (virtio 1.2 §2.7.10). */
  needsNotification(): boolean {
    const before = this.notifiedIdx;
    const now = this.availIdx;
    if (now === before) return false;
    this.notifiedIdx = now;
    if (!this.eventIdx) return (Atomics.load(this.u16, this.usedIdxAt - 1) & USED_F_NO_NOTIFY) === 0;
    const event = Atomics.load(this.u16, this.availEventAt);
    return ((now - event - 1) & 0xffff) < ((now - before) & 0xffff);
  }

  /** Used elements that wait to be taken. */
  usedCount(): number {
    const usedIdx = Atomics.load(this.u16, this.usedIdxAt);
    const count = (usedIdx - this.lastUsedIdx) & 0xffff;
    if (count > this.inFlight()) {
      this.breach(`the used index is ${count} chains ahead, with ${this.inFlight()} in flight`);
      return 0;
    }
    this.seenUsedIdx = usedIdx;
    return count;
  }

  /**
   * The head of the next chain that the device is done with, its descriptors free again; -1 if there is none. Elements that
   * name no chain in flight are passed over (virtio 1.2 §2.7.8).
   */
  takeUsed(): number {
    for (;;) {
      if (this.lastUsedIdx === this.seenUsedIdx && this.usedCount() === 0) return -1;
      const element = (this.layout.usedRing + 4) / 4 + (this.lastUsedIdx & this.mask) * 2;
      const head = this.u32[element];
      this.usedLength = this.u32[element + 1];
      this.lastUsedIdx = (this.lastUsedIdx + 1) & 0xffff;
      if (head <= this.mask && this.chainLength[head] > 0) {
        this.free(head);
        return head;
      }
      this.breach(`a used element names descriptor ${head}, whose chain is not in flight`);
    }
  }

  /**
   * Asks for an interrupt once more than `after` further chains have been used; without EVENT_IDX at the next.
   * @returns whether to wait for it: false if so many have been used already
   */
  enableInterrupts(after: number): boolean {
    if (this.eventIdx) Atomics.store(this.u16, this.usedEventAt, (this.lastUsedIdx + after) & 0xffff);
    else Atomics.store(this.u16, this.availIdxAt - 1, 0);
    return this.usedCount() <= (this.eventIdx ? after : 0);
  }

  /** With EVENT_IDX the device may still interrupt once in 65,536 chains (virtio 1.2 §2.7.7). */
  disableInterrupts(): void {
    if (this.eventIdx) Atomics.store(this.u16, this.usedEventAt, (this.lastUsedIdx - 1) & 0xffff);
    else Atomics.store(this.u16, this.availIdxAt - 1, AVAIL_F_NO_INTERRUPT);
  }

  private breach(what: string): void {
    if (this.ringErrors++ === 0) this.fault = what;
  }

  private free(head: number): void {
    this.links[this.chainTail[head]] = this.freeHead;
    this.freeHead = head;
    this.freeCount += this.chainLength[head];
    this.chainLength[head] = 0;
  }

  private describe(descriptor: number, offset: number, bytes: number, flags: number): void {
    this.memory.putAddress(descriptor / 4, offset);
    this.u32[descriptor / 4 + 2] = bytes;
    this.u32[descriptor / 4 + 3] = flags;
  }

  /** Sets the `next` field, and the flag that says so. */
  private link(descriptor: number, next: number): void {
    this.u16[descriptor / 2 + 6] |= DESC_F_NEXT;
    this.u16[descriptor / 2 + 7] = next;
  }
}
