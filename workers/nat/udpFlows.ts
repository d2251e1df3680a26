/**
 * UDP flows: a connected socket for each pair of guest's and remote address and port (RFC 4787). A flow begins with the guest's
 * first datagram, and ends when none has come either way for a while; errors don't end it (REQ-12).
 */
import { C } from '../counters.js';
import {
  ANSWERED,
  DESTINATION,
  DEVICE,
  FD,
  FLAGS,
  FLOW_WORDS,
  GUEST_PORT,
  HELD_FIRST,
  HELD_LAST,
  KEY,
  LAST_ACTIVE,
  MAC_HIGH,
  MAC_LOW,
  PAIR,
  PORTS,
  RECEIVE_BATCH,
  SOURCE,
  STATE,
  UDP_KEY,
  UDP_OPEN,
} from '../flow.js';
import { u16, u32 } from '../wire/bytes.js';
import { DNS_PORT } from './egress.js';
import type { Flows } from './flows.js';
import type { FrameSource, Origin } from './guestLink.js';
import type { FlowTuple } from './sharding.js';
import type { UdpMappings } from './udpMappings.js';

/** Datagrams that a call to receive asks for at first: one more than usually waits says that there are no more. */
export const FIRST_RECEIVE_BATCH = 2;

export class UdpFlows {
  private readonly records: Int32Array;

  constructor(
    readonly flows: Flows,
    readonly mappings: UdpMappings,
  ) {
    this.records = flows.records;
  }

  /**
   * Opens a flow and its socket for a datagram from the guest.
   * @param address the one to connect to
   * @returns the flow; -1 when the shard is full; -errno - 1 when there is no socket
   */
  open(tuple: FlowTuple, frame: FrameSource, origin: Origin, address: number): number {
    const { flows, mappings, records: r } = this;
    const key = origin.device | UDP_KEY;
    const guestPort = tuple.ports & ~0xffff;
    const sibling = mappings.find(tuple.source, guestPort, key);
    const flow = flows.shard.allocate();
    if (flow < 0) {
      flows.counters[C.shardFull]!++;
      return -1;
    }
    const f = flow * FLOW_WORDS;
    r[f + STATE] = UDP_OPEN;
    r[f + DEVICE] = origin.device;
    r[f + KEY] = key;
    r[f + SOURCE] = tuple.source;
    r[f + DESTINATION] = tuple.destination;
    r[f + PORTS] = tuple.ports;
    r[f + GUEST_PORT] = guestPort;
    r[f + FD] = -1;
    r[f + PAIR] = origin.pair;
    r[f + MAC_HIGH] = u16(frame.bytes, frame.offset + 6);
    r[f + MAC_LOW] = u32(frame.bytes, frame.offset + 8);
    r[f + HELD_FIRST] = -1;
    r[f + HELD_LAST] = -1;
    r[f + RECEIVE_BATCH] = FIRST_RECEIVE_BATCH;
    r[f + LAST_ACTIVE] = flows.now;
    flows.shard.index.insert(flow);
    mappings.join(flow);
    flows.counters[C.flowsOpened]!++;
    const error = this.connect(flow, address, sibling < 0 ? -1 : r[sibling * FLOW_WORDS + FD]!);
    if (error === 0) return flow;
    flows.counters[C.socketFailed]!++;
    flows.close(flow, false);
    return error - 1;
  }

  /** Opens the flow's socket. Returns 0 or -errno. */
  private connect(flow: number, address: number, sibling: number): number {
    const { flows, records: r } = this;
    const f = flow * FLOW_WORDS;
    const port = r[f + PORTS]! & 0xffff;
    const fd = flows.engine.udpSocket(address, port, sibling);
    if (fd < 0) return fd;
    r[f + FD] = fd;
    const error = flows.watch(flow);
    if (error < 0) return error;
    flows.arm(flow, (flows.now + flows.settings.udpTimes.idle) | 0);
    return 0;
  }

  /** The peer sent something. */
  answered(flow: number): void {
    const { flows, records: r } = this;
    const f = flow * FLOW_WORDS;
    r[f + LAST_ACTIVE] = flows.now;
    if ((r[f + FLAGS]! & ANSWERED) !== 0) return;
    r[f + FLAGS]! |= ANSWERED;
    flows.arm(flow, (flows.now + this.idleLimit(f)) | 0);
  }

  /** Ends the flow if it was idle for long enough. */
  timer(flow: number): void {
    const { flows, records: r } = this;
    const f = flow * FLOW_WORDS;
    if (r[f + STATE] !== UDP_OPEN) return;
    const limit = this.idleLimit(f);
    if (((flows.now - r[f + LAST_ACTIVE]!) | 0) >= limit) flows.close(flow, false);
    else flows.arm(flow, (r[f + LAST_ACTIVE]! + limit) | 0);
  }

  private idleLimit(f: number): number {
    const { idle, answeredQuery } = this.flows.settings.udpTimes;
    const query = (this.records[f + PORTS]! & 0xffff) === DNS_PORT && (this.records[f + FLAGS]! & ANSWERED) !== 0;
    return query ? Math.min(idle, answeredQuery) : idle;
  }
}
