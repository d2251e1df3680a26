/**
 * Chains that flows keep because the socket didn't take all of their bytes.
 *
 * Waiting in the guest's own buffers costs no copy and no retransmission: the guest sees the window stand still. The
 * entries lie in shared memory, linked per flow, so that a successor of the worker finds them.
 */
import { FIN_HELD, FLAGS, FLOW_WORDS, FREE, HELD_BYTES, HELD_FIRST, HELD_LAST, STATE } from './flow.js';
import type { Origin } from './nat/guestLink.js';

const WORDS = 8;
const NEXT = 0;
const WORKER = 1;
const DEVICE_QUEUE = 2;
const HEAD = 3;
/** Bytes of the frame before what is still to be sent, and how many are. */
const SKIP = 4;
const LENGTH = 5;
const USED = 6;
const PAIR_OF = 7;

export class HeldChains {
  /** Words of shared memory for `entries` chains. */
  static words(entries: number): number {
    return entries * WORDS;
  }

  private readonly freeList: Int32Array;
  private freeCount = 0;
  /** What `giveBack` is told; one object for all. */
  private readonly released: Origin = { worker: 0, device: 0, pair: 0, queue: 0, head: 0 };

  /** @param giveBack called for each chain that is done with */
  constructor(
    private readonly entries: Int32Array,
    private readonly giveBack: (origin: Origin) => void,
  ) {
    this.freeList = new Int32Array(entries.length / WORDS);
    for (let n = this.freeList.length - 1; n >= 0; n--) {
      if (entries[n * WORDS + USED] === 0) this.freeList[this.freeCount++] = n;
    }
  }

  /** Adds a chain to the end of what the flow at `f` keeps. False when there is no entry left. */
  append(records: Int32Array, f: number, origin: Origin, skip: number, length: number): boolean {
    if (this.freeCount === 0) return false;
    const entry = this.freeList[--this.freeCount]!;
    const e = entry * WORDS;
    this.entries[e + NEXT] = -1;
    this.entries[e + WORKER] = origin.worker;
    this.entries[e + DEVICE_QUEUE] = (origin.device << 16) | origin.queue;
    this.entries[e + PAIR_OF] = origin.pair;
    this.entries[e + HEAD] = origin.head;
    this.entries[e + SKIP] = skip;
    this.entries[e + LENGTH] = length;
    this.entries[e + USED] = 1;
    if (records[f + HELD_FIRST]! < 0) records[f + HELD_FIRST] = entry;
    else this.entries[records[f + HELD_LAST]! * WORDS + NEXT] = entry;
    records[f + HELD_LAST] = entry;
    records[f + HELD_BYTES] = records[f + HELD_BYTES]! + length;
    return true;
  }

  /** Where the flow's first chain came from. */
  origin(records: Int32Array, f: number, out: Origin): void {
    const e = records[f + HELD_FIRST]! * WORDS;
    out.worker = this.entries[e + WORKER]!;
    out.device = this.entries[e + DEVICE_QUEUE]! >>> 16;
    out.queue = this.entries[e + DEVICE_QUEUE]! & 0xffff;
    out.pair = this.entries[e + PAIR_OF]!;
    out.head = this.entries[e + HEAD]!;
  }

  skip(records: Int32Array, f: number): number {
    return this.entries[records[f + HELD_FIRST]! * WORDS + SKIP]!;
  }

  length(records: Int32Array, f: number): number {
    return this.entries[records[f + HELD_FIRST]! * WORDS + LENGTH]!;
  }

  /** The socket took `bytes` of the flow's first chain; the chain goes back once it took all. */
  consume(records: Int32Array, f: number, bytes: number): void {
    const e = records[f + HELD_FIRST]! * WORDS;
    this.entries[e + SKIP] = this.entries[e + SKIP]! + bytes;
    this.entries[e + LENGTH] = this.entries[e + LENGTH]! - bytes;
    records[f + HELD_BYTES] = records[f + HELD_BYTES]! - bytes;
    if (this.entries[e + LENGTH] === 0) this.releaseFirst(records, f);
  }

  /** Gives all of the flow's chains back: what was in them, a FIN behind it too, the guest sends again. */
  releaseAll(records: Int32Array, f: number): void {
    records[f + FLAGS]! &= ~FIN_HELD;
    while (records[f + HELD_FIRST]! >= 0) {
      const bytes = this.length(records, f);
      records[f + HELD_BYTES] = records[f + HELD_BYTES]! - bytes;
      this.releaseFirst(records, f);
    }
  }

  /** Gives back what any flow keeps of one queue, and all that is behind it in that flow. */
  releaseQueue(records: Int32Array, device: number, queue: number): void {
    for (let f = 0; f < records.length; f += FLOW_WORDS) {
      if (records[f + STATE] === FREE || records[f + HELD_FIRST]! < 0) continue;
      if (this.keeps(records[f + HELD_FIRST]!, (device << 16) | queue)) this.releaseAll(records, f);
    }
  }

  private keeps(first: number, deviceQueue: number): boolean {
    for (let entry = first; entry >= 0; entry = this.entries[entry * WORDS + NEXT]!) {
      if (this.entries[entry * WORDS + DEVICE_QUEUE] === deviceQueue) return true;
    }
    return false;
  }

  private releaseFirst(records: Int32Array, f: number): void {
    const entry = records[f + HELD_FIRST]!;
    this.origin(records, f, this.released);
    records[f + HELD_FIRST] = this.entries[entry * WORDS + NEXT]!;
    if (records[f + HELD_FIRST]! < 0) records[f + HELD_LAST] = -1;
    this.entries[entry * WORDS + USED] = 0;
    this.freeList[this.freeCount++] = entry;
    this.giveBack(this.released);
  }
}
