/** The parts of a worker's NAT, put together. */
import { type FlowProtocol, Protocols } from '../flowProtocol.js';
import { IcmpErrors } from './icmpErrors.js';
import { Nat } from './nat.js';
import type { Sharding } from './sharding.js';
import { SocketReads } from './socketReads.js';
import { TcpEvents } from './tcpEvents.js';
import type { TcpFlows } from './tcpFlows.js';
import { TcpInput } from './tcpInput.js';
import { TcpOutput } from './tcpOutput.js';
import { UdpBatch } from './udpBatch.js';
import { UdpEvents } from './udpEvents.js';
import { UdpFlows } from './udpFlows.js';
import { UdpInput } from './udpInput.js';
import type { UdpMappings } from './udpMappings.js';
import { UdpOutput } from './udpOutput.js';

export interface NatParts {
  readonly nat: Nat;
  readonly tcpInput: TcpInput;
  /** Events, timers and turns of flows. */
  readonly protocols: FlowProtocol;
}

/**
 * @param iovecs scratch of [region, offset, length] triples; a batch of datagrams has those from `batchFirst`
 * @param discardRegion as `SocketReads` needs it
 * @param drainHeld gives a TCP flow's socket what the flow holds
 */
export function createNat(
  flows: TcpFlows,
  mappings: UdpMappings,
  sharding: Sharding,
  iovecs: Uint32Array,
  batchFirst: number,
  discardRegion: number,
  drainHeld: (flow: number) => void,
): NatParts {
  const reads = new SocketReads(flows, iovecs, discardRegion);
  const tcpOutput = new TcpOutput(flows, reads);
  const tcpInput = new TcpInput(flows, reads, tcpOutput);
  const udp = new UdpFlows(flows, mappings);
  const icmp = new IcmpErrors(flows);
  const batch = new UdpBatch(flows, icmp, iovecs, batchFirst);
  const nat = new Nat(flows, tcpInput, new UdpInput(udp, batch, icmp, sharding), batch, sharding, flows.counters);
  const tcpEvents = new TcpEvents(flows, tcpInput, tcpOutput, drainHeld);
  const udpEvents = new UdpEvents(udp, new UdpOutput(udp), icmp);
  return { nat, tcpInput, protocols: new Protocols(flows.records, tcpEvents, udpEvents) };
}
