/** Takes a received packet apart, and checks what a guest's network stack and its driver would rely on. */
import {
  GSO_ECN,
  GSO_NONE,
  GSO_TCPV4,
  HDR_CSUM_OFFSET,
  HDR_CSUM_START,
  HDR_FLAGS,
  HDR_F_NEEDS_CSUM,
  HDR_GSO_SIZE,
  HDR_GSO_TYPE,
} from '../../device/netHeader.js';
import { addon } from '../../src/native/addon.js';
import type { DeviceDescription } from './deviceDescription.js';
import type { MappedMemory } from './guestMemory.js';
import type { Packet } from './queuePair.js';
import { iovecs } from './scratch.js';
import { Counter } from './statistics.js';
import {
  ETHERNET_HEADER,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  IP_HEADER,
  IP_VERSION_WORD,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_HEADER,
  UDP_HEADER,
  addressSum,
  checksumField,
  fold,
  getU32,
  swap16,
} from './wire.js';

/** virtio 1.2 §5.1.6.4.1: the device has checked the packet's checksum. */
const HDR_F_DATA_VALID = 2;
/** Bytes of a minimal frame's headers: what must lie in the first buffer. */
const LEAST = ETHERNET_HEADER + IP_HEADER + UDP_HEADER;
const L4 = ETHERNET_HEADER + IP_HEADER;

export const Kind = { BAD: 0, ARP: 1, TCP: 2, UDP: 3 } as const;

export class FrameReader {
  // Of the packet read last. Offsets are of guest memory.
  frame = 0;
  sourceAddress = 0;
  sourcePort = 0;
  destinationPort = 0;
  sequence = 0;
  acknowledgement = 0;
  flags = 0;
  window = 0;
  /** Bytes of frame before the payload. */
  headers = 0;
  /** Bytes of payload, TCP or UDP. */
  payloadLength = 0;
  /** Came as one large segment (GUEST_TSO4). */
  large = false;

  private readonly u16: Uint16Array;
  private readonly guestCsum: boolean;
  private readonly guestTso4: boolean;

  /** @param strict check checksums even where the device vouches for them */
  constructor(
    private readonly memory: MappedMemory,
    device: DeviceDescription,
    private readonly statistics: Float64Array,
    private readonly strict: boolean,
  ) {
    this.u16 = memory.u16;
    this.guestCsum = device.offloads.guestCsum;
    this.guestTso4 = device.offloads.guestTso4;
  }

  /** Of any packet: which flow or thread it is for, before it is looked at. -1: neither TCP nor UDP. */
  localPort(packet: Packet): number {
    const word = packet.offsets[0] / 2;
    if (packet.lengths[0] < LEAST || this.u16[word + 6] !== ETHERTYPE_IPV4) return -1;
    const protocol = this.memory.u8[packet.offsets[0] + ETHERNET_HEADER + 9];
    if (protocol !== PROTOCOL_TCP && protocol !== PROTOCOL_UDP) return -1;
    return swap16(this.u16[word + L4 / 2 + 1]);
  }

  /** Reads a packet into the fields above; counts what is wrong with it. Returns its `Kind`. */
  read(packet: Packet, address: number, mtu: number): number {
    const frame = packet.offsets[0];
    const { u16 } = this;
    this.frame = frame;
    if (packet.lengths[0] < LEAST) return this.bad();
    const type = u16[frame / 2 + 6];
    if (type === ETHERTYPE_ARP) return Kind.ARP;
    const ip = (frame + ETHERNET_HEADER) / 2;
    if (type !== ETHERTYPE_IPV4 || u16[ip] !== IP_VERSION_WORD) return this.bad();
    const length = swap16(u16[ip + 1]) - IP_HEADER;
    const protocol = this.memory.u8[frame + ETHERNET_HEADER + 9];
    if (length < UDP_HEADER || L4 + length > packet.length) return this.bad();
    this.sourceAddress = getU32(u16, ip + 6);
    const destination = getU32(u16, ip + 8);
    if (destination !== address && destination !== -1) return this.bad();
    if (!this.offloadsConsistent(packet, mtu)) return this.bad();
    if (!this.checksumsRight(packet, protocol, length)) {
      this.statistics[Counter.badChecksums]++;
      return Kind.BAD;
    }
    const l4 = (frame + L4) / 2;
    this.sourcePort = swap16(u16[l4]);
    this.destinationPort = swap16(u16[l4 + 1]);
    if (protocol === PROTOCOL_TCP) return this.readTcp(packet, l4, length);
    if (protocol !== PROTOCOL_UDP) return this.bad();
    this.headers = L4 + UDP_HEADER;
    this.payloadLength = swap16(u16[l4 + 2]) - UDP_HEADER;
    return this.payloadLength < 0 || this.payloadLength + UDP_HEADER > length ? this.bad() : Kind.UDP;
  }

  private readTcp(packet: Packet, l4: number, length: number): number {
    const { u16 } = this;
    const headerLength = (u16[l4 + 6] & 0xf0) >>> 2;
    if (headerLength < TCP_HEADER || headerLength > length || L4 + headerLength > packet.lengths[0]) return this.bad();
    this.sequence = getU32(u16, l4 + 2);
    this.acknowledgement = getU32(u16, l4 + 4);
    this.flags = u16[l4 + 6] >>> 8;
    this.window = swap16(u16[l4 + 7]);
    this.headers = L4 + headerLength;
    this.payloadLength = length - headerLength;
    return Kind.TCP;
  }

  /** virtio 1.2 §5.1.6.4.1: a device must not use offloads that weren't negotiated, nor send more than the MTU without one. */
  private offloadsConsistent(packet: Packet, mtu: number): boolean {
    const gso = this.memory.u8[packet.header + HDR_GSO_TYPE] & ~GSO_ECN;
    this.large = gso !== GSO_NONE;
    if (gso === GSO_NONE) return packet.length <= ETHERNET_HEADER + mtu;
    const segment = this.u16[(packet.header + HDR_GSO_SIZE) / 2];
    const partial = (this.memory.u8[packet.header + HDR_FLAGS] & HDR_F_NEEDS_CSUM) !== 0;
    return gso === GSO_TCPV4 && this.guestTso4 && partial && segment > 0 && segment <= mtu;
  }

  private checksumsRight(packet: Packet, protocol: number, length: number): boolean {
    const { u16 } = this;
    const ip = (this.frame + ETHERNET_HEADER) / 2;
    let sum = 0;
    for (let n = 0; n < IP_HEADER / 2; n++) sum += u16[ip + n];
    if (fold(sum) !== 0xffff) return false;
    const flags = this.memory.u8[packet.header + HDR_FLAGS];
    const field = checksumField(protocol);
    const pseudo = fold(
      addressSum(getU32(u16, ip + 6)) + addressSum(getU32(u16, ip + 8)) + swap16(protocol) + swap16(length),
    );
    if ((flags & HDR_F_NEEDS_CSUM) !== 0) {
      return (
        this.guestCsum &&
        u16[(packet.header + HDR_CSUM_START) / 2] === L4 &&
        u16[(packet.header + HDR_CSUM_OFFSET) / 2] === field &&
        u16[(this.frame + L4 + field) / 2] === pseudo
      );
    }
    // Linux takes the device's word also without GUEST_CSUM, and passt gives it there.
    if ((flags & HDR_F_DATA_VALID) !== 0 && !this.strict) return true;
    if (protocol === PROTOCOL_UDP && u16[(this.frame + L4 + field) / 2] === 0) return true;
    return this.sumOf(packet, length, pseudo) === 0xffff;
  }

  /** The sum over what lies behind the IP header. */
  private sumOf(packet: Packet, length: number, pseudo: number): number {
    let left = length;
    let pieces = 0;
    for (let skip = L4; left > 0 && pieces < packet.pieces; pieces++, skip = 0) {
      const bytes = Math.min(packet.lengths[pieces] - skip, left);
      iovecs[3 * pieces] = this.memory.region;
      iovecs[3 * pieces + 1] = packet.offsets[pieces] + skip;
      iovecs[3 * pieces + 2] = bytes;
      left -= bytes;
    }
    return addon.checksum(0, pieces, swap16(pseudo));
  }

  private bad(): number {
    this.statistics[Counter.badFrames]++;
    return Kind.BAD;
  }
}
