/**
 * What a flow's socket has received: it is peeked at for the guest, and stays there until the guest has acknowledged it, to
 * be sent again from there.
 *
 * Of a long download from the host itself all is read before any of it is dropped. Sender and receiver are one machine
 * there, and an acknowledgment makes the sender go on where it was sent from. To take bytes off a full socket opens the
 * window: from then on the sender's kernel works, with a timer for each of its paced segments, on the worker's CPU. That
 * leaves too little of it to read faster than the sender sends, so the socket stays full, and it stays so for good. The
 * other way round there is no such trap: bytes that are dropped after the last was read come from a socket whose window
 * is open; and while the window is small beside the buffer, Linux acknowledges what comes as it comes (__tcp_ack_snd_check),
 * from the sender's CPU. A guest that is slower than we are has its window shut: there is no hurry then, and bytes are dropped.
 */
import { EAGAIN } from '../engine/engine.js';
import {
  ACKNOWLEDGED,
  BULK,
  DEVICE,
  END_OF_STREAM,
  FD,
  FLAGS,
  FLOW_WORDS,
  LOOPBACK,
  PEEK_OFFSET,
  PEER_FINISHED,
  READABLE,
  READ_FIRST,
} from '../flow.js';
import type { FrameSink } from './guestLink.js';
import type { TcpFlows } from './tcpFlows.js';

/** What the receive buffer of a bulk flow holds at least, bytes. */
const BULK_BUFFER = 1 << 20;
/** The window of flows that are read first, bytes. */
const READ_FIRST_WINDOW = 256 << 10;
/** Acknowledged bytes that a socket keeps at most: to peek beyond them, the kernel walks over them. */
const MAX_ACKNOWLEDGED = 16 << 20;

/**
 * The kernel makes the buffers of flows that are read first as large as net.ipv4.tcp_rmem allows, since it sees them read in
 * great lumps. One is the better for it; those of further flows get this size, bytes.
 */
const FIXED_BUFFER = 4 << 20;

export class SocketReads {
  private readonly records: Int32Array;
  /** The flow whose buffer is, or was, the kernel's affair; -1: none yet. */
  private unbound = -1;

  /**
   * @param iovecs scratch of [region, offset, length] triples
   * @param discardRegion a region that takes bytes nobody wants, as long as the largest window; used without SO_PEEK_OFF
   */
  constructor(
    private readonly flows: TcpFlows,
    private readonly iovecs: Uint32Array,
    private readonly discardRegion: number,
  ) {
    this.records = flows.records;
  }

  /** The flow became bulk: makes room. The kernel lets the buffers of those grow fastest that were read most: downloads side by side begin alike instead. */
  expectBulk(flow: number): void {
    const { records: r, flows } = this;
    const f = flow * FLOW_WORDS;
    r[f + FLAGS]! |= BULK;
    flows.engine.growReceiveBuffer(r[f + FD]!, BULK_BUFFER);
    const { segmentation } = flows.host.link(r[f + DEVICE]!);
    // In reads of a single MTU the walk over what the socket keeps would cost more than is won.
    if ((r[f + FLAGS]! & LOOPBACK) === 0 || !segmentation || !flows.settings.peekOffset) return;
    const other = this.unbound;
    const free = other < 0 || (r[other * FLOW_WORDS + FLAGS]! & READ_FIRST) === 0;
    r[f + FLAGS]! |= READ_FIRST;
    if (free) this.unbound = flow;
    else if (flows.settings.mostReceiveBuffer >= FIXED_BUFFER) flows.engine.fixReceiveBuffer(r[f + FD]!, FIXED_BUFFER);
  }

  /**
   * Peeks at the bytes beyond those in flight, as many as the sink's payload takes.
   * @returns bytes; 0 at the end of the stream; or -errno
   */
  peek(flow: number, sink: FrameSink, inFlight: number): number {
    const { records: r } = this;
    const { engine, settings } = this.flows;
    const f = flow * FLOW_WORDS;
    const fd = r[f + FD]!;
    const offset = inFlight + r[f + ACKNOWLEDGED]!;
    if (offset > 0 && !settings.peekOffset) return this.peekPast(flow, sink, offset);
    if (offset !== Math.max(0, r[f + PEEK_OFFSET]!)) {
      const error = engine.setPeekOffset(fd, offset);
      if (error < 0) return error;
      r[f + PEEK_OFFSET] = offset;
    }
    const bytes = engine.peek(fd, sink.payloadFirst, sink.payloadCount);
    if (bytes > 0 && r[f + PEEK_OFFSET]! >= 0) r[f + PEEK_OFFSET] = offset + bytes;
    return bytes;
  }

  /** For kernels before 6.9: reads what comes before once more, into a region that nobody looks at. */
  private peekPast(flow: number, sink: FrameSink, offset: number): number {
    const f = flow * FLOW_WORDS;
    const before = 3 * (sink.payloadFirst - 1);
    this.iovecs[before] = this.discardRegion;
    this.iovecs[before + 1] = 0;
    this.iovecs[before + 2] = offset;
    const bytes = this.flows.engine.peek(this.records[f + FD]!, sink.payloadFirst - 1, sink.payloadCount + 1);
    if (bytes < 0) return bytes;
    if (bytes > offset) return bytes - offset;
    return (this.records[f + FLAGS]! & PEER_FINISHED) !== 0 ? 0 : -EAGAIN;
  }

  /** The guest has `bytes` more: the socket need not keep them. */
  acknowledged(flow: number, bytes: number): void {
    const { records: r } = this;
    const f = flow * FLOW_WORDS;
    r[f + ACKNOWLEDGED]! += bytes;
    const first = (r[f + FLAGS]! & (READ_FIRST | READABLE | END_OF_STREAM)) === (READ_FIRST | READABLE);
    if (!first || r[f + ACKNOWLEDGED]! > MAX_ACKNOWLEDGED) this.drop(flow);
  }

  /** Takes what the guest has acknowledged off the socket. */
  drop(flow: number): void {
    const { records: r } = this;
    const { engine } = this.flows;
    const f = flow * FLOW_WORDS;
    const bytes = r[f + ACKNOWLEDGED]!;
    if (bytes === 0) return;
    const fd = r[f + FD]!;
    r[f + ACKNOWLEDGED] = 0;
    engine.discard(fd, bytes);
    if (r[f + PEEK_OFFSET]! >= 0) r[f + PEEK_OFFSET] = Math.max(0, r[f + PEEK_OFFSET]! - bytes);
    // Each time, for the kernel lifts the clamp whenever it makes the buffer larger.
    if ((r[f + FLAGS]! & READ_FIRST) !== 0) engine.clampWindow(fd, READ_FIRST_WINDOW);
  }
}
