/**
 * The client's TCP: what a Linux guest's does as far as the loads need it. Go-back-N without SACK, CUBIC, window
 * scaling, one acknowledgement for each batch; a receiver that takes segments in order only.
 */
import type { DeviceDescription } from './device.js';
import { FlowState } from './flow.js';
import type { Failure, Flow } from './flow.js';
import type { FrameReader } from './frameReader.js';
import type { FrameWriter } from './frameWriter.js';
import type { MappedMemory } from './guestMemory.js';
import type { NetworkState } from './network.js';
import type { Packet, QueuePair } from './queuePair.js';
import { clock } from './scratch.js';
import { Counter } from './statistics.js';
import { ACK, FIN, IP_HEADER, PSH, RST, SYN, TCP_HEADER } from './wire.js';

export interface TcpOptions {
  /** Least time to retransmission, ms. */
  readonly rtoMs: number;
  /** Until an operation that waits for an answer is given up, ms. */
  readonly timeoutMs: number;
  /** Most that a flow has in flight, bytes: Linux' is bound by its send buffer, 4 MiB (tcp(7), tcp_wmem). */
  readonly sendBufferBytes: number;
}

const LOWEST_PORT = 2_048;
const HIGHEST_PORT = 65_000;
/** First retransmission of a SYN (RFC 6298 §2.1). */
const SYN_RTO_MS = 1_000;
const LARGEST_BACKOFF = 6;
const DUPLICATES_FOR_RETRANSMIT = 3;
/** Timers are looked at this often. */
export const TIMER_GRAIN_MS = 10;
/** Flows served for each queue pair in one turn. */
const SEND_BUDGET = 64;
const MAX_ACKS_OWED = 3;
const LARGEST_DATAGRAM = 65_535;

const Sent = { DONE: 0, MORE: 1, FULL: 2 } as const;

export class TcpStack {
  private readonly byPort: (Flow | undefined)[] = Array.from({ length: 65_536 }, () => undefined);
  private readonly heads: (Flow | undefined)[];
  private readonly tails: (Flow | undefined)[];
  private readonly largeSegments: boolean;
  private readonly threads: number;
  private nextPort: number;
  private nextScan = 0;

  /**
   * @param flows the thread's flows; their indices are those of this array
   * @param thread local ports that are this number modulo the device's threads are this thread's
   */
  constructor(
    private readonly memory: MappedMemory,
    device: DeviceDescription,
    private readonly pairs: readonly QueuePair[],
    private readonly flows: readonly Flow[],
    private readonly network: NetworkState,
    private readonly writer: FrameWriter,
    private readonly reader: FrameReader,
    private readonly statistics: Float64Array,
    private readonly options: TcpOptions,
    thread: number,
  ) {
    this.heads = pairs.map(() => undefined);
    this.tails = pairs.map(() => undefined);
    this.largeSegments = device.offloads.hostTso4;
    this.threads = device.threads;
    this.nextPort = Math.ceil(LOWEST_PORT / this.threads) * this.threads + thread;
  }

  // -- for handlers --------------------------------------------------------------------------------------------------

  /** Begins a connection. The flow must be closed. Without a free port it fails at once, as an operation given up. */
  open(flow: Flow, remoteAddress: number, remotePort: number): void {
    flow.openedAt = clock[1];
    flow.startedAt = clock[1];
    flow.localPort = this.takePort(flow);
    if (flow.localPort === 0) return this.fail(flow, 'timeout');
    flow.state = FlowState.SYN_SENT;
    flow.remoteAddress = remoteAddress;
    flow.remotePort = remotePort;
    flow.iss = (Math.imul(clock[1], 0x9e3779b1) ^ (flow.localPort << 16)) | 0;
    flow.sndUna = flow.sndNxt = flow.sndMax = flow.sndEnd = 0;
    flow.sndWnd = flow.sndWndShift = 0;
    flow.mss = this.ownMss();
    flow.dupAcks = flow.recover = flow.backoff = flow.acksOwed = 0;
    flow.probe = flow.finWanted = flow.finSent = flow.finReceived = flow.ackDue = false;
    flow.received = flow.inspected = flow.expected = 0;
    flow.timerOn = false;
    this.want(flow);
  }

  /** Gives the stream `bytes` more bytes to send. */
  write(flow: Flow, bytes: number): void {
    flow.sndEnd += bytes;
    this.want(flow);
  }

  /** Sends a FIN behind what there is to send. */
  close(flow: Flow): void {
    flow.finWanted = true;
    this.want(flow);
  }

  /** Sends a RST and forgets the connection, without telling the handler. */
  abort(flow: Flow): void {
    if (flow.state === FlowState.CLOSED) return;
    this.emit(flow, RST | ACK, flow.sndNxt, 0);
    this.forget(flow);
  }

  /** Arms or, without `on`, disarms the time limit of the present operation. */
  limit(flow: Flow, on: boolean): void {
    flow.limitOn = on;
    flow.limitAt = (clock[0] + this.options.timeoutMs) | 0;
  }

  // -- input ---------------------------------------------------------------------------------------------------------

  /** Handles the TCP segment that `reader` has just read; `pair` is the one that it came in on, or -1 for another thread's. */
  input(packet: Packet, pair: number): void {
    const { reader } = this;
    const flow = this.byPort[reader.destinationPort];
    if (
      flow === undefined ||
      flow.remotePort !== reader.sourcePort ||
      flow.remoteAddress !== reader.sourceAddress ||
      flow.state === FlowState.CLOSED
    ) {
      this.statistics[Counter.stray]++;
      if ((reader.flags & RST) === 0) this.reject(Math.max(pair, 0));
      return;
    }
    if (pair !== flow.pair) this.statistics[Counter.cross]++;
    if (reader.large) this.statistics[Counter.largeReceived]++;
    if ((reader.flags & RST) !== 0) return this.resetReceived(flow);
    if ((reader.flags & ACK) === 0) return;
    if (flow.state === FlowState.SYN_SENT) return this.synAnswered(flow);
    if ((reader.flags & SYN) !== 0) {
      // A SYN ACK again: our acknowledgement was lost (RFC 9293 §3.10.7.4)
      flow.ackDue = true;
      return this.want(flow);
    }
    this.acknowledged(flow);
    if (reader.payloadLength > 0 || (reader.flags & FIN) !== 0) this.receive(flow, packet);
  }

  private resetReceived(flow: Flow): void {
    if (flow.state === FlowState.ESTABLISHED) return this.fail(flow, 'reset');
    if ((this.reader.flags & ACK) !== 0 && this.reader.acknowledgement === this.sequenceOf(flow, 0)) {
      this.fail(flow, 'refused');
    }
  }

  private synAnswered(flow: Flow): void {
    const { reader } = this;
    if ((reader.flags & SYN) === 0 || reader.acknowledgement !== this.sequenceOf(flow, 0)) return;
    this.readSynOptions(flow);
    flow.rcvNxt = (reader.sequence + 1) | 0;
    flow.sndWnd = reader.window;
    flow.state = FlowState.ESTABLISHED;
    flow.backoff = 0;
    flow.timerOn = false;
    // At once and without data, as Linux' connect(2) completes: some back ends drop data that comes with it.
    flow.acksOwed = 1;
    flow.congestion.reset(flow.mss);
    this.statistics[Counter.connects]++;
    this.want(flow);
    flow.handler.established(flow);
  }

  /** MSS and window scale (RFC 9293 §3.2, RFC 7323 §2). */
  private readSynOptions(flow: Flow): void {
    const { u8 } = this.memory;
    const end = this.reader.frame + this.reader.headers;
    let scaled = false;
    for (let at = this.reader.frame + 34 + TCP_HEADER; at < end && u8[at] !== 0;) {
      if (u8[at] === 1) {
        at++;
        continue;
      }
      const length = at + 1 < end ? u8[at + 1] : 0;
      if (length < 2 || at + length > end) break;
      if (u8[at] === 2 && length === 4) flow.mss = Math.min((u8[at + 2] << 8) | u8[at + 3], this.ownMss());
      if (u8[at] === 3 && length === 3) {
        flow.sndWndShift = Math.min(u8[at + 2], 14);
        scaled = true;
      }
      at += length;
    }
    if (!scaled) flow.sndWndShift = 0;
  }

  private acknowledged(flow: Flow): void {
    const { reader } = this;
    const bytes = (reader.acknowledgement - this.sequenceOf(flow, flow.sndUna)) | 0;
    if (bytes < 0 || flow.sndUna + bytes > flow.sndMax) return;
    const window = reader.window * 2 ** flow.sndWndShift;
    if (bytes > 0) {
      flow.congestion.acknowledged(bytes, flow.sndNxt - flow.sndUna, clock[0]);
      this.statistics[Counter.bytesSent] += Math.min(flow.sndUna + bytes, flow.sndEnd) - flow.sndUna;
      flow.sndUna += bytes;
      if (flow.sndNxt < flow.sndUna) flow.sndNxt = flow.sndUna;
      if (flow.sndUna > flow.sndEnd) flow.finSent = true;
      flow.dupAcks = 0;
      flow.backoff = 0;
      if (flow.sndNxt > flow.sndUna) this.armTimer(flow);
      else flow.timerOn = false;
    } else if (
      reader.payloadLength === 0 &&
      (reader.flags & FIN) === 0 &&
      flow.sndNxt > flow.sndUna &&
      window === flow.sndWnd
    ) {
      this.duplicateAcknowledged(flow);
    }
    flow.sndWnd = window;
    if (flow.sndNxt < flow.sndEnd || flow.finWanted) this.want(flow);
  }

  private duplicateAcknowledged(flow: Flow): void {
    flow.dupAcks++;
    if (flow.dupAcks !== DUPLICATES_FOR_RETRANSMIT || flow.sndUna < flow.recover) return;
    this.statistics[Counter.fastRetransmits]++;
    flow.congestion.reduced(flow.sndNxt - flow.sndUna);
    flow.recover = flow.sndMax;
    this.goBack(flow);
  }

  private receive(flow: Flow, packet: Packet): void {
    const { reader, statistics } = this;
    const ahead = (reader.sequence - flow.rcvNxt) | 0;
    const fin = (reader.flags & FIN) !== 0;
    flow.ackDue = true;
    this.want(flow);
    if (ahead > 0) {
      statistics[Counter.outOfOrder]++;
      flow.acksOwed = Math.min(flow.acksOwed + 1, MAX_ACKS_OWED);
      return;
    }
    const skip = -ahead;
    if (skip >= reader.payloadLength + (fin ? 1 : 0)) {
      statistics[Counter.duplicates]++;
      return;
    }
    const fresh = reader.payloadLength - skip;
    if (fresh > 0) {
      if (flow.handler.inspects) this.inspect(flow, packet, reader.headers + skip, fresh);
      flow.rcvNxt = (flow.rcvNxt + fresh) | 0;
      flow.received += fresh;
      statistics[Counter.bytesReceived] += fresh;
    }
    if (fin) {
      flow.rcvNxt = (flow.rcvNxt + 1) | 0;
      flow.finReceived = true;
    }
    if (fresh > 0) flow.handler.received(flow);
    if (fin && flow.state === FlowState.ESTABLISHED) flow.handler.peerClosed(flow);
  }

  /** Shows the handler `length` bytes of payload that begin `skip` bytes into the frame. */
  private inspect(flow: Flow, packet: Packet, skip: number, length: number): void {
    let before = skip;
    let left = length;
    for (let n = 0; n < packet.pieces && left > 0; n++) {
      const bytes = Math.min(packet.lengths[n] - before, left);
      if (bytes > 0) flow.handler.data(flow, packet.offsets[n] + before, bytes);
      left -= Math.max(bytes, 0);
      before = Math.max(before - packet.lengths[n], 0);
    }
  }

  /** Answers a segment that is for no connection (RFC 9293 §3.10.7.1). */
  private reject(pair: number): void {
    const { reader } = this;
    const length = reader.payloadLength + ((reader.flags & (SYN | FIN)) === 0 ? 0 : 1);
    this.writer.tcp(
      this.pairs[pair],
      reader.sourceAddress,
      reader.destinationPort,
      reader.sourcePort,
      (reader.flags & ACK) === 0 ? 0 : reader.acknowledgement,
      (reader.sequence + length) | 0,
      RST | ACK,
      0,
      0,
      1,
    );
  }

  // -- output --------------------------------------------------------------------------------------------------------

  /** Sends what flows want to send, in turns. Returns whether some have more. */
  flush(): boolean {
    let more = false;
    for (let pair = 0; pair < this.pairs.length; pair++) {
      for (let served = 0; this.heads[pair] !== undefined && served < SEND_BUDGET; served++) {
        const flow = this.dequeue(pair);
        const sent = this.output(flow);
        if (sent === Sent.MORE) this.want(flow);
        if (sent === Sent.FULL) {
          this.putBack(flow);
          break;
        }
      }
      more ||= this.heads[pair] !== undefined && !this.pairs[pair].blocked;
    }
    // After all lists: a flow that changed its pair has sent on another than its list's.
    for (let pair = 0; pair < this.pairs.length; pair++) this.pairs[pair].flush();
    return more;
  }

  /** Sends at most one segment of data, and whatever is due beside. */
  private output(flow: Flow): number {
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
      this.forget(flow);
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

  private emit(flow: Flow, flags: number, position: number, length: number): boolean {
    const pair = this.pairs[flow.pair];
    const acknowledgement = (flags & ACK) === 0 ? 0 : flow.rcvNxt;
    const sent = this.writer.tcp(
      pair,
      flow.remoteAddress,
      flow.localPort,
      flow.remotePort,
      this.sequenceOf(flow, position),
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

  /** The sequence number of a position; the SYN's is -1. */
  private sequenceOf(flow: Flow, position: number): number {
    return (flow.iss + 1 + position) | 0;
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

  // -- timers --------------------------------------------------------------------------------------------------------

  /** Runs out timers; looks at them every `TIMER_GRAIN_MS`. Returns the time until the next look, ms. */
  timers(): number {
    const now = clock[0];
    const left = (this.nextScan - now) | 0;
    if (left > 0 && left <= TIMER_GRAIN_MS) return left;
    this.nextScan = (now + TIMER_GRAIN_MS) | 0;
    for (let n = 0; n < this.flows.length; n++) {
      const flow = this.flows[n];
      if (flow.limitOn && ((now - flow.limitAt) | 0) >= 0) this.giveUp(flow);
      else if (flow.timerOn && ((now - flow.timerAt) | 0) >= 0) this.timerRanOut(flow);
    }
    return TIMER_GRAIN_MS;
  }

  private giveUp(flow: Flow): void {
    if (flow.state !== FlowState.CLOSED) this.emit(flow, RST | ACK, flow.sndNxt, 0);
    this.fail(flow, 'timeout');
  }

  private timerRanOut(flow: Flow): void {
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

  private goBack(flow: Flow): void {
    flow.sndNxt = flow.sndUna;
    flow.finSent = flow.sndUna > flow.sndEnd;
    flow.dupAcks = 0;
    this.want(flow);
  }

  private armTimer(flow: Flow): void {
    const ms = flow.state === FlowState.SYN_SENT ? SYN_RTO_MS : this.options.rtoMs;
    flow.timerOn = true;
    flow.timerAt = (clock[0] + (ms << Math.min(flow.backoff, LARGEST_BACKOFF))) | 0;
  }

  // -- the table and the lists ---------------------------------------------------------------------------------------

  private fail(flow: Flow, failure: Failure): void {
    this.forget(flow);
    flow.handler.failed(flow, failure);
  }

  private forget(flow: Flow): void {
    if (this.byPort[flow.localPort] === flow) this.byPort[flow.localPort] = undefined;
    flow.state = FlowState.CLOSED;
    flow.timerOn = false;
    flow.limitOn = false;
  }

  /** The next free port of this thread, so that each rests as long as possible; 0 if there is none. */
  private takePort(flow: Flow): number {
    for (let tries = 0; tries < HIGHEST_PORT; tries += this.threads) {
      const port = this.nextPort;
      this.nextPort += this.threads;
      if (this.nextPort > HIGHEST_PORT)
        this.nextPort -= Math.floor((HIGHEST_PORT - LOWEST_PORT) / this.threads) * this.threads;
      if (this.byPort[port] === undefined) {
        this.byPort[port] = flow;
        return port;
      }
    }
    return 0;
  }

  private ownMss(): number {
    return this.network.mtu - IP_HEADER - TCP_HEADER;
  }

  /** Puts the flow into its pair's list of those that want to send. */
  private want(flow: Flow): void {
    if (flow.queued) return;
    const { pair } = flow;
    flow.queued = true;
    flow.next = undefined;
    const tail = this.tails[pair];
    if (tail === undefined) this.heads[pair] = flow;
    else tail.next = flow;
    this.tails[pair] = flow;
  }

  private dequeue(pair: number): Flow {
    const flow = this.heads[pair] as Flow;
    this.heads[pair] = flow.next;
    if (flow.next === undefined) this.tails[pair] = undefined;
    flow.next = undefined;
    flow.queued = false;
    return flow;
  }

  /** Back to the front of the list. A handler may have queued it meanwhile: then it keeps that place. */
  private putBack(flow: Flow): void {
    if (flow.queued) return;
    const { pair } = flow;
    flow.queued = true;
    flow.next = this.heads[pair];
    this.heads[pair] = flow;
    this.tails[pair] ??= flow;
  }
}
