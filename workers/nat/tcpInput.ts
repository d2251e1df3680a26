/**
 * Segments from the guest (RFC 9293 §3.10.7), and what goes on to the socket because of them.
 *
 * The receiver takes bytes in order only: what lies beyond a gap is dropped and asked for again, since a virtio ring
 * reorders nothing. Urgent data is data like any other (RFC 6093 §5).
 */
import { C } from '../counters.js';
import { EAGAIN, EINTR } from '../engine/engine.js';
import {
  CONNECTING,
  DEVICE,
  DUP_ACKS,
  END_OF_STREAM,
  ESTABLISHED,
  FD,
  FIN_HELD,
  FIN_RECEIVED,
  FIN_SENT,
  FLAGS,
  FLOW_WORDS,
  HELD_BYTES,
  HELD_FIRST,
  IRS,
  ISS,
  LAST_ACTIVE,
  MSS,
  PAIR,
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
  STATE,
  STRAY_RUN,
  SYN_RECEIVED,
  TIME_WAIT,
} from '../flow.js';
import { setU16, setU32, u16, u32 } from '../wire/bytes.js';
import { pseudoHeaderSum, sum16 } from '../wire/checksum.js';
import { ETHERNET_HEADER, ETHERTYPE_IPV4 } from '../wire/ethernet.js';
import { IPV4_HEADER, PROTOCOL_TCP, writeIpv4 } from '../wire/ipv4.js';
import {
  SynOptions,
  TCP_ACK,
  TCP_FIN,
  TCP_HEADER,
  TCP_RST,
  TCP_SYN,
  parseSynOptions,
  seqGt,
  seqLt,
  writeTcp,
} from '../wire/tcp.js';
import { egressAddress } from './egress.js';
import { DONE, type FrameSource, HELD, type Origin } from './guestLink.js';
import type { SocketReads } from './socketReads.js';
import type { TcpFlows } from './tcpFlows.js';
import type { TcpOutput } from './tcpOutput.js';

/** The MSS of a peer that names none (RFC 9293 §3.7.1), and the smallest that we send in: less is an attack on our CPU. */
const DEFAULT_MSS = 536;
const LEAST_MSS = 88;
/** Bytes in held chains beyond which a flow's segments are dropped; the window keeps honest guests below. */
const MAX_HELD = 8 << 20;
/** Segments in a row on another queue pair after which a flow with data in flight follows. */
const STEER_RUN = 16;

/** A segment's header, parsed: filled by the worker, read by `segment` and `open`. */
export class Segment {
  source = 0;
  destination = 0;
  ports = 0;
  sequence = 0;
  acknowledgment = 0;
  flags = 0;
  window = 0;
  /** Bytes of the frame before TCP's options, and before the payload. */
  optionsAt = 0;
  payloadAt = 0;
  /** Bytes of payload. */
  length = 0;
}

export class TcpInput {
  private readonly records: Int32Array;
  private readonly synOptions = new SynOptions();
  private readonly resetFrame = new Uint8Array(60);

  constructor(
    private readonly flows: TcpFlows,
    private readonly reads: SocketReads,
    private readonly output: TcpOutput,
  ) {
    this.records = flows.records;
  }

  /** A SYN of a connection that nobody knows. Opens the flow and its socket, or answers with a RST. */
  open(segment: Segment, frame: FrameSource, origin: Origin): void {
    const { flows } = this;
    const address = egressAddress(segment.destination, segment.ports & 0xffff, flows.settings);
    if (address === undefined) {
      flows.counters[C.deniedByPolicy]!++;
      this.refuse(segment, frame, origin);
      return;
    }
    const { source, destination, ports, sequence } = segment;
    const flow = flows.open(frame.bytes, frame.offset, origin.device, source, destination, ports, sequence);
    if (flow < 0) {
      flows.counters[C.shardFull]!++;
      this.refuse(segment, frame, origin);
      return;
    }
    this.takeOptions(flow, segment, frame, origin.pair);
    const error = flows.connect(flow, address);
    if (error === 0) return;
    flows.counters[C.socketFailed]!++;
    this.output.fail(flow);
  }

  private takeOptions(flow: number, segment: Segment, frame: FrameSource, pair: number): void {
    const options = this.synOptions;
    const length = segment.payloadAt - segment.optionsAt;
    parseSynOptions(frame.bytes, frame.offset + segment.optionsAt, length, options);
    const link = this.flows.host.link(this.records[flow * FLOW_WORDS + DEVICE]!);
    const most = Math.max(LEAST_MSS, link.mtu - IPV4_HEADER - TCP_HEADER);
    const mss = Math.max(LEAST_MSS, Math.min(options.mss === 0 ? DEFAULT_MSS : options.mss, most));
    this.flows.setPeer(flow, segment.window, mss, options.windowScale, pair);
  }

  /** A segment of no flow of ours: a RST (RFC 9293 §3.10.7.1), unless it is one itself. */
  refuse(segment: Segment, frame: FrameSource, origin: Origin): void {
    if ((segment.flags & TCP_RST) !== 0) return;
    const { flows } = this;
    const sink = flows.host.link(origin.device).sink(origin.pair);
    if (sink === undefined) return;
    const acked = (segment.flags & TCP_ACK) !== 0;
    const consumed = segment.length + (segment.flags & TCP_SYN ? 1 : 0) + (segment.flags & TCP_FIN ? 1 : 0);
    const out = this.resetFrame;
    setU16(out, 0, u16(frame.bytes, frame.offset + 6));
    setU32(out, 2, u32(frame.bytes, frame.offset + 8));
    for (let i = 0; i < 6; i++) out[6 + i] = flows.settings.addresses.gatewayMac[i]!;
    setU16(out, 12, ETHERTYPE_IPV4);
    const total = IPV4_HEADER + TCP_HEADER;
    writeIpv4(out, ETHERNET_HEADER, total, 0, PROTOCOL_TCP, segment.destination, segment.source);
    const at = ETHERNET_HEADER + IPV4_HEADER;
    const sequence = acked ? segment.acknowledgment : 0;
    const acknowledgment = acked ? 0 : (segment.sequence + consumed) | 0;
    const flags = acked ? TCP_RST : TCP_RST | TCP_ACK;
    const { ports } = segment;
    writeTcp(out, at, ports & 0xffff, ports >>> 16, sequence, acknowledgment, TCP_HEADER, flags, 0);
    const pseudo = pseudoHeaderSum(segment.destination, segment.source, PROTOCOL_TCP, TCP_HEADER);
    setU16(out, at + 16, ~sum16(out, at, TCP_HEADER, pseudo) & 0xffff);
    flows.counters[C.resetsSent]!++;
    sink.copy(out, out.length);
  }

  /** A segment of a flow of ours. Returns DONE, or HELD when the flow keeps the chain. */
  segment(flow: number, segment: Segment, frame: FrameSource, origin: Origin): number {
    const { records: r, flows } = this;
    const f = flow * FLOW_WORDS;
    r[f + LAST_ACTIVE] = flows.now;
    this.steer(f, segment, origin.pair);
    const { flags } = segment;
    if ((flags & TCP_RST) !== 0) {
      this.reset(flow, segment);
      return DONE;
    }
    if ((flags & TCP_SYN) !== 0) {
      this.syn(flow, segment, frame, origin);
      return DONE;
    }
    if ((flags & TCP_ACK) === 0 || r[f + STATE] === CONNECTING) return DONE;
    if (r[f + STATE] === TIME_WAIT) {
      if (segment.length > 0 || (flags & TCP_FIN) !== 0) this.output.acknowledgeNow(flow);
      return DONE;
    }
    if (!this.acknowledgment(flow, segment, frame, origin)) return DONE;
    const result = this.text(flow, segment, frame, origin);
    if (r[f + STATE] === ESTABLISHED && flows.finished(flow)) this.finish(flow);
    return result;
  }

  /**
   * Follows the guest to the queue pair that it sends on (virtio 1.2 §5.1.6.5.6): at once while nothing is in flight, else
   * after a run of segments. A guest that forwards for others (containers, bridges) acknowledges from several vCPUs in
   * turn; what is in flight would overtake itself on its way through the pairs' queues.
   */
  private steer(f: number, segment: Segment, pair: number): void {
    const { records: r } = this;
    const stray = r[f + PAIR] !== pair;
    r[f + STRAY_RUN] = stray ? r[f + STRAY_RUN]! + 1 : 0;
    if (!stray || (segment.acknowledgment !== r[f + SND_MAX] && r[f + STRAY_RUN]! < STEER_RUN)) return;
    r[f + PAIR] = pair;
    r[f + STRAY_RUN] = 0;
  }

  /** In order of RFC 9293 §3.10.7.4 and RFC 5961 §3: exact RSTs end the flow, others in the window are challenged. */
  private reset(flow: number, segment: Segment): void {
    const { records: r, flows } = this;
    const f = flow * FLOW_WORDS;
    flows.counters[C.resetsReceived]!++;
    if (r[f + STATE] === CONNECTING) {
      // Nothing was acknowledged: a RST is good if it acknowledges nothing or the next byte after its SYN.
      if (segment.sequence === r[f + RCV_NXT] || segment.sequence === r[f + IRS]) flows.close(flow, true);
      return;
    }
    const beyond = (segment.sequence - r[f + RCV_NXT]!) | 0;
    if (beyond === 0 || beyond === r[f + HELD_BYTES]) flows.close(flow, r[f + STATE] !== TIME_WAIT);
    else if (beyond > 0 && seqLt(segment.sequence, r[f + RCV_ADV]!)) flows.acknowledge(flow);
  }

  private syn(flow: number, segment: Segment, frame: FrameSource, origin: Origin): void {
    const { records: r, flows } = this;
    const f = flow * FLOW_WORDS;
    const state = r[f + STATE]!;
    const again = segment.sequence === r[f + IRS];
    if (state === CONNECTING || state === SYN_RECEIVED) {
      if (again) {
        // The guest asks again: the first SYN-ACK got lost, or there is none yet.
        if (state === SYN_RECEIVED) {
          r[f + SND_NXT] = r[f + ISS]!;
          flows.list(flow);
        }
        return;
      }
      flows.close(flow, true);
      this.open(segment, frame, origin);
      return;
    }
    const fresh = seqGt(segment.sequence, r[f + RCV_NXT]!);
    if (state === TIME_WAIT && fresh && (segment.flags & TCP_ACK) === 0) {
      flows.close(flow, false);
      this.open(segment, frame, origin);
      return;
    }
    flows.acknowledge(flow); // a challenge (RFC 5961 §4)
  }

  /** ACK field and window. False when the segment goes no further. */
  private acknowledgment(flow: number, segment: Segment, frame: FrameSource, origin: Origin): boolean {
    const { records: r, flows } = this;
    const f = flow * FLOW_WORDS;
    const ack = segment.acknowledgment;
    const una = r[f + SND_UNA]!;
    if (seqGt(ack, r[f + SND_MAX]!)) {
      if (r[f + STATE] === SYN_RECEIVED) this.refuse(segment, frame, origin);
      else flows.acknowledge(flow);
      return false;
    }
    if (r[f + STATE] === SYN_RECEIVED) {
      if (ack !== ((r[f + ISS]! + 1) | 0)) {
        this.refuse(segment, frame, origin);
        return false;
      }
      r[f + STATE] = ESTABLISHED;
      flows.arm(flow, (flows.now + flows.settings.times.established) | 0);
      if ((r[f + FLAGS]! & READABLE) !== 0) flows.list(flow);
    }
    const shift = Math.max(0, r[f + SND_WND_SHIFT]!);
    const window = segment.window << shift;
    const advance = (ack - una) | 0;
    if (advance > 0) this.acknowledged(flow, una, ack);
    else if (advance === 0) this.countDuplicate(flow, segment, window);
    if (advance >= 0) this.setWindow(flow, window);
    return true;
  }

  /** The guest has everything up to `ack`: the socket need not keep it. */
  private acknowledged(flow: number, una: number, ack: number): void {
    const { records: r, flows } = this;
    const f = flow * FLOW_WORDS;
    let bytes = (ack - una) | 0;
    if (una === r[f + ISS]) bytes--;
    if ((r[f + FLAGS]! & FIN_SENT) !== 0 && ack === r[f + SND_MAX]) bytes--;
    if (bytes > 0) this.reads.acknowledged(flow, bytes);
    r[f + SND_UNA] = ack;
    if (seqLt(r[f + SND_NXT]!, ack)) r[f + SND_NXT] = ack;
    r[f + DUP_ACKS] = 0;
    r[f + RETRIES] = 0;
    if (ack !== r[f + SND_MAX]) flows.armRetransmission(flow, 0);
    if ((r[f + FLAGS]! & (READABLE | END_OF_STREAM)) !== 0) flows.list(flow);
  }

  /** The third duplicate in a row says that a segment got lost: everything from there is sent again (RFC 5681 §3.2). */
  private countDuplicate(flow: number, segment: Segment, window: number): void {
    const { records: r } = this;
    const f = flow * FLOW_WORDS;
    const inFlight = r[f + SND_MAX] !== r[f + SND_UNA];
    if (!inFlight || segment.length > 0 || (segment.flags & TCP_FIN) !== 0 || window !== r[f + SND_WND]) return;
    r[f + DUP_ACKS]!++;
    if (r[f + DUP_ACKS] === 3) this.goBack(flow);
  }

  private setWindow(flow: number, window: number): void {
    const { records: r } = this;
    const f = flow * FLOW_WORDS;
    const grew = window > r[f + SND_WND]!;
    r[f + SND_WND] = window;
    if (grew && (r[f + FLAGS]! & READABLE) !== 0) this.flows.list(flow);
  }

  /** Sends again from the first byte that isn't acknowledged. */
  goBack(flow: number): void {
    const { records: r } = this;
    const f = flow * FLOW_WORDS;
    r[f + SND_NXT] = r[f + SND_UNA]!;
    if (r[f + STATE] === ESTABLISHED) {
      r[f + FLAGS]! |= READABLE;
      r[f + FLAGS]! &= ~END_OF_STREAM;
    }
    this.flows.list(flow);
  }

  /** Payload and FIN. */
  private text(flow: number, segment: Segment, frame: FrameSource, origin: Origin): number {
    const { records: r, flows } = this;
    const f = flow * FLOW_WORDS;
    const fin = (segment.flags & TCP_FIN) !== 0;
    if (segment.length === 0 && !fin) {
      // An old sequence number without payload is a keep-alive or a probe: it wants an answer (RFC 9293 §3.8.4).
      if (segment.sequence !== ((r[f + RCV_NXT]! + r[f + HELD_BYTES]!) | 0)) flows.acknowledge(flow);
      return DONE;
    }
    // Where the next new byte belongs: behind what is held.
    const next = (r[f + RCV_NXT]! + r[f + HELD_BYTES]!) | 0;
    const skip = (next - segment.sequence) | 0;
    // Small segments in order are acknowledged with the answer, or the second of them is (RFC 9293 §3.8.6.3).
    if (skip !== 0 || segment.length >= r[f + MSS]! || flows.owesAcknowledgment(flow)) flows.acknowledge(flow);
    else flows.acknowledgeLater(flow);
    if (skip < 0) {
      flows.counters[C.outOfOrderSegments]!++;
      return DONE;
    }
    if ((r[f + FLAGS]! & (FIN_RECEIVED | FIN_HELD)) !== 0 || skip > segment.length) {
      flows.counters[C.duplicateSegments]!++;
      return DONE;
    }
    const length = segment.length - skip;
    let result = DONE;
    if (length > 0) {
      result = this.deliver(flow, frame, origin, segment.payloadAt + skip, length);
      if (result < 0) return DONE;
    } else if (segment.length > 0) flows.counters[C.duplicateSegments]!++;
    if (fin) this.fin(flow);
    return result;
  }

  /** Gives payload to the socket; what it doesn't take is held. DONE, HELD, or -1 when the flow or the bytes were dropped. */
  private deliver(flow: number, frame: FrameSource, origin: Origin, at: number, length: number): number {
    const { records: r, flows } = this;
    const f = flow * FLOW_WORDS;
    let sent = 0;
    if (r[f + HELD_FIRST]! < 0) {
      frame.payload(at, length);
      sent = flows.engine.send(r[f + FD]!, frame.payloadFirst, frame.payloadCount);
      if (sent < 0 && sent !== -EAGAIN && sent !== -EINTR) {
        this.output.fail(flow);
        return -1;
      }
      sent = Math.max(0, sent);
      this.taken(f, sent);
      if (sent === length) return DONE;
    }
    const rest = length - sent;
    if (r[f + HELD_BYTES]! + rest > MAX_HELD) return -1;
    if (!flows.held.append(r, f, origin, at + sent, rest)) return -1;
    flows.counters[C.chainsHeld]!++;
    return HELD;
  }

  private taken(f: number, bytes: number): void {
    const { records: r } = this;
    r[f + RCV_NXT] = (r[f + RCV_NXT]! + bytes) | 0;
    r[f + SEND_SPACE] = r[f + SEND_SPACE]! - bytes;
    this.flows.counters[C.bytesFromGuest]! += bytes;
  }

  /** The guest's FIN goes on to the socket once all before it has. */
  private fin(flow: number): void {
    const { records: r, flows } = this;
    const f = flow * FLOW_WORDS;
    if (r[f + HELD_FIRST]! >= 0) {
      r[f + FLAGS]! |= FIN_HELD;
      return;
    }
    r[f + FLAGS]! &= ~FIN_HELD;
    r[f + FLAGS]! |= FIN_RECEIVED;
    r[f + RCV_NXT] = (r[f + RCV_NXT]! + 1) | 0;
    flows.engine.finish(r[f + FD]!);
    flows.arm(flow, (flows.now + flows.settings.times.transitory) | 0);
  }

  /** The socket takes more: what is held goes to it. `frame` is used to read the chains again; `reread` walks one. */
  drainHeld(flow: number, frame: FrameSource, reread: (origin: Origin) => boolean, origin: Origin): void {
    const { records: r, flows } = this;
    const { held } = flows;
    const f = flow * FLOW_WORDS;
    while (r[f + HELD_FIRST]! >= 0) {
      held.origin(r, f, origin);
      const length = held.length(r, f);
      const skip = held.skip(r, f);
      if (!reread(origin) || frame.length < skip + length) {
        this.output.fail(flow); // the driver took back what it had made available
        return;
      }
      frame.payload(skip, length);
      const sent = flows.engine.send(r[f + FD]!, frame.payloadFirst, frame.payloadCount);
      if (sent < 0) {
        if (sent !== -EAGAIN && sent !== -EINTR) this.output.fail(flow);
        return;
      }
      this.taken(f, sent);
      held.consume(r, f, sent);
      flows.acknowledge(flow);
    }
    r[f + SEND_SPACE] = 0;
    if ((r[f + FLAGS]! & FIN_HELD) !== 0) {
      this.fin(flow);
      if (flows.finished(flow)) this.finish(flow);
    }
  }

  /** Both FINs are acknowledged. Who finished first waits for the other's late segments: the guest by itself, the host's side by us. */
  finish(flow: number): void {
    const { flows } = this;
    const finLast = flows.owesAcknowledgment(flow);
    if (!finLast) {
      flows.close(flow, false);
      return;
    }
    this.output.acknowledgeNow(flow);
    flows.enterTimeWait(flow);
  }
}
