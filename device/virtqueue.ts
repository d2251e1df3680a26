/**
 * The device's side of a split virtqueue (virtio 1.2 §2.7).
 *
 * A queue is served by one thread, but any thread that maps the guest's memory may walk one of its chains (a packet
 * handed to the worker that owns its flow). What must outlive the thread (the indices) lies in shared memory, `state`;
 * the rest is derived from the set-up.
 *
 * The guest is hostile. Faults come in two kinds: one that leaves no way to go on (an available index or a head out of
 * range) breaks the queue, `broken` says why; one inside a chain (an address outside memory, a loop, a descriptor of the
 * wrong direction) makes `walk` return false, and the caller completes the chain with length 0.
 */
import type { GuestMemory } from './guestMemory.js';

const DESC_F_NEXT = 1;
const DESC_F_WRITE = 2;
const DESC_F_INDIRECT = 4;
const AVAIL_F_NO_INTERRUPT = 1;
const USED_F_NO_NOTIFY = 1;
const TWO_32 = 4294967296;

/** The most (region, offset, length) triples that one chain may come to: IOV_MAX. */
export const MAX_IOVECS = 1024;

/** Words of `state`, in shared memory: written only by the thread that serves the queue. */
export const QUEUE_LAST_AVAIL = 0;
export const QUEUE_USED = 1;
/** The used index that the driver has been shown. */
export const QUEUE_PUBLISHED = 2;
/** The head that is being worked on, or -1: a successor drops what its predecessor died on. */
export const QUEUE_CURRENT = 3;
/** Chains of this queue that other workers have. */
export const QUEUE_OUTSTANDING = 4;
/** Chains shown to the driver as used, modulo 2^32. */
export const QUEUE_CHAINS = 5;
/** Of a control queue: the queue pairs that the driver uses, as it told; 0: it tells nothing, all that are enabled. */
export const QUEUE_ACTIVE_PAIRS = 6;
/** Notifications by the driver, and of the driver, modulo 2^32. */
export const QUEUE_KICKS = 7;
export const QUEUE_INTERRUPTS = 8;
export const QUEUE_STATE_WORDS = 16;

/** Why a queue can't go on. */
export const BROKEN_REASONS = [
  '',
  'the available index is further ahead than the queue is long (virtio 1.2 §2.7.13.3)',
  'a head beyond the descriptor table (virtio 1.2 §2.7.6)',
  "its rings don't lie in guest memory (virtio 1.2 §2.7)",
  'its call eventfd is full and blocking',
] as const;
const BROKEN_AVAIL_INDEX = 1;
const BROKEN_HEAD = 2;
export const BROKEN_PLACE = 3;
export const BROKEN_CALL = 4;

/** Where the parts of a queue lie (guest physical addresses) and what the driver accepted. */
export interface VirtqueueLayout {
  readonly size: number;
  readonly descTable: number;
  readonly availRing: number;
  readonly usedRing: number;
  readonly eventIdx: boolean;
  readonly indirect: boolean;
}

export class Virtqueue {
  size = 0;
  /** Why the queue can't go on: an index of BROKEN_REASONS; 0 while it can. */
  broken = 0;
  /** Triples of the chain walked last: index of the first in `iovecs`, number of readable ones, number of all. */
  first = 0;
  readable = 0;
  count = 0;
  readableBytes = 0;
  writableBytes = 0;

  private desc: Uint32Array = new Uint32Array(0);
  private descBase = 0;
  private avail: Uint16Array = new Uint16Array(0);
  private availBase = 0;
  private used32: Uint32Array = new Uint32Array(0);
  private used16: Uint16Array = new Uint16Array(0);
  private usedBase = 0;
  private eventIdx = false;
  private indirect = false;
  private mask = 0;
  /** The available index as read last. */
  private availIdx = 0;

  /**
   * @param memory the device's memory in this thread
   * @param iovecs scratch of [region, offset, length] triples that the addon sees
   * @param state the queue's QUEUE_STATE_WORDS words of shared memory
   */
  constructor(
    private readonly memory: GuestMemory,
    private readonly iovecs: Uint32Array,
    private readonly state: Int32Array,
  ) {}

  /** Finds the rings in memory. False when a part of them lies in no single window, or unaligned (§2.7). */
  place(layout: VirtqueueLayout): boolean {
    const { memory } = this;
    const descWindow = memory.findSpan(layout.descTable, 16 * layout.size);
    const availWindow = memory.findSpan(layout.availRing, 6 + 2 * layout.size);
    const usedWindow = memory.findSpan(layout.usedRing, 6 + 8 * layout.size);
    if (descWindow < 0 || availWindow < 0 || usedWindow < 0) return false;
    const descOffset = layout.descTable - memory.start[descWindow]!;
    const availOffset = layout.availRing - memory.start[availWindow]!;
    const usedOffset = layout.usedRing - memory.start[usedWindow]!;
    if (descOffset % 16 !== 0 || availOffset % 2 !== 0 || usedOffset % 4 !== 0) return false;
    this.size = layout.size;
    this.mask = layout.size - 1;
    this.eventIdx = layout.eventIdx;
    this.indirect = layout.indirect;
    this.desc = memory.u32[descWindow]!;
    this.descBase = descOffset / 4;
    this.avail = memory.u16[availWindow]!;
    this.availBase = availOffset / 2;
    this.used32 = memory.u32[usedWindow]!;
    this.used16 = memory.u16[usedWindow]!;
    this.usedBase = usedOffset;
    this.broken = 0;
    this.availIdx = this.state[QUEUE_LAST_AVAIL]!;
    return true;
  }

  /** Reads the available index once (§2.7.6). Returns how many chains wait; 0 for a broken queue. */
  poll(): number {
    if (this.broken !== 0) return 0;
    const idx = Atomics.load(this.avail, this.availBase + 1);
    const waiting = (idx - this.state[QUEUE_LAST_AVAIL]!) & 0xffff;
    if (waiting > this.size) {
      this.broken = BROKEN_AVAIL_INDEX;
      return 0;
    }
    this.availIdx = idx;
    return waiting;
  }

  /** How many chains wait, as of the last `poll`. */
  waiting(): number {
    return (this.availIdx - this.state[QUEUE_LAST_AVAIL]!) & 0xffff;
  }

  /** The head `ahead` entries after the next one, without taking it; -1 breaks the queue. */
  headAt(ahead: number): number {
    const slot = (this.state[QUEUE_LAST_AVAIL]! + ahead) & this.mask;
    const head = this.avail[this.availBase + 2 + slot]!;
    if (head >= this.size) {
      this.broken = BROKEN_HEAD;
      return -1;
    }
    return head;
  }

  /** Takes `n` chains off the available ring. */
  take(n: number): void {
    this.state[QUEUE_LAST_AVAIL] = (this.state[QUEUE_LAST_AVAIL]! + n) & 0xffff;
  }

  /**
   * Walks the chain that starts at `head` and writes its buffers as triples from index `first` of the scratch on.
   * False when the chain breaks a rule: nothing of it may be used.
   */
  walk(head: number, first: number): boolean {
    this.first = first;
    this.count = 0;
    this.readable = 0;
    this.readableBytes = 0;
    this.writableBytes = 0;
    let table = this.desc;
    let base = this.descBase;
    let entries = this.size;
    let inIndirect = false;
    let index = head;
    // A chain visits each descriptor at most once (§2.7.5): more steps than descriptors are a loop. None may keep us busy
    // for longer than the longest that can be used.
    for (let steps = 0; steps < entries && steps < MAX_IOVECS; steps++) {
      const at = base + 4 * index;
      const address = table[at + 1]! * TWO_32 + table[at]!;
      const length = table[at + 2]!;
      const flagsNext = table[at + 3]!;
      if ((flagsNext & DESC_F_INDIRECT) !== 0) {
        // One level only, last of its chain, whole descriptors (§2.7.5.3.1).
        if (!this.indirect || inIndirect || (flagsNext & DESC_F_NEXT) !== 0) return false;
        if (length === 0 || length % 16 !== 0 || address % 4 !== 0) return false;
        const window = this.memory.findSpan(address, length);
        if (window < 0) return false;
        table = this.memory.u32[window]!;
        base = (address - this.memory.start[window]!) / 4;
        entries = length / 16;
        inIndirect = true;
        index = 0;
        steps = -1;
        continue;
      }
      if (!this.addBuffer(address, length, (flagsNext & DESC_F_WRITE) !== 0)) return false;
      if ((flagsNext & DESC_F_NEXT) === 0) return true;
      index = flagsNext >>> 16;
      if (index >= entries) return false;
    }
    return false;
  }

  /** Adds one descriptor's bytes, split where they cross windows. */
  private addBuffer(address: number, length: number, writable: boolean): boolean {
    if (writable) this.writableBytes += length;
    else if (this.count !== this.readable)
      return false; // readable after writable (§2.7.4.2)
    else this.readableBytes += length;
    let at = address;
    let rest = length;
    while (rest > 0) {
      const window = this.memory.find(at);
      if (window < 0 || this.count === MAX_IOVECS) return false;
      const offset = at - this.memory.start[window]!;
      const piece = Math.min(rest, this.memory.size[window]! - offset);
      const triple = 3 * (this.first + this.count++);
      this.iovecs[triple] = this.memory.region[window]!;
      this.iovecs[triple + 1] = offset;
      this.iovecs[triple + 2] = piece;
      if (!writable) this.readable++;
      at += piece;
      rest -= piece;
    }
    return true;
  }

  /** Stages a used element (§2.7.8): the driver sees it after `publish`. */
  pushUsed(head: number, length: number): void {
    const used = this.state[QUEUE_USED]!;
    const at = (this.usedBase + 4) / 4 + 2 * (used & this.mask);
    this.used32[at] = head;
    this.used32[at + 1] = length;
    this.state[QUEUE_USED] = (used + 1) & 0xffff;
  }

  /** Shows the driver all staged elements by one store of the used index. True when the driver wants an interrupt. */
  publish(): boolean {
    const old = this.state[QUEUE_PUBLISHED]!;
    const used = this.state[QUEUE_USED]!;
    if (used === old || this.size === 0) return false;
    Atomics.store(this.used16, this.usedBase / 2 + 1, used);
    this.state[QUEUE_PUBLISHED] = used;
    this.state[QUEUE_CHAINS] = (this.state[QUEUE_CHAINS]! + ((used - old) & 0xffff)) | 0;
    return this.wantsInterrupt(old);
  }

  /**
   * Whether the driver wants an interrupt for what was shown since the used index was `since`: with EVENT_IDX if the index
   * crossed used_event (§2.7.10), else unless it set NO_INTERRUPT (§2.7.7).
   */
  wantsInterrupt(since: number): boolean {
    const used = this.state[QUEUE_PUBLISHED]!;
    if (!this.eventIdx) return (Atomics.load(this.avail, this.availBase) & AVAIL_F_NO_INTERRUPT) === 0;
    const usedEvent = Atomics.load(this.avail, this.availBase + 2 + this.size);
    return ((used - usedEvent - 1) & 0xffff) < ((used - since) & 0xffff);
  }

  /** The used index as it stands in the ring: where a queue that was used before goes on. */
  usedIndexInRing(): number {
    return Atomics.load(this.used16, this.usedBase / 2 + 1);
  }

  /** Asks the driver to notify of the next chain, then looks again: returns how many wait after all. */
  enableNotifications(): number {
    if (this.size === 0) return 0;
    if (this.eventIdx) Atomics.store(this.used16, this.availEventIndex(), this.availIdx);
    else Atomics.store(this.used16, this.usedBase / 2, 0);
    return this.poll();
  }

  /** Asks the driver not to notify. With EVENT_IDX nothing need be written: the event index lies behind. */
  disableNotifications(): void {
    if (!this.eventIdx && this.size !== 0) Atomics.store(this.used16, this.usedBase / 2, USED_F_NO_NOTIFY);
  }

  private availEventIndex(): number {
    return (this.usedBase + 4 + 8 * this.size) / 2;
  }
}
