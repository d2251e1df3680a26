/** Frames that a guest at 10.0.2.15 begins with, checksums complete. */
import { pseudoHeaderSum, sum16 } from '../../workers/wire/checksum.js';
import { setU16, setU32 } from '../../workers/wire/bytes.js';
import { ETHERTYPE_ARP, ETHERTYPE_IPV4, writeEthernet } from '../../workers/wire/ethernet.js';
import { PROTOCOL_TCP, PROTOCOL_UDP, parseIpv4Address, writeIpv4 } from '../../workers/wire/ipv4.js';
import { TCP_SYN, writeTcp } from '../../workers/wire/tcp.js';
import { writeUdp } from '../../workers/wire/udp.js';

const MAC = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);
const BROADCAST = new Uint8Array(6).fill(0xff);
const GUEST = parseIpv4Address('10.0.2.15');
const GATEWAY = parseIpv4Address('10.0.2.2');
const DHCP_MESSAGE = 300;

/** Who has 10.0.2.2? */
export function arpRequest(): Uint8Array {
  const frame = new Uint8Array(60);
  writeEthernet(frame, 0, BROADCAST, MAC, ETHERTYPE_ARP);
  frame.set([0, 1, 8, 0, 6, 4, 0, 1], 14);
  frame.set(MAC, 22);
  setU32(frame, 28, GUEST);
  setU32(frame, 38, GATEWAY);
  return frame;
}

/** DHCPDISCOVER with nothing but its message type. */
export function dhcpDiscover(): Uint8Array {
  const frame = new Uint8Array(42 + DHCP_MESSAGE);
  writeEthernet(frame, 0, BROADCAST, MAC, ETHERTYPE_IPV4);
  writeIpv4(frame, 14, 28 + DHCP_MESSAGE, 0, PROTOCOL_UDP, 0, -1);
  writeUdp(frame, 34, 68, 67, 8 + DHCP_MESSAGE);
  frame.set([1, 1, 6, 0, 1, 2, 3, 4], 42);
  frame.set(MAC, 42 + 28);
  frame.set([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255], 42 + 236);
  return frame;
}

/** Begins a connection to a port of the gateway, with sequence number 1. */
export function tcpSyn(port: number): Uint8Array {
  return tcpSegment(port, 1, 0, TCP_SYN);
}

/** A segment of that connection, without data. */
export function tcpSegment(port: number, seq: number, ack: number, flags: number): Uint8Array {
  const frame = new Uint8Array(54);
  writeEthernet(frame, 0, BROADCAST, MAC, ETHERTYPE_IPV4);
  writeIpv4(frame, 14, 40, 0, PROTOCOL_TCP, GUEST, GATEWAY);
  writeTcp(frame, 34, 40_000, port, seq, ack, 20, flags, 65_535);
  setU16(frame, 50, ~sum16(frame, 34, 20, pseudoHeaderSum(GUEST, GATEWAY, PROTOCOL_TCP, 20)));
  return frame;
}

export interface DatagramOptions {
  readonly source?: number;
  readonly destination?: number;
  readonly ports: readonly [source: number, destination: number];
  readonly payload: Uint8Array;
}

/** A UDP datagram, to the gateway if nothing else is said. */
export function udpDatagram({ source = GUEST, destination = GATEWAY, ports, payload }: DatagramOptions): Uint8Array {
  const length = 8 + payload.length;
  const frame = new Uint8Array(34 + length);
  writeEthernet(frame, 0, BROADCAST, MAC, ETHERTYPE_IPV4);
  writeIpv4(frame, 14, 20 + length, 0, PROTOCOL_UDP, source, destination);
  writeUdp(frame, 34, ports[0], ports[1], length);
  frame.set(payload, 42);
  const sum = ~sum16(frame, 34, length, pseudoHeaderSum(source, destination, PROTOCOL_UDP, length)) & 0xffff;
  setU16(frame, 40, sum || 0xffff);
  return frame;
}
