/** What the guest gets of a UDP flow: datagrams that its socket received, many by one system call, straight into receive buffers. */
import { C } from '../counters.js';
import { EAGAIN, EINTR } from '../engine/engine.js';
import {
  BULK,
  DESTINATION,
  DEVICE,
  FD,
  FLAGS,
  FLOW_WORDS,
  MAC_HIGH,
  MAC_LOW,
  PAIR,
  PORTS,
  READABLE,
  RECEIVE_BATCH,
  SOURCE,
  STATE,
  UDP_OPEN,
} from '../flow.js';
import { OUTPUT_BLOCKED, OUTPUT_DONE, OUTPUT_MORE, OUTPUT_NO_SINK } from '../flowProtocol.js';
import { setU16, setU32 } from '../wire/bytes.js';
import { pseudoHeaderSum, sum16 } from '../wire/checksum.js';
import { ETHERNET_HEADER, ETHERTYPE_IPV4 } from '../wire/ethernet.js';
import { IPV4_HEADER, PROTOCOL_UDP, writeIpv4 } from '../wire/ipv4.js';
import { UDP_HEADER, writeUdp } from '../wire/udp.js';
import type { Flows } from './flows.js';
import type { FrameSink, GuestLink } from './guestLink.js';
import { FIRST_RECEIVE_BATCH, type UdpFlows } from './udpFlows.js';

const UDP_OFFSET = ETHERNET_HEADER + IPV4_HEADER;
/** Bytes before a datagram's payload. */
const HEADERS = UDP_OFFSET + UDP_HEADER;
/** Where UDP's checksum lies in its header. */
const CHECKSUM_OFFSET = 6;
const MAX_BATCH = 32;
/** Bytes that a flow sends in one turn, and what a datagram counts besides its own. */
const QUANTUM = 65_536;
const OVERHEAD = 512;

export class UdpOutput {
  private readonly flows: Flows;
  private ipId = 0;

  constructor(private readonly udp: UdpFlows) {
    this.flows = udp.flows;
  }

  run(flow: number): number {
    const { records: r, host } = this.flows;
    const f = flow * FLOW_WORDS;
    if (r[f + STATE] !== UDP_OPEN) return OUTPUT_DONE;
    const link = host.link(r[f + DEVICE]!);
    const sink = link.sink(r[f + PAIR]!);
    if (sink === undefined) return OUTPUT_NO_SINK;
    let left = QUANTUM;
    while ((r[f + FLAGS]! & READABLE) !== 0) {
      if (left <= 0) {
        r[f + FLAGS]! |= BULK;
        return OUTPUT_MORE;
      }
      const moved = this.receive(flow, link, sink);
      if (moved < 0) return OUTPUT_BLOCKED;
      left -= moved;
    }
    r[f + FLAGS]! &= ~BULK;
    return OUTPUT_DONE;
  }

  /** Receives as many datagrams as one call gives. What they count in the flow's turn; -1: there are no buffers. */
  private receive(flow: number, link: GuestLink, sink: FrameSink): number {
    const { records: r, engine } = this.flows;
    const f = flow * FLOW_WORDS;
    const { batch } = sink;
    const most = link.mtu - IPV4_HEADER - UDP_HEADER;
    const wanted = r[f + RECEIVE_BATCH]!;
    const frames = batch.reserve(wanted, HEADERS, most);
    if (frames === 0) return this.receiveOne(flow, link, sink, most);
    const count = engine.receiveDatagrams(r[f + FD]!, batch.messages, frames, batch.data);
    if (count < frames) this.emptied(f, count);
    if (count <= 0) return OVERHEAD;
    r[f + RECEIVE_BATCH] =
      count === wanted ? Math.min(MAX_BATCH, 2 * wanted) : Math.max(FIRST_RECEIVE_BATCH, count + 1);
    this.udp.answered(flow);
    let bytes = 0;
    for (let n = 0; n < count; n++) {
      const length = batch.length(n);
      if (length > most) this.flows.counters[C.datagramsTooLong]!++;
      else {
        batch.place(n, length);
        this.writeHeaders(flow, batch.header, batch.headerOffset, length);
        const partial = this.finishChecksum(
          flow,
          link,
          batch.header,
          batch.headerOffset,
          length,
          batch.payloadTriple,
          1,
        );
        batch.commit(length, partial ? UDP_OFFSET : 0, partial ? CHECKSUM_OFFSET : 0);
        this.count(length);
      }
      bytes += OVERHEAD + length;
    }
    return bytes;
  }

  /** Receives one datagram into buffers of any kind. */
  private receiveOne(flow: number, link: GuestLink, sink: FrameSink, most: number): number {
    const { records: r, engine } = this.flows;
    const f = flow * FLOW_WORDS;
    if (sink.reserve(HEADERS + most, HEADERS + most) === 0) return -1;
    sink.payload(HEADERS, most);
    const length = engine.receiveDatagram(r[f + FD]!, sink.payloadFirst, sink.payloadCount);
    if (length < 0) {
      this.emptied(f, length);
      return OVERHEAD;
    }
    this.udp.answered(flow);
    if (length > most) {
      this.flows.counters[C.datagramsTooLong]!++;
      return OVERHEAD;
    }
    sink.trim(length);
    this.writeHeaders(flow, sink.header, sink.headerOffset, length);
    const { header, headerOffset, payloadFirst, payloadCount } = sink;
    const partial = this.finishChecksum(flow, link, header, headerOffset, length, payloadFirst, payloadCount);
    sink.commit(HEADERS + length, HEADERS, partial ? UDP_OFFSET : 0, partial ? CHECKSUM_OFFSET : 0, 0, 0);
    this.count(length);
    return OVERHEAD + length;
  }

  /** A call gave less than it could, or -errno: what comes later is told anew. Errors of sent datagrams only go before. */
  private emptied(f: number, result: number): void {
    if (result >= 0 || result === -EAGAIN || result === -EINTR) this.flows.records[f + FLAGS]! &= ~READABLE;
  }

  private count(length: number): void {
    const { counters } = this.flows;
    counters[C.framesToGuest]!++;
    counters[C.datagramsToGuest]!++;
    counters[C.bytesToGuest]! += length;
  }

  private writeHeaders(flow: number, h: Uint8Array, o: number, length: number): void {
    const { records: r, settings } = this.flows;
    const f = flow * FLOW_WORDS;
    const mac = settings.addresses.gatewayMac;
    setU16(h, o, r[f + MAC_HIGH]!);
    setU32(h, o + 2, r[f + MAC_LOW]!);
    for (let i = 0; i < 6; i++) h[o + 6 + i] = mac[i]!;
    setU16(h, o + 12, ETHERTYPE_IPV4);
    this.ipId = (this.ipId + 1) & 0xffff;
    const total = IPV4_HEADER + UDP_HEADER + length;
    writeIpv4(h, o + ETHERNET_HEADER, total, this.ipId, PROTOCOL_UDP, r[f + DESTINATION]!, r[f + SOURCE]!);
    const ports = r[f + PORTS]!;
    writeUdp(h, o + UDP_OFFSET, ports & 0xffff, ports >>> 16, UDP_HEADER + length);
  }

  /** Fills in the checksum, or leaves it to the guest: then it returns true. The payload lies in `count` triples from `first`. */
  private finishChecksum(
    flow: number,
    link: GuestLink,
    h: Uint8Array,
    o: number,
    length: number,
    first: number,
    count: number,
  ): boolean {
    const { records: r, engine } = this.flows;
    const f = flow * FLOW_WORDS;
    const udp = o + UDP_OFFSET;
    let sum = pseudoHeaderSum(r[f + DESTINATION]!, r[f + SOURCE]!, PROTOCOL_UDP, UDP_HEADER + length);
    if (!link.partialChecksum) {
      sum = sum16(h, udp, UDP_HEADER, sum);
      if (length > 0) sum = engine.checksum(first, count, sum);
      // 0 would say that there is no checksum (RFC 768).
      sum = ~sum & 0xffff || 0xffff;
    }
    setU16(h, udp + CHECKSUM_OFFSET, sum);
    return link.partialChecksum;
  }
}
