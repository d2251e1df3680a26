/**
 * Frames for the driver (virtio 1.2 §5.1.6.3, §5.1.6.4), built in its own receive buffers.
 *
 * `reserve` looks at buffers without taking them; the caller writes the headers at `header[headerOffset…]`, lets a
 * system call fill the payload's triples, and `commit`s the length that it came to: only then are buffers taken. With
 * MRG_RXBUF a frame spans as many chains as it needs, all but the last filled, all shown together (§5.1.6.4.1).
 */
import type { GuestMemory } from './guestMemory.js';
import { writeNetHeader } from './netHeader.js';
import { type FrameFilter, ReceiveBatch } from './receiveBatch.js';
import { MAX_IOVECS, type Virtqueue } from './virtqueue.js';

/** Chains that one frame may span: 64 KiB in the smallest buffers that Linux posts, with room. */
const MAX_CHAINS = 128;
/** Buffers given back unused in one go: what a driver can make us do for one frame has an end. */
const MAX_REFUSALS = 64;
/** Bytes of a frame, from its start, that the caller may write in place. */
export const MAX_HEADERS = 128;

const TAKES_ALL: FrameFilter = { accepts: () => true };

export class ReceiveQueue {
  /** Several frames at once, of one buffer each. */
  readonly batch: ReceiveBatch;
  /** Where the frame's first bytes go, valid after `reserve`. */
  header: Uint8Array = new Uint8Array(0);
  headerOffset = 0;
  /** Triples set by `payload`. The one before `payloadFirst` is free for the caller. */
  payloadFirst = 0;
  payloadCount = 0;
  /** Chains given back unused because they broke a rule. */
  faults = 0;

  private readonly heads = new Uint16Array(MAX_CHAINS);
  private readonly sizes = new Float64Array(MAX_CHAINS);
  private chains = 0;
  /** More buffers would not help: the next one breaks a rule, or no more can be lined up. */
  private stuck = false;
  private triples = 0;
  private netHeader: Uint8Array = new Uint8Array(0);
  private netHeaderOffset = 0;
  private scattered = false;
  private readonly scratch = new Uint8Array(12 + MAX_HEADERS);
  /** The triples as the driver posted them, kept while `scattered`. */
  private readonly posted = new Uint32Array(3 * (12 + MAX_HEADERS));

  /**
   * @param first index of the first triple of the scratch that this queue may use; it uses MAX_IOVECS from there, and
   *   one before
   * @param headerSize bytes of the virtio-net header
   * @param mergeable MRG_RXBUF was negotiated
   */
  constructor(
    private readonly queue: Virtqueue,
    private readonly memory: GuestMemory,
    private readonly iovecs: Uint32Array,
    private readonly first: number,
    private readonly headerSize: number,
    private readonly mergeable: boolean,
    private readonly filter: FrameFilter = TAKES_ALL,
  ) {
    this.batch = new ReceiveBatch(queue, memory, iovecs, first, headerSize, filter);
  }

  /**
   * Finds buffers for a frame of `least` to `most` bytes. Returns the bytes there is room for, at most `most`; 0 when
   * there is no room for `least`. Buffers that never can hold it, or break a rule, are given back, so that the queue goes
   * on (§5.1.6.3.1).
   */
  reserve(least: number, most: number): number {
    for (let n = 0; n < MAX_REFUSALS; n++) {
      const room = this.gather(most);
      if (room >= least) {
        this.placeHeader();
        return Math.min(room, most);
      }
      if (!this.stuck) return 0;
      const tooSmall = !this.mergeable && this.chains > 0;
      this.refuse();
      if (tooSmall) return 0; // so are its like: the frame is lost, not all buffers
    }
    return 0;
  }

  /** Lines up chains that hold `most` bytes, or as many as there are. Returns the bytes of a frame that they hold. */
  private gather(most: number): number {
    const { queue } = this;
    this.chains = 0;
    this.triples = 0;
    this.stuck = false;
    let room = -this.headerSize;
    let waiting = queue.waiting();
    while (room < most && !this.stuck) {
      if (this.chains >= waiting) waiting = queue.poll();
      if (this.chains >= waiting) break;
      const head = queue.headAt(this.chains);
      if (head < 0) break;
      this.heads[this.chains] = head;
      if (this.append(head)) room += this.sizes[this.chains - 1]!;
      else this.stuck = true;
      if (room < most && (!this.mergeable || this.chains === MAX_CHAINS)) this.stuck = true;
    }
    return room;
  }

  /** Points `payloadFirst` and `payloadCount` at `length` bytes that begin `from` bytes into the reserved frame. */
  payload(from: number, length: number): void {
    let skip = this.headerSize + from;
    let at = this.first;
    while (skip >= this.iovecs[3 * at + 2]!) skip -= this.iovecs[3 * at++ + 2]!;
    this.iovecs[3 * at + 1] = this.iovecs[3 * at + 1]! + skip;
    this.iovecs[3 * at + 2] = this.iovecs[3 * at + 2]! - skip;
    this.payloadFirst = at;
    this.trim(length);
  }

  /** Shortens what `payload` pointed at to its first `length` bytes. */
  trim(length: number): void {
    let at = this.payloadFirst;
    let rest = length;
    while (rest > 0) {
      const size = 3 * at++ + 2;
      if (this.iovecs[size]! > rest) this.iovecs[size] = rest;
      rest -= this.iovecs[size]!;
    }
    this.payloadCount = at - this.payloadFirst;
  }

  /**
   * Takes the buffers of a frame of `length` bytes, the first `headers` of which the caller wrote at `header`, and stages
   * them as used. A frame that the driver's filter keeps out is gone, its buffers are as before.
   * @param csumStart where the checksum begins in the frame, 0 if it is complete (§5.1.6.4.1)
   * @param gsoType GSO_NONE or what the driver accepted, with segments of `gsoSize` bytes
   */
  commit(
    length: number,
    headers: number,
    csumStart: number,
    csumOffset: number,
    gsoType: number,
    gsoSize: number,
  ): void {
    if (headers > 0 && !this.filter.accepts(this.header, this.headerOffset)) return;
    let rest = length + this.headerSize;
    let used = 0;
    while (rest > 0) rest -= this.sizes[used++]!;
    const { netHeader, netHeaderOffset, headerSize } = this;
    writeNetHeader(netHeader, netHeaderOffset, headerSize, csumStart, csumOffset, gsoType, gsoSize, headers, used);
    if (this.scattered) this.scatter(this.scratch, headers + this.headerSize, this.posted, 0);
    this.queue.take(used);
    rest = length + this.headerSize;
    for (let n = 0; n < used; n++) {
      this.queue.pushUsed(this.heads[n]!, Math.min(rest, this.sizes[n]!));
      rest -= this.sizes[n]!;
    }
  }

  /** Takes buffers for a whole frame that lies elsewhere, its checksums complete, unless it is filtered. False when there is no room. */
  copy(frame: Uint8Array, length: number): boolean {
    if (!this.filter.accepts(frame, 0)) return true;
    if (this.reserve(length, length) === 0) return false;
    this.payload(0, length);
    this.scatter(frame, length, this.iovecs, this.payloadFirst);
    this.commit(length, 0, 0, 0, 0, 0);
    return true;
  }

  private append(head: number): boolean {
    const { queue } = this;
    if (!queue.walk(head, this.first + this.triples)) return false;
    if (queue.readable !== 0 || queue.writableBytes === 0) return false;
    if (this.chains === 0 && queue.writableBytes < this.headerSize) return false;
    if (this.triples + queue.count > MAX_IOVECS) return false;
    this.sizes[this.chains++] = queue.writableBytes;
    this.triples += queue.count;
    return true;
  }

  /** Gives the next chain back with nothing in it. */
  private refuse(): void {
    this.faults++;
    this.queue.take(1);
    this.queue.pushUsed(this.heads[0]!, 0);
  }

  /** In place if the first buffer holds all headers, else in scratch, to be scattered by `commit`. */
  private placeHeader(): void {
    const triple = 3 * this.first;
    this.scattered = this.iovecs[triple + 2]! < this.headerSize + MAX_HEADERS;
    if (!this.scattered) {
      this.netHeader = this.memory.bytesOf(this.iovecs[triple]!);
      this.netHeaderOffset = this.iovecs[triple + 1]!;
    } else {
      this.netHeader = this.scratch;
      this.netHeaderOffset = 0;
      const words = Math.min(3 * this.triples, this.posted.length);
      for (let i = 0; i < words; i++) this.posted[i] = this.iovecs[triple + i]!;
    }
    this.header = this.netHeader;
    this.headerOffset = this.netHeaderOffset + this.headerSize;
  }

  /** Copies `bytes` bytes of `source` to the buffers that `triples` name from number `first` on. */
  private scatter(source: Uint8Array, bytes: number, triples: Uint32Array, first: number): void {
    let done = 0;
    for (let t = 3 * first; done < bytes; t += 3) {
      const out = this.memory.bytesOf(triples[t]!);
      const at = triples[t + 1]!;
      const piece = Math.min(triples[t + 2]!, bytes - done);
      for (let i = 0; i < piece; i++) out[at + i] = source[done + i]!;
      done += piece;
    }
  }
}
