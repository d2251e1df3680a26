/**
 * Flows and packets on their way between workers.
 *
 * A packet of another worker's flow goes to the owner as the head of its chain (PACKET): the owner reads it in guest
 * memory and gives it back (COMPLETE) to the worker whose queue it is, which alone writes that queue's used ring. After
 * a run of such packets the flow follows the guest's process (FLOW): record and socket change hands, and the new owner
 * writes itself into the directory. Packets that were still on their way to the old owner come back (RETURN), behind
 * the FLOW message, since rings keep their order. The new owner takes none of the flow's later packets before those:
 * it sends a MARK after the FLOW arrived, and parks its queue at the flow's packets until the MARK is back.
 *
 * Room in a ring of HANDOFF_CAPACITY: at most MAX_OUTSTANDING PACKETs of ours, as many answers to theirs, MAX_MARKS
 * MARKs of ours, as many MARK_BACKs, and FLOWs while there is room for all these. So an answer always fits.
 *
 * A worker that dies leaves nothing of this behind but the messages: those that it had staged are published as it dies,
 * and one that it died on is marked as ATTEMPTED, for its successor to drop.
 */
import { C } from './counters.js';
import {
  ACK_NOW,
  BARRIER,
  DESTINATION,
  ESTABLISHED,
  FD,
  FLAGS,
  FLOW_WORDS,
  FOREIGN_RUN,
  FOREIGN_WORKER,
  GENERATION,
  GUEST_PORT,
  HELD_FIRST,
  KEY,
  LISTED,
  PORTS,
  READABLE,
  SOURCE,
  STATE,
  SYN_RECEIVED,
  UDP_KEY,
  UDP_OPEN,
} from './flow.js';
import { isUdp } from './flowProtocol.js';
import type { Origin } from './nat/guestLink.js';
import type { Flows } from './nat/flows.js';
import { type FlowTuple, PROCEED, type Sharding } from './nat/sharding.js';
import type { UdpMappings } from './nat/udpMappings.js';
import {
  FREE_RECORDS,
  HANDOFF_CAPACITY,
  HANDOFF_WORDS,
  type PoolMemory,
  SLEEPING,
  WORKER_WORDS,
} from './poolMemory.js';
import { Directory } from './shared/directory.js';
import { SpscRing } from './shared/spscRing.js';

/** What became of a packet that isn't this worker's. */
export const AWAY = 2;
/** The packet can't be looked at yet: its queue waits. */
export const PARK = 3;

export const PACKET = 1;
export const COMPLETE = 2;
export const RETURN = 3;
export const FLOW = 4;
export const MARK = 5;
export const MARK_BACK = 6;
/** Word of a PACKET, COMPLETE or RETURN: its receiver has begun to handle it. */
export const ATTEMPTED = 7;
/** Where a FLOW message's record begins. */
const RECORD_AT = 8;

/** The remote address in the directory's keys of UDP mappings, whose remote port is 0. */
const NO_PEER = 0;
const MAX_OUTSTANDING = 512;
/** MARKs on their way, to all workers. */
const MAX_MARKS = 256;
/** A flow moves only while the ring has this much room, and the new worker so many free records (or a quarter of all). */
const ROOM_FOR_FLOW = 2 * MAX_OUTSTANDING + 2 * MAX_MARKS;
const FREE_FOR_FLOW = 64;
/** Packets in a row from another worker's queue after which the flow follows. */
const REHOME_RUN = 16;
/** The directory may name us for a flow that left us until its new owner says otherwise: looks after which that is no more believed. */
const STALE_LOOKS = 10_000;

export class Handoff implements Sharding {
  readonly directory: Directory;
  readonly incoming: SpscRing[] = [];
  /** While a returned packet is processed: it comes before those that a barrier holds off. */
  returning = false;
  private readonly outgoing: SpscRing[] = [];
  private readonly dirty: Uint8Array;
  private readonly words: Int32Array;
  private readonly outstanding: Int32Array;
  private readonly freeForFlow: number;
  private marks = 0;
  private staleLooks = 0;
  private moving = -1;
  private movingTo = -1;

  /** @param wakeFds the workers' wake eventfds */
  constructor(
    readonly worker: number,
    private readonly memory: PoolMemory,
    private readonly flows: Flows,
    private readonly mappings: UdpMappings,
    private readonly wakeFds: readonly number[],
  ) {
    const { workers } = memory;
    this.directory = new Directory(memory.directory, memory.seed);
    this.words = new Int32Array(memory.workerWords);
    this.outstanding = new Int32Array(memory.outstanding[worker]!, 0, workers);
    this.dirty = new Uint8Array(workers);
    this.freeForFlow = Math.min(FREE_FOR_FLOW, memory.flows >>> 2);
    for (let other = 0; other < workers; other++) {
      const ring = (from: number, to: number): SpscRing =>
        new SpscRing(memory.handoff[from * workers + to]!, HANDOFF_CAPACITY, HANDOFF_WORDS);
      this.outgoing.push(ring(worker, other));
      this.incoming.push(ring(other, worker));
    }
  }

  private get alone(): boolean {
    return this.memory.workers === 1;
  }

  known(flow: number, origin: Origin): number {
    if (this.alone) return PROCEED;
    const r = this.flows.records;
    const f = flow * FLOW_WORDS;
    if (origin.worker === this.worker) {
      if (r[f + BARRIER] !== 0 && !this.returning) return PARK;
      r[f + FOREIGN_RUN] = 0;
      return PROCEED;
    }
    if (r[f + FOREIGN_WORKER] !== origin.worker) r[f + FOREIGN_RUN] = 0;
    r[f + FOREIGN_WORKER] = origin.worker;
    if (++r[f + FOREIGN_RUN]! >= REHOME_RUN) {
      this.moving = flow;
      this.movingTo = origin.worker;
    }
    return PROCEED;
  }

  unknown({ source, destination, ports }: FlowTuple, key: number, opens: boolean, origin: Origin): number {
    if (this.alone) return PROCEED;
    let owner = this.directory.lookup(source, destination, ports, key);
    if (owner < 0) {
      if (!opens) return PROCEED;
      owner = this.claim(source, destination, ports, key);
      if (owner === this.worker || owner < 0) return PROCEED;
    }
    const foreign = origin.worker !== this.worker;
    if (owner !== this.worker) return foreign ? AWAY : this.send(owner, origin);
    if (++this.staleLooks < STALE_LOOKS) return foreign ? AWAY : PARK;
    this.staleLooks = 0;
    this.directory.remove(source, destination, ports, key);
    return foreign ? AWAY : PROCEED;
  }

  /** Claims a flow for this worker, unless there is an owner already. Those of a UDP mapping begin in one worker: they share a port. */
  private claim(source: number, destination: number, ports: number, key: number): number {
    if ((key & UDP_KEY) !== 0) {
      const owner = this.directory.insert(source, NO_PEER, ports & ~0xffff, key, this.worker);
      if (owner >= 0 && owner !== this.worker) return owner;
    }
    return this.directory.insert(source, destination, ports, key, this.worker);
  }

  opened({ source, destination, ports }: FlowTuple, key: number): void {
    if (this.alone || this.flows.shard.lookup(source, destination, ports, key) >= 0) return;
    this.missing(source, destination, ports, key);
  }

  /** This worker couldn't take a flow that it owns, or is about to, by the directory. */
  private missing(source: number, destination: number, ports: number, key: number): void {
    this.directory.remove(source, destination, ports, key);
    const guestPort = ports & ~0xffff;
    if ((key & UDP_KEY) !== 0 && this.mappings.find(source, guestPort, key) < 0)
      this.mappingEnded(source, guestPort, key, -1);
  }

  /** This worker has no flow of a UDP mapping any more: it is worker `heir`'s, or nobody's for -1. */
  private mappingEnded(source: number, guestPort: number, key: number, heir: number): void {
    if (this.directory.lookup(source, NO_PEER, guestPort, key) !== this.worker) return;
    if (heir < 0) this.directory.remove(source, NO_PEER, guestPort, key);
    else this.directory.setOwner(source, NO_PEER, guestPort, key, heir);
  }

  /** A flow leaves this shard for worker `heir`'s, or for good. */
  private leaveMapping(flow: number, heir: number): void {
    if (!isUdp(this.flows.records, flow) || !this.mappings.leave(flow) || this.alone) return;
    const r = this.flows.records;
    const f = flow * FLOW_WORDS;
    this.mappingEnded(r[f + SOURCE]!, r[f + GUEST_PORT]!, r[f + KEY]!, heir);
  }

  /** The flow ends here: nobody owns it any more. */
  flowClosed(flow: number): void {
    this.leaveMapping(flow, -1);
    if (this.alone) return;
    const r = this.flows.records;
    const f = flow * FLOW_WORDS;
    this.directory.remove(r[f + SOURCE]!, r[f + DESTINATION]!, r[f + PORTS]!, r[f + KEY]!);
  }

  /** Hands a packet to the owner of its flow. A full ring drops it, and says so in the counters. */
  private send(owner: number, origin: Origin): number {
    const { counters } = this.flows;
    if (this.outstanding[owner]! >= MAX_OUTSTANDING || !this.put(owner, PACKET, origin)) {
      counters[C.handoffsDropped]!++;
      return 0;
    }
    this.outstanding[owner]!++;
    counters[C.handoffsOut]!++;
    return AWAY;
  }

  /** Tells a packet's worker what became of it: COMPLETE or RETURN. */
  answer(kind: number, origin: Origin): void {
    this.put(origin.worker, kind, origin);
  }

  /** An answer came in from `from`. */
  answered(from: number): void {
    this.outstanding[from]!--;
  }

  private put(to: number, kind: number, origin: Origin): boolean {
    return this.stage(to, kind, origin.device, origin.queue, origin.head);
  }

  private stage(to: number, kind: number, a: number, b: number, c: number): boolean {
    const ring = this.outgoing[to]!;
    const at = ring.reserve();
    if (at < 0) return false;
    ring.data[at] = kind;
    ring.data[at + 1] = a;
    ring.data[at + 2] = b;
    ring.data[at + 3] = c;
    ring.data[at + ATTEMPTED] = 0;
    ring.commit();
    this.dirty[to] = 1;
    return true;
  }

  /** `known` found a flow to have moved away. */
  get marked(): boolean {
    return this.moving >= 0;
  }

  /** Moves that flow, once the packet that told so is dealt with. */
  rehomeMarked(): void {
    const flow = this.moving;
    this.moving = -1;
    this.rehome(flow, this.movingTo);
  }

  /** Passes a flow, its socket included, to another worker. False when it has to stay for now. */
  rehome(flow: number, to: number): boolean {
    const { records: r, shard, engine, counters } = this.flows;
    const f = flow * FLOW_WORDS;
    const state = r[f + STATE]!;
    if (state !== ESTABLISHED && state !== SYN_RECEIVED && state !== UDP_OPEN) return false;
    if (r[f + HELD_FIRST]! >= 0 || r[f + BARRIER] !== 0) return false;
    const ring = this.outgoing[to]!;
    const free = this.words[to * WORKER_WORDS + FREE_RECORDS]!;
    if (ring.free() < ROOM_FOR_FLOW || free < this.freeForFlow) return false;
    const at = ring.reserve();
    engine.unwatch(r[f + FD]!);
    ring.data[at] = FLOW;
    for (let word = 0; word < FLOW_WORDS; word++) ring.data[at + RECORD_AT + word] = r[f + word]!;
    ring.commit();
    this.dirty[to] = 1;
    r[f + FD] = -1;
    this.leaveMapping(flow, to);
    shard.release(flow);
    counters[C.rehomedOut]!++;
    return true;
  }

  /** Takes over the flow of a FLOW message. */
  install(from: number, data: Int32Array, at: number): void {
    const { records: r, shard, engine, counters } = this.flows;
    const record = at + RECORD_AT;
    const fd = data[record + FD]!;
    const flow = shard.allocate();
    if (flow < 0) {
      counters[C.shardFull]!++;
      engine.abort(fd);
      this.missing(data[record + SOURCE]!, data[record + DESTINATION]!, data[record + PORTS]!, data[record + KEY]!);
      return;
    }
    const f = flow * FLOW_WORDS;
    const generation = r[f + GENERATION]!;
    for (let word = 0; word < FLOW_WORDS; word++) r[f + word] = data[record + word]!;
    r[f + GENERATION] = generation;
    r[f + FOREIGN_RUN] = 0;
    shard.adopt(flow);
    if (isUdp(r, flow)) this.mappings.join(flow);
    this.directory.setOwner(r[f + SOURCE]!, r[f + DESTINATION]!, r[f + PORTS]!, r[f + KEY]!, this.worker);
    r[f + BARRIER] = this.mark(from, flow, generation) ? 1 : 0;
    this.flows.watch(flow);
    r[f + FLAGS] = (r[f + FLAGS]! & ~LISTED) | READABLE | ACK_NOW;
    this.flows.arm(flow, this.flows.now);
    this.flows.list(flow);
    counters[C.rehomedIn]!++;
  }

  /** Asks `from` for a sign that it has seen everything that we sent so far. False if too many such questions are open. */
  private mark(from: number, flow: number, generation: number): boolean {
    if (this.marks >= MAX_MARKS || !this.stage(from, MARK, flow, generation, 0)) return false;
    this.marks++;
    return true;
  }

  markBack(to: number, flow: number, generation: number): void {
    this.stage(to, MARK_BACK, flow, generation, 0);
  }

  /** A MARK came back: the flow that waits for it may go on. */
  markCameBack(flow: number, generation: number): void {
    const f = flow * FLOW_WORDS;
    // A predecessor may have asked.
    this.marks = Math.max(0, this.marks - 1);
    if (this.flows.records[f + GENERATION] === generation) this.flows.records[f + BARRIER] = 0;
  }

  /** Publishes what was written in this cycle, and wakes the workers that sleep. */
  flush(): void {
    for (let other = 0; other < this.dirty.length; other++) {
      if (this.dirty[other] === 0) continue;
      this.dirty[other] = 0;
      this.outgoing[other]!.publish();
      if (Atomics.load(this.words, other * WORKER_WORDS + SLEEPING) === 1)
        this.flows.engine.signal(this.wakeFds[other]!);
    }
  }

  /** Whether a message waits. */
  get pending(): boolean {
    for (let other = 0; other < this.incoming.length; other++) if (this.incoming[other]!.peek() >= 0) return true;
    return false;
  }
}

/** Takes all messages from one worker to another, both of which have ended, and returns the sockets of flows among them. */
export function movingSockets(memory: PoolMemory, from: number, to: number): number[] {
  const ring = new SpscRing(memory.handoff[from * memory.workers + to]!, HANDOFF_CAPACITY, HANDOFF_WORDS);
  const sockets: number[] = [];
  for (let at = ring.peek(); at >= 0; at = ring.peek()) {
    if (ring.data[at] === FLOW && ring.data[at + RECORD_AT + FD]! >= 0) sockets.push(ring.data[at + RECORD_AT + FD]!);
    ring.release();
  }
  return sockets;
}
