/** A guest that connects, says something, hears it again and closes, over and over: as little TCP as that takes. */
import { GSO_TCPV4, HDR_F_NEEDS_CSUM, NET_HDR_SIZE } from '../../device/netHeader.js';
import { setU16 } from '../wire/bytes.js';
import { ETHERNET_HEADER, ETHERTYPE_IPV4, writeEthernet } from '../wire/ethernet.js';
import { IPV4_HEADER, PROTOCOL_TCP, totalLength, writeIpv4 } from '../wire/ipv4.js';
import {
  TCP_ACK,
  TCP_FIN,
  TCP_HEADER,
  TCP_PSH,
  TCP_RST,
  TCP_SYN,
  dataOffset,
  destinationPort,
  flags,
  sequence,
  writeSynOptions,
  writeTcp,
} from '../wire/tcp.js';
import { CHAINED, INDIRECT, INLINE, type ScratchRings } from './scratchRings.js';

const IP = ETHERNET_HEADER;
const TCP = IP + IPV4_HEADER;
const CHECKSUM_OFFSET = 16;
const MSS = 1460;
const WINDOW_SHIFT = 7;
const WINDOW = 0xffff;
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const ADDRESS = 0x0a00020f;
/** TEST-NET-1 (RFC 5737). Nothing goes there. */
const SERVER = 0xc0000201 | 0;
const PORT = 80;
const FIRST_PORT = 1024;
const PORTS = 60_000;
/** One connection in so many moves LARGE bytes each way, the others one. */
const LARGE_EVERY = 8;
const LARGE = 32 << 10;
/** Ways in which payload lies in descriptors; that of more than a segment is never inline. */
const WAYS = INDIRECT + 1;

export class ScratchGuest {
  /** Connections that came to their end. */
  connections = 0;
  failed = false;
  private opened = 0;
  private readonly ports: Int32Array;
  /** Next byte to send, next to receive, and bytes still to come, of each connection. */
  private readonly sndNxt: Int32Array;
  private readonly rcvNxt: Int32Array;
  private readonly left: Int32Array;

  /**
   * @param flows connections at a time
   * @param portOf where each connects to
   */
  constructor(
    private readonly rings: ScratchRings,
    flows: number,
    private readonly portOf: (flow: number) => number = () => PORT,
  ) {
    this.ports = new Int32Array(flows);
    this.sndNxt = new Int32Array(flows);
    this.rcvNxt = new Int32Array(flows);
    this.left = new Int32Array(flows);
  }

  /** Something went wrong. */
  fail(): void {
    this.failed = true;
  }

  /** Answers all that came in, and opens one more connection if they aren't all open. */
  run(): void {
    if (this.opened < this.ports.length) this.connect(this.opened);
    for (let at = this.rings.receive(); at >= 0; at = this.rings.receive()) this.segment(at);
    this.rings.publish();
  }

  private connect(flow: number): void {
    const number = this.opened++;
    this.ports[flow] = FIRST_PORT + (number % PORTS);
    this.sndNxt[flow] = number << 16;
    this.left[flow] = number % LARGE_EVERY === 0 ? LARGE : 1;
    this.send(flow, TCP_SYN, 0);
  }

  private segment(at: number): void {
    const { bytes } = this.rings;
    const tcp = at + TCP;
    const flow = this.ports.indexOf(destinationPort(bytes, tcp));
    const bits = flags(bytes, tcp);
    if (flow < 0) return;
    if ((bits & TCP_RST) !== 0) this.fail();
    const length = totalLength(bytes, at + IP) - IPV4_HEADER - dataOffset(bytes, tcp);
    this.rcvNxt[flow] = (sequence(bytes, tcp) + length + ((bits & (TCP_SYN | TCP_FIN)) === 0 ? 0 : 1)) | 0;
    if ((bits & TCP_SYN) !== 0) {
      this.send(flow, TCP_ACK, 0);
      this.send(flow, TCP_ACK | TCP_PSH, this.left[flow]!);
    } else if ((bits & TCP_FIN) !== 0) {
      this.send(flow, TCP_ACK, 0);
      this.connections++;
      this.connect(flow);
    } else if (length > 0) {
      this.left[flow] = this.left[flow]! - length;
      this.send(flow, this.left[flow] === 0 ? TCP_ACK | TCP_FIN : TCP_ACK, 0);
    }
  }

  private send(flow: number, bits: number, payload: number): void {
    const { bytes, header } = this.rings;
    const frame = header + NET_HDR_SIZE;
    const options = (bits & TCP_SYN) === 0 ? 0 : writeSynOptions(bytes, frame + TCP + TCP_HEADER, MSS, WINDOW_SHIFT);
    const tcpHeader = TCP_HEADER + options;
    bytes.fill(0, header, frame);
    bytes[header] = HDR_F_NEEDS_CSUM;
    if (payload > MSS) {
      bytes[header + 1] = GSO_TCPV4;
      bytes[header + 4] = MSS & 0xff;
      bytes[header + 5] = MSS >> 8;
    }
    bytes[header + 6] = TCP;
    bytes[header + 8] = CHECKSUM_OFFSET;
    writeEthernet(bytes, frame, MAC, MAC, ETHERTYPE_IPV4);
    writeIpv4(bytes, frame + IP, IPV4_HEADER + tcpHeader + payload, 0, PROTOCOL_TCP, ADDRESS, SERVER);
    const sequenceNumber = this.sndNxt[flow]!;
    const port = this.ports[flow]!;
    writeTcp(bytes, frame + TCP, port, this.portOf(flow), sequenceNumber, this.rcvNxt[flow]!, tcpHeader, bits, WINDOW);
    setU16(bytes, frame + TCP + CHECKSUM_OFFSET, 0);
    const way = payload > MSS ? CHAINED + (this.opened % (WAYS - CHAINED)) : this.opened % WAYS;
    this.rings.send(NET_HDR_SIZE + TCP + tcpHeader, payload, payload === 0 ? INLINE : way);
    this.sndNxt[flow] = (sequenceNumber + payload + ((bits & (TCP_SYN | TCP_FIN)) === 0 ? 0 : 1)) | 0;
  }
}
