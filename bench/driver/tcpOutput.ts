/**
 * Sending: what flows have to send goes out in turns, as far as windows and queues take it; go-back-N without SACK, and
 * the retransmission timer.
 */
import type { DeviceDescription } from './deviceDescription.js';
import { FlowState, sequenceOf } from './flow.js';
import type { Flow } from './flow.js';
import type { FlowTable } from './flowTable.js';
import type { FrameWriter } from './frameWriter.js';
import type { QueuePair } from './queuePair.js';
import { clock } from './scratch.js';
import { SendLists, Sent } from './sendLists.js';
import type { Sender } from './sendLists.js';
import { Counter } from './statistics.js';
import { ACK, FIN, IP_HEADER, LARGEST_DATAGRAM, PSH, SYN, TCP_HEADER } from './wire.js';

export interface TcpOptions {
  /** Least time to retransmission, ms. */
  readonly rtoMs: number;
  /** Until an operation that waits for an answer is given up, ms. */
  readonly timeoutMs: number;
  /** Most that a flow has in flight, bytes: Linux' is bound by its send buffer, 4 MiB (tcp(7), tcp_wmem). */
  readonly sendBufferBytes: number;
}

/** First retransmission of a SYN (RFC 6298 §2.1). */
const SYN_RTO_MS = 1_000;
const LARGEST_BACKOFF = 6;

export class TcpOutput implements Sender<Flow> {
  private readonly lists: SendLists<Flow>;
  private readonly largeSegments: boolean;

  constructor(
    device: DeviceDescription,
    private readonly pairs: readonly QueuePair[],
    private readonly table: FlowTable,
    private readonly writer: FrameWriter,
    private readonly statistics: Float64Array,
    private readonly options: TcpOptions,
  ) {
    this.lists = new SendLists(pairs, this);
    this.largeSegments = device.offloads.hostTso4;
  }

  /** The flow may have something to send: it gets a turn. */
  want(flow: Flow): void {
    this.lists.add(flow);
  }

  /** Sends what flows want to send, in turns. Returns whether some have more. */
  flush(): boolean {
    return this.lists.flush();
  }

  /** Sends at most one segment of data, and whatever is due beside. */
  output(flow: Flow): number {
    this.changePair(flow);
    if (flow.state === FlowState.CLOSED) return Sent.DONE;
    if (flow.state === FlowState.SYN_SENT) return this.outputSyn(flow);
    for (; flow.acksOwed > 0; flow.acksOwed--) if (!this.emit(flow, ACK, flow.sndNxt, 0)) return Sent.FULL;
    const sent = this.outputData(flow);
    if (sent !== Sent.DONE) return sent;
    if (flow.finWanted && !flow.finSent && flow.sndNxt === flow.sndEnd) {
      if (!this.emit(flow, FIN | ACK, flow.sndNxt, 0)) return Sent.FULL;
      flow.finSent = true;
      this.advance(flow, 1);
    }
    if (flow.ackDue && !this.emit(flow, ACK, flow.sndNxt, 0)) return Sent.FULL;
    if (flow.finSent && flow.finReceived && flow.sndUna > flow.sndEnd) {
      this.table.forget(flow);
      flow.handler.finished(flow);
    }
    return Sent.DONE;
  }

  private outputSyn(flow: Flow): number {
    if (flow.timerOn) return Sent.DONE;
    if (!this.emit(flow, SYN, -1, 0)) return Sent.FULL;
    flow.sndMax = flow.sndNxt = 0;
    this.armTimer(flow);
    return Sent.DONE;
  }

  private outputData(flow: Flow): number {
    const { mss } = flow;
    // CUBIC counts in fractions of a byte once something was lost.
    const window = Math.min(flow.sndWnd, this.options.sendBufferBytes, Math.floor(flow.congestion.cwnd));
    const limit = Math.min(flow.sndEnd, flow.sndUna + Math.max(window, flow.probe ? 1 : 0));
    if (flow.sndNxt >= limit) {
      // A shut window is probed when the timer runs out (RFC 9293 §3.8.6.1).
      if (flow.sndNxt < flow.sndEnd && flow.sndNxt === flow.sndUna && !flow.timerOn) this.armTimer(flow);
      return Sent.DONE;
    }
    const largest = this.largeSegments ? Math.floor((LARGEST_DATAGRAM - IP_HEADER - TCP_HEADER) / mss) * mss : mss;
    const length = Math.min(limit - flow.sndNxt, largest);
    // With data in flight, wait for the window to open for a full segment (RFC 9293 §3.8.6.2.1).
    if (length < mss && limit < flow.sndEnd && flow.sndNxt > flow.sndUna) return Sent.DONE;
    const flags = flow.sndNxt + length === limit ? ACK | PSH : ACK;
    if (!this.emit(flow, flags, flow.sndNxt, length)) return Sent.FULL;
    if (length > mss) this.statistics[Counter.largeSent]++;
    flow.probe = false;
    this.advance(flow, length);
    return flow.sndNxt < limit ? Sent.MORE : Sent.DONE;
  }

  /** Something that takes sequence numbers was sent. */
  private advance(flow: Flow, bytes: number): void {
    if (flow.sndNxt < flow.sndMax) {
      this.statistics[Counter.retransmittedSegments]++;
      this.statistics[Counter.retransmittedBytes] += Math.min(bytes, flow.sndMax - flow.sndNxt);
    }
    flow.sndNxt += bytes;
    if (flow.sndMax < flow.sndNxt) flow.sndMax = flow.sndNxt;
    this.armTimer(flow);
  }

  /**
   * Sends one segment of the flow.
   * @param position of its first byte
   * @returns false if the queue is full
   */
  emit(flow: Flow, flags: number, position: number, length: number): boolean {
    const pair = this.pairs[flow.pair];
    const acknowledgement = (flags & ACK) === 0 ? 0 : flow.rcvNxt;
    const sent = this.writer.tcp(
      pair,
      flow.remoteAddress,
      flow.localPort,
      flow.remotePort,
      sequenceOf(flow, position),
      acknowledgement,
      flags,
      Math.max(position, 0),
      length,
      flow.mss,
    );
    if (!sent) return false;
    flow.lastSent = pair.sent;
    flow.ackDue = false;
    return true;
  }

  /**
   * A flow changes its queue once the old one holds nothing of it, as Linux' flows do (skb->ooo_okay): the device can't
   * mistake the order of its segments.
   */
  private changePair(flow: Flow): void {
    if (flow.pair === flow.wantedPair) return;
    const pair = this.pairs[flow.pair];
    pair.reclaim();
    if (((pair.reclaimed - flow.lastSent) | 0) < 0) return;
    flow.pair = flow.wantedPair;
    flow.lastSent = this.pairs[flow.pair].reclaimed;
    this.statistics[Counter.hops]++;
  }

  // -- loss -----------------------------------------------------------------------------------------------------------

  /** The retransmission timer of the flow ran out. */
  timerRanOut(flow: Flow): void {
    flow.timerOn = false;
    flow.backoff++;
    if (flow.state === FlowState.SYN_SENT) {
      this.statistics[Counter.retransmittedSegments]++;
    } else if (flow.sndNxt > flow.sndUna && flow.sndWnd > 0) {
      this.statistics[Counter.retransmissionTimeouts]++;
      flow.congestion.timedOut(flow.sndNxt - flow.sndUna);
      flow.recover = flow.sndMax;
    } else {
      flow.probe = flow.sndEnd > flow.sndUna;
    }
    this.goBack(flow);
  }

  /** Sends again from the first byte that isn't acknowledged. */
  goBack(flow: Flow): void {
    flow.sndNxt = flow.sndUna;
    flow.finSent = flow.sndUna > flow.sndEnd;
    flow.dupAcks = 0;
    this.want(flow);
  }

  armTimer(flow: Flow): void {
    const ms = flow.state === FlowState.SYN_SENT ? SYN_RTO_MS : this.options.rtoMs;
    flow.timerOn = true;
    flow.timerAt = (clock[0] + (ms << Math.min(flow.backoff, LARGEST_BACKOFF))) | 0;
  }
}
