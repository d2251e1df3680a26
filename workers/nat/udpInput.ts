/** Datagrams from the guest (RFC 768), and what goes on to the socket because of them. */
import { C } from '../counters.js';
import { FLOW_WORDS, LAST_ACTIVE, PAIR, UDP_KEY } from '../flow.js';
import { pseudoHeaderSum } from '../wire/checksum.js';
import { ETHERNET_HEADER } from '../wire/ethernet.js';
import { PROTOCOL_UDP, destination, source } from '../wire/ipv4.js';
import { UDP_HEADER, checksum, datagramLength, destinationPort, sourcePort } from '../wire/udp.js';
import { egressAddress } from './egress.js';
import type { Flows } from './flows.js';
import { DONE, type FrameSource, type Origin } from './guestLink.js';
import type { IcmpErrors } from './icmpErrors.js';
import { type FlowTuple, PROCEED, type Sharding } from './sharding.js';
import type { UdpBatch } from './udpBatch.js';
import type { UdpFlows } from './udpFlows.js';

const CHECKSUM_OK = 0xffff;

/** A datagram's header, parsed. */
class Datagram implements FlowTuple {
  source = 0;
  destination = 0;
  ports = 0;
  /** Bytes of the datagram, header included. */
  length = 0;
}

export class UdpInput {
  private readonly parsed = new Datagram();
  private readonly flows: Flows;

  constructor(
    private readonly udp: UdpFlows,
    private readonly batch: UdpBatch,
    private readonly icmp: IcmpErrors,
    private readonly sharding: Sharding,
  ) {
    this.flows = udp.flows;
  }

  /**
   * Handles a frame whose IPv4 header is checked.
   * @param header, total bytes of that header, and of the IP packet
   * @returns DONE, or what `Sharding` answered
   */
  input(frame: FrameSource, header: number, total: number, origin: Origin): number {
    const { bytes } = frame;
    const { counters } = this.flows;
    const ip = frame.offset + ETHERNET_HEADER;
    const d = this.parsed;
    const room = total - header;
    d.length = room < UDP_HEADER ? 0 : datagramLength(bytes, ip + header);
    if (d.length < UDP_HEADER || d.length > room) {
      counters[C.malformedFrames]!++;
      return DONE;
    }
    d.source = source(bytes, ip);
    d.destination = destination(bytes, ip);
    d.ports = (sourcePort(bytes, ip + header) << 16) | destinationPort(bytes, ip + header);
    if ((d.ports & 0xffff) === 0) {
      counters[C.malformedFrames]!++;
      return DONE;
    }
    const at = ETHERNET_HEADER + header;
    // A sender may do without a checksum, which is 0 then.
    if (!frame.needsCsum && checksum(bytes, ip + header) !== 0 && !this.checksumOk(frame, at)) {
      counters[C.badChecksums]!++;
      return DONE;
    }
    return this.route(frame, at + UDP_HEADER, origin);
  }

  private checksumOk(frame: FrameSource, at: number): boolean {
    const { source: from, destination: to, length } = this.parsed;
    const pseudo = pseudoHeaderSum(from, to, PROTOCOL_UDP, length);
    frame.payload(at, length);
    const sum = this.flows.engine.checksum(frame.payloadFirst, frame.payloadCount, pseudo);
    frame.rewind();
    return sum === CHECKSUM_OK;
  }

  private route(frame: FrameSource, payloadAt: number, origin: Origin): number {
    const { flows, parsed: d } = this;
    const key = origin.device | UDP_KEY;
    let flow = flows.shard.lookup(d.source, d.destination, d.ports, key);
    if (flow >= 0) {
      const way = this.sharding.known(flow, origin);
      if (way !== PROCEED) return way;
    } else {
      const way = this.open(frame, key, origin);
      if (way !== PROCEED) return way;
      flow = flows.shard.lookup(d.source, d.destination, d.ports, key);
      if (flow < 0) return DONE;
    }
    const { records: r } = flows;
    r[flow * FLOW_WORDS + LAST_ACTIVE] = flows.now;
    r[flow * FLOW_WORDS + PAIR] = origin.pair;
    this.batch.add(flow, frame, payloadAt, d.length - UDP_HEADER);
    return DONE;
  }

  /** Opens a flow for the datagram if it is allowed to go out, and isn't another worker's. */
  private open(frame: FrameSource, key: number, origin: Origin): number {
    const { flows, parsed: d } = this;
    const address = egressAddress(d.destination, d.ports & 0xffff, flows.settings);
    if (address === undefined) {
      flows.counters[C.deniedByPolicy]!++;
      this.icmp.ofDatagram(d, frame, origin, 0);
      return DONE;
    }
    const way = this.sharding.unknown(d, key, true, origin);
    if (way !== PROCEED) return way;
    const flow = this.udp.open(d, frame, origin, address);
    this.sharding.opened(d, key);
    if (flow < -1) this.icmp.ofDatagram(d, frame, origin, -flow - 1);
    return flow < 0 ? DONE : PROCEED;
  }
}
