/**
 * What the guest gets of a flow: SYN-ACK, data, FIN, acknowledgments, resets. Everything follows from the record, so it
 * can be tried again at any time: when buffers come, when the window opens, after a loss.
 */
import { C } from '../counters.js';
import { EAGAIN, EINTR } from '../engine/engine.js';
import {
  ACK_LATER,
  ACK_NOW,
  BULK,
  CONNECTING,
  DESTINATION,
  DEVICE,
  END_OF_STREAM,
  ESTABLISHED,
  FD,
  FIN_SENT,
  FLAGS,
  FLOW_WORDS,
  FREE,
  HELD_FIRST,
  ISS,
  LAST_ACTIVE,
  LOOPBACK,
  MAC_HIGH,
  MAC_LOW,
  MSS,
  PAIR,
  PEER_FINISHED,
  PORTS,
  RCV_ADV,
  RCV_NXT,
  READABLE,
  RETRIES,
  SEND_SPACE,
  SND_MAX,
  SND_NXT,
  SND_UNA,
  SND_WND,
  SND_WND_SHIFT,
  SOURCE,
  STATE,
  SYN_RECEIVED,
} from '../flow.js';
import { OUTPUT_BLOCKED, OUTPUT_DONE, OUTPUT_MORE, OUTPUT_NO_SINK } from '../flowProtocol.js';
import { setU16, setU32 } from '../wire/bytes.js';
import { pseudoHeaderSum, sum16 } from '../wire/checksum.js';
import { ETHERNET_HEADER, ETHERTYPE_IPV4 } from '../wire/ethernet.js';
import { IPV4_HEADER, PROTOCOL_TCP, writeIpv4 } from '../wire/ipv4.js';
import {
  TCP_ACK,
  TCP_FIN,
  TCP_HEADER,
  TCP_PSH,
  TCP_RST,
  TCP_SYN,
  seqGt,
  writeSynOptions,
  writeTcp,
} from '../wire/tcp.js';
import type { FrameSink, GuestLink } from './guestLink.js';
import type { SocketReads } from './socketReads.js';
import type { TcpFlows } from './tcpFlows.js';

/** Bytes before a segment's payload. */
const HEADERS = ETHERNET_HEADER + IPV4_HEADER + TCP_HEADER;
const TCP_OFFSET = ETHERNET_HEADER + IPV4_HEADER;
/** Where TCP's checksum lies in its header. */
const CHECKSUM_OFFSET = 16;
/** The longest payload of a segment that the guest cuts up itself (GSO). */
const MAX_GSO_PAYLOAD = 65_535 - IPV4_HEADER - TCP_HEADER;
const GSO_TCPV4 = 1;
/** Our window scale: windows up to 8 MiB. */
const RCV_WND_SHIFT = 7;
const MAX_WINDOW = 4 << 20;
/** To the host itself less does. Buffers of sockets that don't pace grow unlike each other beyond: streams would get unlike shares. */
const LOOPBACK_WINDOW = 2 << 20;
/** The window is never shown smaller than this while the socket takes all: a socket that is full says so when it refuses. */
const MIN_WINDOW = 65_535;
/** Bytes that a flow sends in one turn. */
const QUANTUM = MAX_GSO_PAYLOAD;
/** Bytes to the guest after which a flow counts as bulk. */
const BULK_BYTES = 256 << 10;

export class TcpOutput {
  private readonly records: Int32Array;
  private ipId = 0;

  constructor(
    private readonly flows: TcpFlows,
    private readonly reads: SocketReads,
  ) {
    this.records = flows.records;
  }

  /** Gives one flow its turn. */
  run(flow: number): number {
    const { records: r } = this;
    const f = flow * FLOW_WORDS;
    const state = r[f + STATE]!;
    if (state === FREE || state === CONNECTING) return OUTPUT_DONE;
    const link = this.flows.host.link(r[f + DEVICE]!);
    const sink = link.sink(r[f + PAIR]!);
    if (sink === undefined) return OUTPUT_NO_SINK;
    let result = OUTPUT_DONE;
    if (state === SYN_RECEIVED) {
      if (r[f + SND_NXT] === r[f + ISS] && !this.sendSynAck(flow, link, sink)) return OUTPUT_BLOCKED;
    } else if (state === ESTABLISHED) {
      result = this.sendData(flow, link, sink);
      if (r[f + STATE] !== ESTABLISHED) return OUTPUT_DONE;
      if (result === OUTPUT_DONE && !this.sendFin(flow, link, sink)) return OUTPUT_BLOCKED;
    }
    if ((r[f + FLAGS]! & ACK_NOW) === 0 || result === OUTPUT_BLOCKED) return result;
    return this.control(flow, link, sink, r[f + SND_NXT]!, TCP_ACK, 0) ? result : OUTPUT_BLOCKED;
  }

  /** Sends what the socket has, as far as the guest's window goes. */
  private sendData(flow: number, link: GuestLink, sink: FrameSink): number {
    const { records: r } = this;
    const f = flow * FLOW_WORDS;
    const most = link.segmentation ? MAX_GSO_PAYLOAD : r[f + MSS]!;
    let left = QUANTUM;
    while ((r[f + FLAGS]! & (READABLE | END_OF_STREAM)) === READABLE) {
      if (left <= 0) return OUTPUT_MORE;
      const inFlight = (r[f + SND_NXT]! - r[f + SND_UNA]!) | 0;
      const window = r[f + SND_WND]! - inFlight;
      // Silly windows are waited out while an acknowledgment must come (RFC 9293 §3.8.6.2.1).
      if (window <= 0 || (window < r[f + MSS]! && inFlight > 0)) {
        if (inFlight === 0) this.flows.armRetransmission(flow, r[f + RETRIES]!);
        break;
      }
      const room = sink.reserve(HEADERS + 1, HEADERS + Math.min(window, most)) - HEADERS;
      if (room <= 0) return OUTPUT_BLOCKED;
      sink.payload(HEADERS, room);
      const bytes = this.reads.peek(flow, sink, inFlight);
      if (bytes < 0 && bytes !== -EAGAIN && bytes !== -EINTR) {
        this.fail(flow);
        return OUTPUT_DONE;
      }
      if (bytes <= 0) {
        if (bytes === 0) r[f + FLAGS]! |= END_OF_STREAM;
        else r[f + FLAGS]! &= ~READABLE;
        break;
      }
      // A short read emptied the socket; what comes later is told anew. A peer that finished must be read to the end.
      if (bytes < room && (r[f + FLAGS]! & PEER_FINISHED) === 0) r[f + FLAGS]! &= ~READABLE;
      this.sendSegment(flow, link, sink, bytes);
      left -= bytes;
    }
    this.reads.drop(flow);
    return OUTPUT_DONE;
  }

  private sendSegment(flow: number, link: GuestLink, sink: FrameSink, bytes: number): void {
    const { records: r, flows } = this;
    const f = flow * FLOW_WORDS;
    if (r[f + SND_NXT] !== r[f + SND_MAX]) flows.counters[C.retransmissions]!++;
    const gso = bytes > r[f + MSS]! ? GSO_TCPV4 : 0;
    this.writeHeaders(flow, sink, r[f + SND_NXT]!, TCP_ACK | TCP_PSH, TCP_HEADER, bytes);
    this.finishFrame(flow, link, sink, HEADERS, bytes, gso);
    const wasIdle = r[f + SND_NXT] === r[f + SND_UNA];
    this.advance(f, bytes);
    if (wasIdle) flows.armRetransmission(flow, r[f + RETRIES]!);
    flows.counters[C.bytesToGuest]! += bytes;
    if ((r[f + FLAGS]! & BULK) === 0 && ((r[f + SND_NXT]! - r[f + ISS]!) | 0) > BULK_BYTES) this.reads.expectBulk(flow);
  }

  private sendSynAck(flow: number, link: GuestLink, sink: FrameSink): boolean {
    const f = flow * FLOW_WORDS;
    if (!this.control(flow, link, sink, this.records[f + ISS]!, TCP_SYN | TCP_ACK, link.mtu)) return false;
    this.advance(f, 1);
    this.flows.armRetransmission(flow, this.records[f + RETRIES]!);
    return true;
  }

  /** Sends our FIN once all bytes before it are sent. False when there is no buffer. */
  private sendFin(flow: number, link: GuestLink, sink: FrameSink): boolean {
    const { records: r } = this;
    const f = flow * FLOW_WORDS;
    const flags = r[f + FLAGS]!;
    if ((flags & END_OF_STREAM) === 0) return true;
    const sent = (flags & FIN_SENT) !== 0;
    if (sent && r[f + SND_NXT] === r[f + SND_MAX]) return true;
    if (!this.control(flow, link, sink, r[f + SND_NXT]!, TCP_FIN | TCP_ACK, 0)) return false;
    const wasIdle = r[f + SND_NXT] === r[f + SND_UNA];
    r[f + FLAGS]! |= FIN_SENT;
    this.advance(f, 1);
    if (wasIdle) this.flows.armRetransmission(flow, r[f + RETRIES]!);
    return true;
  }

  private advance(f: number, bytes: number): void {
    const { records: r } = this;
    r[f + SND_NXT] = (r[f + SND_NXT]! + bytes) | 0;
    if (seqGt(r[f + SND_NXT]!, r[f + SND_MAX]!)) r[f + SND_MAX] = r[f + SND_NXT]!;
  }

  /** Sends a segment without payload. `synMtu` not 0: with a SYN's options. False when there is no buffer. */
  private control(
    flow: number,
    link: GuestLink,
    sink: FrameSink,
    sequence: number,
    flags: number,
    synMtu: number,
  ): boolean {
    const f = flow * FLOW_WORDS;
    if (sink.reserve(HEADERS + 12, HEADERS + 12) === 0) return false;
    let headerLength = TCP_HEADER;
    if (synMtu !== 0) {
      const shift = this.records[f + SND_WND_SHIFT]! < 0 ? -1 : RCV_WND_SHIFT;
      const mss = synMtu - IPV4_HEADER - TCP_HEADER;
      headerLength += writeSynOptions(sink.header, sink.headerOffset + HEADERS, mss, shift);
    }
    this.writeHeaders(flow, sink, sequence, flags, headerLength, 0);
    this.finishFrame(flow, link, sink, TCP_OFFSET + headerLength, 0, 0);
    return true;
  }

  /** Acknowledges at once, outside the flow's turn. If there is no buffer the guest will ask again. */
  acknowledgeNow(flow: number): void {
    const f = flow * FLOW_WORDS;
    const link = this.flows.host.link(this.records[f + DEVICE]!);
    const sink = link.sink(this.records[f + PAIR]!);
    if (sink !== undefined) this.control(flow, link, sink, this.records[f + SND_NXT]!, TCP_ACK, 0);
  }

  /** A probe of a closed window, or of a guest that may have gone: an old sequence number, which it must answer (RFC 9293 §3.8.4). */
  probe(flow: number): void {
    const f = flow * FLOW_WORDS;
    const link = this.flows.host.link(this.records[f + DEVICE]!);
    const sink = link.sink(this.records[f + PAIR]!);
    if (sink === undefined) return;
    this.flows.counters[C.windowProbes]!++;
    this.control(flow, link, sink, (this.records[f + SND_UNA]! - 1) | 0, TCP_ACK, 0);
  }

  /** Ends the flow with a RST for both sides. */
  fail(flow: number): void {
    this.resetGuest(flow);
    this.flows.close(flow, true);
  }

  /** Sends the guest a RST. It is lost if there is no buffer: the guest's next segment is answered by one then. */
  resetGuest(flow: number): void {
    const { records: r } = this;
    const f = flow * FLOW_WORDS;
    const link = this.flows.host.link(r[f + DEVICE]!);
    const sink = link.sink(r[f + PAIR]!);
    if (sink === undefined) return;
    this.flows.counters[C.resetsSent]!++;
    const sequence = r[f + STATE] === CONNECTING ? 0 : r[f + SND_NXT]!;
    this.control(flow, link, sink, sequence, TCP_RST | TCP_ACK, 0);
  }

  private writeHeaders(
    flow: number,
    sink: FrameSink,
    sequence: number,
    flags: number,
    headerLength: number,
    payload: number,
  ): void {
    const { records: r } = this;
    const f = flow * FLOW_WORDS;
    const h = sink.header;
    const o = sink.headerOffset;
    const mac = this.flows.settings.addresses.gatewayMac;
    setU16(h, o, r[f + MAC_HIGH]!);
    setU32(h, o + 2, r[f + MAC_LOW]!);
    for (let i = 0; i < 6; i++) h[o + 6 + i] = mac[i]!;
    setU16(h, o + 12, ETHERTYPE_IPV4);
    const length = IPV4_HEADER + headerLength + payload;
    this.ipId = (this.ipId + 1) & 0xffff;
    writeIpv4(h, o + ETHERNET_HEADER, length, this.ipId, PROTOCOL_TCP, r[f + DESTINATION]!, r[f + SOURCE]!);
    const window = this.window(flow);
    const shift = r[f + SND_WND_SHIFT]! < 0 || (flags & TCP_SYN) !== 0 ? 0 : RCV_WND_SHIFT;
    const shown = Math.min(window >>> shift, 0xffff);
    r[f + RCV_ADV] = (r[f + RCV_NXT]! + (shown << shift)) | 0;
    const ports = r[f + PORTS]!;
    writeTcp(h, o + TCP_OFFSET, ports & 0xffff, ports >>> 16, sequence, r[f + RCV_NXT]!, headerLength, flags, shown);
    r[f + FLAGS]! &= ~(ACK_NOW | ACK_LATER);
    r[f + LAST_ACTIVE] = this.flows.now;
  }

  /** Fills in TCP's checksum, or leaves it to the guest, and commits the frame. */
  private finishFrame(
    flow: number,
    link: GuestLink,
    sink: FrameSink,
    headers: number,
    payload: number,
    gso: number,
  ): void {
    const { records: r } = this;
    const f = flow * FLOW_WORDS;
    const h = sink.header;
    const tcp = sink.headerOffset + TCP_OFFSET;
    const length = headers - TCP_OFFSET + payload;
    let sum = pseudoHeaderSum(r[f + DESTINATION]!, r[f + SOURCE]!, PROTOCOL_TCP, length);
    this.flows.counters[C.framesToGuest]!++;
    if (link.partialChecksum) {
      setU16(h, tcp + CHECKSUM_OFFSET, sum);
      sink.commit(headers + payload, headers, TCP_OFFSET, CHECKSUM_OFFSET, gso, gso === 0 ? 0 : r[f + MSS]!);
      return;
    }
    sum = sum16(h, tcp, headers - TCP_OFFSET, sum);
    if (payload > 0) {
      sink.trim(payload);
      sum = this.flows.engine.checksum(sink.payloadFirst, sink.payloadCount, sum);
    }
    setU16(h, tcp + CHECKSUM_OFFSET, ~sum & 0xffff);
    sink.commit(headers + payload, headers, 0, 0, 0, 0);
  }

  /**
   * The window to show: what the socket takes, never less than was shown (RFC 9293 §3.8.6.2.2). While chains are held
   * its right edge stands still.
   */
  private window(flow: number): number {
    const { records: r, flows } = this;
    const f = flow * FLOW_WORDS;
    const shown = Math.max(0, (r[f + RCV_ADV]! - r[f + RCV_NXT]!) | 0);
    if (r[f + HELD_FIRST]! >= 0) return shown;
    if (r[f + SEND_SPACE]! < MIN_WINDOW / 2) {
      const space = flows.engine.sendSpace(r[f + FD]!);
      const most = (r[f + FLAGS]! & LOOPBACK) === 0 ? MAX_WINDOW : LOOPBACK_WINDOW;
      r[f + SEND_SPACE] = Math.max(MIN_WINDOW, Math.min(space, most));
    }
    return Math.max(shown, r[f + SEND_SPACE]!);
  }
}
