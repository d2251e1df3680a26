/**
 * Several frames at once for the driver, one per receive buffer, so that one system call can fill them (virtio 1.2 §5.1.6.3). It is for
 * the common kind of buffer: one descriptor that holds header and frame. Others are left to `ReceiveQueue`.
 *
 * `reserve` looks at buffers; a system call fills their payloads; each frame that came is `place`d, its headers are written, and it is
 * `commit`ted, in order: only then its buffer is taken.
 */
import type { GuestMemory } from './guestMemory.js';
import { writeNetHeader } from './netHeader.js';
import type { Virtqueue } from './virtqueue.js';

const MAX_FRAMES = 32;

/** Says which frames the driver wants (virtio 1.2 §5.1.6.5.1). */
export interface FrameFilter {
  /** @param offset where the frame's Ethernet header lies */
  accepts(frame: Uint8Array, offset: number): boolean;
}

export class ReceiveBatch {
  /** Where the headers of the frame that was placed go. */
  header: Uint8Array = new Uint8Array(0);
  headerOffset = 0;
  /** Triple of its payload. */
  payloadTriple = 0;
  /** First of the triples that describe messages, [number of triples, unused, bytes received], and of those of their payloads. */
  readonly messages: number;
  readonly data: number;

  private readonly heads = new Uint16Array(MAX_FRAMES);
  private readonly places = new Float64Array(MAX_FRAMES);
  /** Frames committed since `reserve`. */
  private done = 0;
  private headers = 0;

  /** @param first the first triple of the scratch that it may use, with 2 × 32 and one chain's behind it */
  constructor(
    private readonly queue: Virtqueue,
    private readonly memory: GuestMemory,
    private readonly iovecs: Uint32Array,
    first: number,
    private readonly headerSize: number,
    private readonly filter: FrameFilter,
  ) {
    this.messages = first;
    this.data = first + MAX_FRAMES;
  }

  /**
   * Finds buffers for up to `frames` (at most 32) frames of `headers` bytes and a payload of up to `most`, and points the
   * triples from `data` at the payloads. Returns their number: 0 when there is no buffer, or the next one is of another kind.
   */
  reserve(frames: number, headers: number, most: number): number {
    const { queue, iovecs } = this;
    const before = this.headerSize + headers;
    this.done = 0;
    this.headers = headers;
    const wanted = Math.min(frames, MAX_FRAMES);
    let waiting = queue.waiting();
    if (waiting < wanted) waiting = queue.poll();
    const count = Math.min(wanted, waiting);
    for (let n = 0; n < count; n++) {
      const head = queue.headAt(n);
      if (head < 0 || !queue.walk(head, this.data + n)) return n;
      const triple = 3 * (this.data + n);
      if (queue.count !== 1 || queue.readable !== 0 || iovecs[triple + 2]! < before + most) return n;
      this.heads[n] = head;
      this.places[n] = iovecs[triple + 1]!;
      iovecs[triple + 1] = iovecs[triple + 1]! + before;
      iovecs[triple + 2] = most;
      iovecs[3 * (this.messages + n)] = 1;
    }
    return count;
  }

  /** Bytes that came for message `n`, as the system call said. */
  length(n: number): number {
    return this.iovecs[3 * (this.messages + n) + 2]!;
  }

  /** Makes message `n`, of `length` bytes, the next frame: if others before it were dropped, it moves to the buffer of the first. */
  place(n: number, length: number): void {
    const { done, iovecs } = this;
    const triple = 3 * (this.data + done);
    const bytes = this.memory.bytesOf(iovecs[triple]!);
    if (n !== done) {
      const from = 3 * (this.data + n);
      const source = this.memory.bytesOf(iovecs[from]!);
      const [at, to] = [iovecs[from + 1]!, iovecs[triple + 1]!];
      for (let i = 0; i < length; i++) bytes[to + i] = source[at + i]!;
    }
    iovecs[triple + 2] = length;
    this.header = bytes;
    this.headerOffset = this.places[done]! + this.headerSize;
    this.payloadTriple = this.data + done;
  }

  /** Takes the buffer of the frame that was placed, and stages it as used. A frame that the driver's filter keeps out is gone. */
  commit(length: number, csumStart: number, csumOffset: number): void {
    if (!this.filter.accepts(this.header, this.headerOffset)) return;
    const { done, queue } = this;
    writeNetHeader(this.header, this.places[done]!, this.headerSize, csumStart, csumOffset, 0, 0, 0, 1);
    queue.take(1);
    queue.pushUsed(this.heads[done]!, this.headerSize + this.headers + length);
    this.done++;
  }
}
