/** Receiving: the handshake's answer, acknowledgements, and data, which is taken in order only; one acknowledgement for each batch. */
import { FlowState, sequenceOf } from './flow.js';
import type { Flow } from './flow.js';
import type { FlowTable } from './flowTable.js';
import type { FrameReader } from './frameReader.js';
import type { FrameWriter } from './frameWriter.js';
import type { MappedMemory } from './guestMemory.js';
import type { NetworkState } from './network.js';
import type { Packet, QueuePair } from './queuePair.js';
import { clock } from './scratch.js';
import { Counter } from './statistics.js';
import type { TcpOutput } from './tcpOutput.js';
import { ACK, FIN, RST, SYN, TCP_HEADER } from './wire.js';

const DUPLICATES_FOR_RETRANSMIT = 3;
const MAX_ACKS_OWED = 3;
/** A smaller MSS than this is taken for this one, as Linux does (tcp_min_snd_mss): the options would leave no room for data. */
const LEAST_MSS = 48;

export class TcpInput {
  constructor(
    private readonly memory: MappedMemory,
    private readonly pairs: readonly QueuePair[],
    private readonly table: FlowTable,
    private readonly network: NetworkState,
    private readonly reader: FrameReader,
    private readonly writer: FrameWriter,
    private readonly output: TcpOutput,
    private readonly statistics: Float64Array,
  ) {}

  /** Handles the TCP segment that `reader` has just read; `pair` is the one that it came in on, or -1 for another thread's. */
  segment(packet: Packet, pair: number): void {
    const { reader } = this;
    const flow = this.table.find(reader.destinationPort);
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
      return this.output.want(flow);
    }
    this.acknowledged(flow);
    if (reader.payloadLength > 0 || (reader.flags & FIN) !== 0) this.receive(flow, packet);
  }

  private resetReceived(flow: Flow): void {
    if (flow.state === FlowState.ESTABLISHED) return this.table.fail(flow, 'reset');
    if ((this.reader.flags & ACK) !== 0 && this.reader.acknowledgement === sequenceOf(flow, 0)) {
      this.table.fail(flow, 'refused');
    }
  }

  private synAnswered(flow: Flow): void {
    const { reader } = this;
    if ((reader.flags & SYN) === 0 || reader.acknowledgement !== sequenceOf(flow, 0)) return;
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
    this.output.want(flow);
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
      if (u8[at] === 2 && length === 4) {
        flow.mss = Math.min(Math.max((u8[at + 2] << 8) | u8[at + 3], LEAST_MSS), this.network.mss);
      }
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
    const bytes = (reader.acknowledgement - sequenceOf(flow, flow.sndUna)) | 0;
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
      if (flow.sndNxt > flow.sndUna) this.output.armTimer(flow);
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
    if (flow.sndNxt < flow.sndEnd || flow.finWanted) this.output.want(flow);
  }

  private duplicateAcknowledged(flow: Flow): void {
    flow.dupAcks++;
    if (flow.dupAcks !== DUPLICATES_FOR_RETRANSMIT || flow.sndUna < flow.recover) return;
    this.statistics[Counter.fastRetransmits]++;
    flow.congestion.reduced(flow.sndNxt - flow.sndUna);
    flow.recover = flow.sndMax;
    this.output.goBack(flow);
  }

  private receive(flow: Flow, packet: Packet): void {
    const { reader, statistics } = this;
    const ahead = (reader.sequence - flow.rcvNxt) | 0;
    const fin = (reader.flags & FIN) !== 0;
    flow.ackDue = true;
    this.output.want(flow);
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
}
