/** Flows that move between workers, seen from the messages; packets and running workers are in nat/udpNetwork.test.ts. */
import { expect, it } from 'vitest';
import { COUNTER_NAMES } from '../../workers/counters.js';
import { UDP_KEY } from '../../workers/flow.js';
import { Handoff } from '../../workers/handoff.js';
import { HeldChains } from '../../workers/heldChains.js';
import { DEFAULT_ADDRESSES } from '../../workers/nat/addresses.js';
import { type FlowHost, Flows } from '../../workers/nat/flows.js';
import { Origin } from '../../workers/nat/guestLink.js';
import { DEFAULT_TCP_TIMES, DEFAULT_UDP_TIMES, type NatSettings } from '../../workers/nat/settings.js';
import { type FlowTuple, PROCEED } from '../../workers/nat/sharding.js';
import { UdpFlows } from '../../workers/nat/udpFlows.js';
import { UdpMappings } from '../../workers/nat/udpMappings.js';
import { type PoolMemory, createPoolMemory } from '../../workers/poolMemory.js';
import { Shard } from '../../workers/shard.js';
import { FakeEngine } from './nat/fakeEngine.js';
import { Trace } from './nat/trace.js';

const SETTINGS: NatSettings = {
  addresses: DEFAULT_ADDRESSES,
  allowHostLoopback: false,
  times: DEFAULT_TCP_TIMES,
  udpTimes: DEFAULT_UDP_TIMES,
  resolver: new Int32Array(1),
  peekOffset: true,
  mostReceiveBuffer: 0,
  seed: 1,
};
const [SOURCE, DESTINATION] = [0x0a00020f, 0x08080808];

/** One worker's flows, and its end of the rings. */
class Side {
  readonly handoff: Handoff;
  private readonly flows: Flows;
  private readonly udp: UdpFlows;

  constructor(worker: number, memory: PoolMemory, engine: FakeEngine) {
    const shard = new Shard(new Int32Array(memory.shards[worker]!), memory.seed, new Int32Array(1));
    const held = new HeldChains(new Int32Array(memory.held[worker]!), () => undefined);
    const host: FlowHost = {
      link: () => expect.unreachable('nothing is sent to the guest'),
      flowClosed: (flow) => this.handoff.flowClosed(flow),
    };
    this.flows = new Flows(shard, engine, held, new Float64Array(COUNTER_NAMES.length), SETTINGS, host, memory);
    const mappings = new UdpMappings(shard, memory.seed);
    this.handoff = new Handoff(worker, memory, this.flows, mappings, [-1, -1]);
    this.udp = new UdpFlows(this.flows, mappings);
  }

  /** Opens a flow for a datagram of the guest's. */
  open(tuple: FlowTuple): number {
    const origin = new Origin();
    origin.worker = this.handoff.worker;
    expect(this.handoff.unknown(tuple, UDP_KEY, true, origin)).toBe(PROCEED);
    const flow = this.udp.open(tuple, new Trace().frame, origin, tuple.destination);
    this.handoff.opened(tuple, UDP_KEY);
    return flow;
  }

  close(flow: number): void {
    this.flows.close(flow, false);
  }
}

const tupleFrom = (port: number): FlowTuple => ({ source: SOURCE, destination: DESTINATION, ports: (port << 16) | 9 });

it('a flow that comes to a full shard ends, and so does its mapping: the guest port is free for all workers', () => {
  const memory = createPoolMemory({ workers: 2, devices: 1, pairs: 1, flows: 1 }, 1);
  const engine = new FakeEngine([], new Uint32Array(0));
  const [from, to] = [0, 1].map((worker) => new Side(worker, memory, engine)) as [Side, Side];
  const moving = from.open(tupleFrom(1));
  const staying = to.open(tupleFrom(2));
  expect(from.handoff.rehome(moving, 1)).toBe(true);
  from.handoff.flush();
  const [ring] = to.handoff.incoming;
  to.handoff.install(0, ring!.data, ring!.peek());
  expect([...engine.sockets.values()].map(({ state }) => state)).toEqual(['aborted', 'connecting']);
  to.close(staying);
  // Would it still be named as the owner, its packets would go there.
  expect(from.open(tupleFrom(1))).toBe(moving);
});
