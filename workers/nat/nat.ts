/**
 * The NAT of one worker: takes the guest's frames apart and gives each to what answers it. It knows nothing of virtqueues,
 * and of other workers only that some flows are theirs.
 */
import { C, type Counters } from '../counters.js';
import { pseudoHeaderSum } from '../wire/checksum.js';
import { ETHERNET_HEADER, ETHERTYPE_ARP, ETHERTYPE_IPV4, etherType } from '../wire/ethernet.js';
import {
  IPV4_HEADER,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  destination,
  headerChecksumOk,
  headerLength,
  isFragment,
  protocol,
  source,
  totalLength,
  version,
} from '../wire/ipv4.js';
import {
  TCP_ACK,
  TCP_HEADER,
  TCP_RST,
  TCP_SYN,
  acknowledgment,
  dataOffset,
  destinationPort,
  flags,
  sequence,
  sourcePort,
  window,
} from '../wire/tcp.js';
import { UDP_HEADER } from '../wire/udp.js';
import { answerArp } from './arp.js';
import { answerDhcp } from './dhcp.js';
import { DONE, type FrameSource, type Origin } from './guestLink.js';
import type { Flows } from './flows.js';
import { PROCEED, type Sharding } from './sharding.js';
import { Segment, type TcpInput } from './tcpInput.js';
import type { UdpBatch } from './udpBatch.js';
import type { UdpInput } from './udpInput.js';

const DHCP_SERVER_PORT = 67;
const LIMITED_BROADCAST = -1;
/** The longest frame that a responder reads or writes. */
const MAX_REPLY = 2048;
const HARDWARE_CHECKSUM_OK = 0xffff;

export class Nat {
  private readonly parsed = new Segment();
  private readonly reply = new Uint8Array(MAX_REPLY);
  /** Lengths of the IPv4 header and datagram, bytes, as `ipv4Valid` found them: the guest may change them meanwhile. */
  private ipHeader = 0;
  private ipTotal = 0;

  constructor(
    private readonly flows: Flows,
    private readonly tcp: TcpInput,
    private readonly udp: UdpInput,
    private readonly batch: UdpBatch,
    private readonly sharding: Sharding,
    private readonly counters: Counters,
  ) {}

  /** Handles a frame from the guest. Returns DONE, HELD, or what `Sharding` answered. */
  input(frame: FrameSource, origin: Origin): number {
    this.counters[C.framesFromGuest]!++;
    const type = etherType(frame.bytes, frame.offset);
    if (type === ETHERTYPE_IPV4) return this.ipv4(frame, origin);
    if (type === ETHERTYPE_ARP) this.arp(frame, origin);
    else this.counters[C.unsupportedFrames]!++;
    return DONE;
  }

  private ipv4(frame: FrameSource, origin: Origin): number {
    const { bytes } = frame;
    const ip = frame.offset + ETHERNET_HEADER;
    if (!this.ipv4Valid(frame, ip)) {
      this.counters[C.malformedFrames]!++;
      return DONE;
    }
    if (isFragment(bytes, ip)) {
      this.counters[C.unsupportedFrames]!++;
      return DONE;
    }
    const kind = protocol(bytes, ip);
    if (kind === PROTOCOL_TCP) return this.tcpSegment(frame, ip, origin);
    if (kind === PROTOCOL_UDP) return this.datagram(frame, ip, origin);
    this.counters[C.unsupportedFrames]!++;
    return DONE;
  }

  private ipv4Valid(frame: FrameSource, ip: number): boolean {
    const { bytes } = frame;
    if (frame.length < ETHERNET_HEADER + IPV4_HEADER || version(bytes, ip) !== 4) return false;
    const header = headerLength(bytes, ip);
    const total = totalLength(bytes, ip);
    this.ipHeader = header;
    this.ipTotal = total;
    if (header < IPV4_HEADER || total < header || total > frame.length - ETHERNET_HEADER) return false;
    return headerChecksumOk(bytes, ip, header);
  }

  private tcpSegment(frame: FrameSource, ip: number, origin: Origin): number {
    const { bytes } = frame;
    const header = this.ipHeader;
    const length = this.ipTotal - header;
    const tcp = ip + header;
    const s = this.parsed;
    const tcpHeader = length < TCP_HEADER ? 0 : dataOffset(bytes, tcp);
    if (tcpHeader < TCP_HEADER || tcpHeader > length) {
      this.counters[C.malformedFrames]!++;
      return DONE;
    }
    s.source = source(bytes, ip);
    s.destination = destination(bytes, ip);
    s.ports = (sourcePort(bytes, tcp) << 16) | destinationPort(bytes, tcp);
    s.sequence = sequence(bytes, tcp);
    s.acknowledgment = acknowledgment(bytes, tcp);
    s.flags = flags(bytes, tcp);
    s.window = window(bytes, tcp);
    s.optionsAt = ETHERNET_HEADER + header + TCP_HEADER;
    s.payloadAt = ETHERNET_HEADER + header + tcpHeader;
    s.length = length - tcpHeader;
    if (!frame.needsCsum && !this.checksumOk(frame, ETHERNET_HEADER + header, length)) {
      this.counters[C.badChecksums]!++;
      return DONE;
    }
    return this.route(frame, origin);
  }

  /** Guests without CSUM fill the checksum in themselves: then it is verified (RFC 9293 §3.1). */
  private checksumOk(frame: FrameSource, at: number, length: number): boolean {
    const s = this.parsed;
    const pseudo = pseudoHeaderSum(s.source, s.destination, PROTOCOL_TCP, length);
    frame.payload(at, length);
    const sum = this.flows.engine.checksum(frame.payloadFirst, frame.payloadCount, pseudo);
    // The triples begin at TCP's header now: so does what counts from there.
    frame.rewind();
    return sum === HARDWARE_CHECKSUM_OK;
  }

  private route(frame: FrameSource, origin: Origin): number {
    const s = this.parsed;
    const flow = this.flows.shard.lookup(s.source, s.destination, s.ports, origin.device);
    if (flow >= 0) {
      const way = this.sharding.known(flow, origin);
      return way === PROCEED ? this.tcp.segment(flow, s, frame, origin) : way;
    }
    const opens = (s.flags & (TCP_SYN | TCP_ACK | TCP_RST)) === TCP_SYN;
    const way = this.sharding.unknown(s, origin.device, opens, origin);
    if (way !== PROCEED) return way;
    if (opens) {
      this.tcp.open(s, frame, origin);
      this.sharding.opened(s, origin.device);
    } else this.tcp.refuse(s, frame, origin);
    return DONE;
  }

  private datagram(frame: FrameSource, ip: number, origin: Origin): number {
    if (this.ipTotal < this.ipHeader + UDP_HEADER || !this.forDhcp(frame, ip)) {
      return this.udp.input(frame, this.ipHeader, this.ipTotal, origin);
    }
    if (frame.length > MAX_REPLY) {
      this.counters[C.unsupportedFrames]!++;
      return DONE;
    }
    frame.linearize(frame.length);
    const { addresses } = this.flows.settings;
    this.answer(answerDhcp(frame.bytes, frame.offset, frame.length, this.reply, addresses), origin);
    return DONE;
  }

  /** To the server's port, and to us or to all. */
  private forDhcp(frame: FrameSource, ip: number): boolean {
    if (destinationPort(frame.bytes, ip + this.ipHeader) !== DHCP_SERVER_PORT) return false;
    const { gateway, guest, netmask } = this.flows.settings.addresses;
    const to = destination(frame.bytes, ip);
    return to === LIMITED_BROADCAST || to === gateway || to === (guest | ~netmask);
  }

  /** Sends what is collected of datagrams: before any driver is told that they were taken. */
  flush(): void {
    this.batch.flush();
  }

  private arp(frame: FrameSource, origin: Origin): void {
    const { addresses } = this.flows.settings;
    this.answer(answerArp(frame.bytes, frame.offset, frame.linear, this.reply, addresses), origin);
  }

  /** Sends the `length` bytes of the reply; a guest without buffers asks again. */
  private answer(length: number, origin: Origin): void {
    if (length === 0) return;
    const sink = this.flows.host.link(origin.device).sink(origin.pair);
    if (sink?.copy(this.reply, length)) this.counters[C.framesToGuest]!++;
    else this.counters[C.receiveBuffersMissing]!++;
  }
}
