/**
 * ICMP errors to the guest: what the host's sockets learned of the guest's datagrams, and what policy refused. They quote the
 * datagram's IP header and its first 8 bytes (RFC 792), rebuilt: only addresses and ports are known any more.
 */
import { C } from '../counters.js';
import { DESTINATION, DEVICE, FLOW_WORDS, MAC_HIGH, MAC_LOW, PAIR, PORTS, SOURCE } from '../flow.js';
import { setU16, setU32, u16, u32 } from '../wire/bytes.js';
import { ETHERNET_HEADER, ETHERTYPE_IPV4 } from '../wire/ethernet.js';
import {
  ADMINISTRATIVELY_PROHIBITED,
  FRAGMENTATION_NEEDED,
  HOST_UNREACHABLE,
  ICMP_HEADER,
  ICMP_TIME_EXCEEDED,
  ICMP_UNREACHABLE,
  NET_UNREACHABLE,
  PORT_UNREACHABLE,
  PROTOCOL_UNREACHABLE,
  writeIcmpError,
} from '../wire/icmp.js';
import { IPV4_HEADER, PROTOCOL_ICMP, PROTOCOL_UDP, writeIpv4 } from '../wire/ipv4.js';
import { UDP_HEADER, writeUdp } from '../wire/udp.js';
import type { Flows } from './flows.js';
import type { FrameSource, Origin } from './guestLink.js';
import type { FlowTuple } from './sharding.js';

const EPERM = 1;
const EACCES = 13;
const ENETUNREACH = 101;
const EHOSTUNREACH = 113;

const ICMP_AT = ETHERNET_HEADER + IPV4_HEADER;
const QUOTED_AT = ICMP_AT + ICMP_HEADER;
const QUOTED = IPV4_HEADER + UDP_HEADER;
/** Errors in a row; each millisecond allows one more: nobody floods himself (RFC 1812 §4.3.2.8). */
const BURST = 50;

export class IcmpErrors {
  private readonly frame = new Uint8Array(QUOTED_AT + QUOTED);
  private allowance = BURST;
  private refilled: number;

  constructor(private readonly flows: Flows) {
    this.refilled = flows.now;
  }

  /** An ICMP error came for a datagram of the flow's: type << 8 | code. */
  received(flow: number, typeAndCode: number): void {
    const type = typeAndCode >> 8;
    const code = typeAndCode & 0xff;
    // The kernel sends smaller fragments by itself.
    if (type === ICMP_UNREACHABLE ? code === FRAGMENTATION_NEEDED : type !== ICMP_TIME_EXCEEDED) return;
    this.ofFlow(flow, type, code);
  }

  /** The socket refused a datagram of the flow's with `errno`. */
  refused(flow: number, errno: number): void {
    const code = unreachableBy(errno);
    if (code >= 0) this.ofFlow(flow, ICMP_UNREACHABLE, code);
  }

  private ofFlow(flow: number, type: number, code: number): void {
    const { records: r } = this.flows;
    const f = flow * FLOW_WORDS;
    const { frame } = this;
    setU16(frame, 0, r[f + MAC_HIGH]!);
    setU32(frame, 2, r[f + MAC_LOW]!);
    this.send(r[f + SOURCE]!, r[f + DESTINATION]!, r[f + PORTS]!, type, code, r[f + DEVICE]!, r[f + PAIR]!);
  }

  /** A datagram of no flow was refused with `errno`; 0: by policy (RFC 5508 REQ-8). */
  ofDatagram(tuple: FlowTuple, source: FrameSource, origin: Origin, errno: number): void {
    const code = errno === 0 ? ADMINISTRATIVELY_PROHIBITED : unreachableBy(errno);
    if (code < 0) return;
    const { frame } = this;
    setU16(frame, 0, u16(source.bytes, source.offset + 6));
    setU32(frame, 2, u32(source.bytes, source.offset + 8));
    this.send(tuple.source, tuple.destination, tuple.ports, ICMP_UNREACHABLE, code, origin.device, origin.pair);
  }

  /** Sends the frame, whose destination MAC address is there already. */
  private send(
    source: number,
    destination: number,
    ports: number,
    type: number,
    code: number,
    device: number,
    pair: number,
  ): void {
    const { flows, frame } = this;
    const { addresses } = flows.settings;
    // RFC 1122 §3.2.2: not about what went to many, nor to who is no single host.
    const subnetBroadcast = addresses.guest | ~addresses.netmask;
    if (destination >>> 28 >= 14 || destination === subnetBroadcast) return;
    if (source >>> 28 >= 14 || source >>> 24 === 0 || source >>> 24 === 127) return;
    const sink = flows.host.link(device).sink(pair);
    if (sink === undefined || !this.allowed()) return;
    for (let i = 0; i < 6; i++) frame[6 + i] = addresses.gatewayMac[i]!;
    setU16(frame, 12, ETHERTYPE_IPV4);
    writeIpv4(frame, QUOTED_AT, QUOTED, 0, PROTOCOL_UDP, source, destination);
    writeUdp(frame, QUOTED_AT + IPV4_HEADER, ports >>> 16, ports & 0xffff, UDP_HEADER);
    writeIcmpError(frame, ICMP_AT, type, code, QUOTED);
    // The host itself has no such port or protocol; all else is a router's to say.
    const byHost = type === ICMP_UNREACHABLE && (code === PORT_UNREACHABLE || code === PROTOCOL_UNREACHABLE);
    const sender = byHost ? destination : addresses.gateway;
    writeIpv4(frame, ETHERNET_HEADER, frame.length - ETHERNET_HEADER, 0, PROTOCOL_ICMP, sender, source);
    if (!sink.copy(frame, frame.length)) {
      flows.counters[C.receiveBuffersMissing]!++;
      return;
    }
    flows.counters[C.framesToGuest]!++;
    flows.counters[C.icmpErrorsSent]!++;
  }

  private allowed(): boolean {
    const passed = (this.flows.now - this.refilled) | 0;
    this.refilled = this.flows.now;
    this.allowance = Math.min(BURST, this.allowance + passed);
    if (this.allowance <= 0) return false;
    this.allowance--;
    return true;
  }
}

/** The code of a "destination unreachable" that says what `errno` says; -1: none does. */
function unreachableBy(errno: number): number {
  if (errno === ENETUNREACH) return NET_UNREACHABLE;
  if (errno === EHOSTUNREACH) return HOST_UNREACHABLE;
  return errno === EACCES || errno === EPERM ? ADMINISTRATIVELY_PROHIBITED : -1;
}
