/** Builds and sends frames in the slots of a transmit queue. */
import { NET_HDR_SIZE } from '../../device/netHeader.js';
import { addon } from '../../src/native/addon.js';
import type { DeviceDescription } from './deviceDescription.js';
import type { MappedMemory } from './guestMemory.js';
import type { NetworkState } from './network.js';
import { DATAGRAM_NUMBER, PATTERN_LENGTH } from './pattern.js';
import type { QueuePair } from './queuePair.js';
import { iovecs } from './scratch.js';
import {
  ETHERNET_HEADER,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  IP_HEADER,
  IP_VERSION_WORD,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  SYN,
  TCP_HEADER,
  UDP_HEADER,
  addressSum,
  checksumField,
  fold,
  putU32,
  swap16,
} from './wire.js';

const DONT_FRAGMENT = 0x0040;
const TTL = 64;
/** The receive window's scale (RFC 7323). */
const WINDOW_SCALE = 8;
/** MSS (RFC 9293 §3.7.1), no-operation, window scale. */
const SYN_OPTIONS = 8;
/** Payload up to this size is copied behind the headers: cheaper than a descriptor of its own. */
const COPY_BREAK = 512;

const IP_AT = (NET_HDR_SIZE + ETHERNET_HEADER) / 2;
const L4_AT = IP_AT + IP_HEADER / 2;

export class FrameWriter {
  private readonly u16: Uint16Array;
  private readonly partialChecksums: boolean;
  private readonly pattern: number;
  private identification = 0;

  constructor(
    private readonly memory: MappedMemory,
    device: DeviceDescription,
    private readonly network: NetworkState,
    private readonly windowBytes: number,
  ) {
    this.u16 = memory.u16;
    this.partialChecksums = device.offloads.csum;
    this.pattern = device.pattern;
  }

  /**
   * Sends one TCP segment; its payload is the pattern from stream position `position` on. With more payload than `mss`
   * the device cuts it up (HOST_TSO4). A SYN announces the MSS that fits the MTU, and window scaling.
   * @returns false if the queue is full
   */
  tcp(
    pair: QueuePair,
    remoteAddress: number,
    localPort: number,
    remotePort: number,
    sequence: number,
    acknowledgement: number,
    flags: number,
    position: number,
    length: number,
    mss: number,
  ): boolean {
    const slot = pair.slot();
    if (slot < 0) return false;
    const { u16 } = this;
    const headerLength = (flags & SYN) === 0 ? TCP_HEADER : TCP_HEADER + SYN_OPTIONS;
    const l4 = slot / 2 + L4_AT;
    this.putEthernet(slot, ETHERTYPE_IPV4);
    this.putIp(slot, PROTOCOL_TCP, this.network.address, remoteAddress, headerLength + length);
    u16[l4] = swap16(localPort);
    u16[l4 + 1] = swap16(remotePort);
    putU32(u16, l4 + 2, sequence);
    putU32(u16, l4 + 4, acknowledgement);
    u16[l4 + 6] = (headerLength << 2) | (flags << 8);
    u16[l4 + 7] = swap16((flags & SYN) === 0 ? this.windowBytes >>> WINDOW_SCALE : Math.min(this.windowBytes, 65_535));
    u16[l4 + 8] = 0;
    u16[l4 + 9] = 0;
    if ((flags & SYN) !== 0) this.putSynOptions(l4 + 10);

    const payload = this.pattern + (position % PATTERN_LENGTH);
    const headers = NET_HDR_SIZE + ETHERNET_HEADER + IP_HEADER + headerLength;
    const copied = this.copyPayload(slot + headers, payload, length);
    this.putChecksum(pair, slot, PROTOCOL_TCP, remoteAddress, headerLength + length);
    if (length > mss) pair.setSegmentation(slot, ETHERNET_HEADER + IP_HEADER + headerLength, mss);
    pair.send(headers + copied, payload, length - copied);
    return true;
  }

  /**
   * Sends one UDP datagram with `length` bytes of payload: its number, little-endian, as far as it fits, then the pattern
   * from the number's position on.
   * @param number 32 bits
   * @returns false if the queue is full
   */
  udp(
    pair: QueuePair,
    remoteAddress: number,
    localPort: number,
    remotePort: number,
    number: number,
    length: number,
  ): boolean {
    const slot = pair.slot();
    if (slot < 0) return false;
    const numbered = Math.min(length, DATAGRAM_NUMBER);
    const headers = NET_HDR_SIZE + ETHERNET_HEADER + IP_HEADER + UDP_HEADER + numbered;
    this.putEthernet(slot, ETHERTYPE_IPV4);
    this.putIp(slot, PROTOCOL_UDP, this.network.address, remoteAddress, UDP_HEADER + length);
    this.putUdp(slot, localPort, remotePort, UDP_HEADER + length);
    for (let n = 0; n < numbered; n++) this.memory.u8[slot + headers - numbered + n] = number >>> (8 * n);
    const payload = this.pattern + ((number >>> 0) % PATTERN_LENGTH);
    const copied = this.copyPayload(slot + headers, payload, length - numbered);
    this.putChecksum(pair, slot, PROTOCOL_UDP, remoteAddress, UDP_HEADER + length);
    pair.send(headers + copied, payload, length - numbered - copied);
    return true;
  }

  /** Broadcasts a UDP datagram from 0.0.0.0: all that DHCP needs. Returns false if the queue is full. */
  udpBroadcast(pair: QueuePair, sourcePort: number, destinationPort: number, data: Uint8Array): boolean {
    const slot = pair.slot();
    if (slot < 0) return false;
    const length = UDP_HEADER + data.length;
    this.putEthernet(slot, ETHERTYPE_IPV4);
    for (let n = 0; n < 3; n++) this.u16[slot / 2 + NET_HDR_SIZE / 2 + n] = 0xffff;
    this.putIp(slot, PROTOCOL_UDP, 0, -1, length);
    // Without a checksum (RFC 768)
    this.putUdp(slot, sourcePort, destinationPort, length);
    const linear = NET_HDR_SIZE + ETHERNET_HEADER + IP_HEADER + UDP_HEADER;
    this.memory.u8.set(data, slot + linear);
    pair.send(linear + data.length, 0, 0);
    return true;
  }

  /**
   * Sends an ARP packet (RFC 826).
   * @param target its MAC address' words; zeroes make it a broadcast
   */
  arp(
    pair: QueuePair,
    operation: number,
    target0: number,
    target1: number,
    target2: number,
    targetAddress: number,
  ): boolean {
    const slot = pair.slot();
    if (slot < 0) return false;
    const { u16, network } = this;
    const broadcast = (target0 | target1 | target2) === 0;
    const arp = slot / 2 + IP_AT;
    this.putEthernet(slot, ETHERTYPE_ARP);
    const to = slot / 2 + NET_HDR_SIZE / 2;
    u16[to] = broadcast ? 0xffff : target0;
    u16[to + 1] = broadcast ? 0xffff : target1;
    u16[to + 2] = broadcast ? 0xffff : target2;
    u16[arp] = swap16(1);
    u16[arp + 1] = ETHERTYPE_IPV4;
    u16[arp + 2] = swap16(0x0604);
    u16[arp + 3] = swap16(operation);
    for (let n = 0; n < 3; n++) u16[arp + 4 + n] = network.macWord(n);
    putU32(u16, arp + 7, network.address);
    u16[arp + 9] = target0;
    u16[arp + 10] = target1;
    u16[arp + 11] = target2;
    putU32(u16, arp + 12, targetAddress);
    pair.send(NET_HDR_SIZE + ETHERNET_HEADER + 28, 0, 0);
    return true;
  }

  private putEthernet(slot: number, type: number): void {
    const at = slot / 2 + NET_HDR_SIZE / 2;
    for (let n = 0; n < 3; n++) {
      this.u16[at + n] = this.network.gatewayMacWord(n);
      this.u16[at + 3 + n] = this.network.macWord(n);
    }
    this.u16[at + 6] = type;
  }

  private putIp(slot: number, protocol: number, source: number, destination: number, length: number): void {
    const { u16 } = this;
    const at = slot / 2 + IP_AT;
    this.identification = (this.identification + 1) & 0xffff;
    u16[at] = IP_VERSION_WORD;
    u16[at + 1] = swap16(IP_HEADER + length);
    u16[at + 2] = this.identification;
    u16[at + 3] = DONT_FRAGMENT;
    u16[at + 4] = TTL | (protocol << 8);
    u16[at + 5] = 0;
    putU32(u16, at + 6, source);
    putU32(u16, at + 8, destination);
    let sum = 0;
    for (let n = 0; n < IP_HEADER / 2; n++) sum += u16[at + n];
    u16[at + 5] = ~fold(sum);
  }

  private putSynOptions(at: number): void {
    const { u16 } = this;
    u16[at] = swap16(0x0204);
    u16[at + 1] = swap16(this.network.mss);
    u16[at + 2] = swap16(0x0103);
    u16[at + 3] = swap16(0x0300 | WINDOW_SCALE);
  }

  /** A UDP header whose checksum is none so far; `length` is that of header and payload. */
  private putUdp(slot: number, sourcePort: number, destinationPort: number, length: number): void {
    const { u16 } = this;
    const l4 = slot / 2 + L4_AT;
    u16[l4] = swap16(sourcePort);
    u16[l4 + 1] = swap16(destinationPort);
    u16[l4 + 2] = swap16(length);
    u16[l4 + 3] = 0;
  }

  /** Copies payload behind the headers, unless it is long and the device can gather it. Returns the number of bytes copied. */
  private copyPayload(to: number, payload: number, length: number): number {
    if (this.partialChecksums && length > COPY_BREAK) return 0;
    this.memory.u8.copyWithin(to, payload, payload + length);
    return length;
  }

  /**
   * Finishes a checksum, its field zero so far: partial where the device takes that, else over header and payload in the
   * slot, `length` bytes of both.
   */
  private putChecksum(pair: QueuePair, slot: number, protocol: number, remoteAddress: number, length: number): void {
    const field = checksumField(protocol);
    const at = slot / 2 + L4_AT + field / 2;
    const pseudo = fold(
      addressSum(this.network.address) + addressSum(remoteAddress) + swap16(protocol) + swap16(length),
    );
    if (this.partialChecksums) {
      this.u16[at] = pseudo;
      pair.setPartialChecksum(slot, ETHERNET_HEADER + IP_HEADER, field);
      return;
    }
    iovecs[0] = this.memory.region;
    iovecs[1] = slot + 2 * L4_AT;
    iovecs[2] = length;
    // RFC 768: "If the computed checksum is zero, it is transmitted as all ones"; to TCP both are the same.
    this.u16[at] = swap16(~addon.checksum(0, 1, swap16(pseudo))) || 0xffff;
  }
}
