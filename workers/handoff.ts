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
 * Room in a ring of HANDOFF_CAPACITY: at most MAX_OUTSTANDING PACKETs of ours, as many answers to theirs, the rest for
 * FLOWs and MARKs. So an answer always fits.
 */
import { C } from './counters.js';
import {
  ACK_NOW,
  BARRIER,
  DESTINATION,
  DEVICE,
  ESTABLISHED,
  FD,
  FLAGS,
  FLOW_WORDS,
  FOREIGN_RUN,
  FOREIGN_WORKER,
  GENERATION,
  HELD_FIRST,
  LISTED,
  PORTS,
  READABLE,
  SOURCE,
  STATE,
} from './flow.js';
import type { Origin } from './nat/guestLink.js';
import { PROCEED, type Sharding } from './nat/nat.js';
import type { TcpFlows } from './nat/tcpFlows.js';
import type { Segment } from './nat/tcpInput.js';
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
import { TCP_ACK, TCP_RST, TCP_SYN } from './wire/tcp.js';

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
/** Where a FLOW message's record begins. */
const RECORD_AT = 8;

const MAX_OUTSTANDING = 512;
/** A flow moves only while the ring has this much room: for all answers and packets, and its MARK. */
const ROOM_FOR_FLOW = 2 * MAX_OUTSTANDING + 64;
/** Packets in a row from another worker's queue after which the flow follows. */
const REHOME_RUN = 16;
/** The directory may name us for a flow that left us until its new owner says otherwise: looks after which that is no more believed. */
const STALE_LOOKS = 10_000;
const MARKS = 1024;

export class Handoff implements Sharding {
  readonly directory: Directory;
  readonly incoming: SpscRing[] = [];
  /** While a returned packet is processed: it comes before those that a barrier holds off. */
  returning = false;
  private readonly outgoing: SpscRing[] = [];
  private readonly dirty: Uint8Array;
  private readonly words: Int32Array;
  private readonly outstanding: Int32Array;
  private readonly markFlows = new Int32Array(MARKS);
  private readonly markGenerations = new Int32Array(MARKS);
  private markCount = 0;
  private staleLooks = 0;
  private moving = -1;
  private movingTo = -1;

  /** @param wakeFds the workers' wake eventfds */
  constructor(
    readonly worker: number,
    private readonly memory: PoolMemory,
    private readonly flows: TcpFlows,
    private readonly wakeFds: readonly number[],
  ) {
    const { workers } = memory;
    this.directory = new Directory(memory.directory, memory.seed);
    this.words = new Int32Array(memory.workerWords);
    this.outstanding = new Int32Array(memory.outstanding, 4 * workers * worker, workers);
    this.dirty = new Uint8Array(workers);
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

  unknown(segment: Segment, origin: Origin): number {
    if (this.alone) return PROCEED;
    const { source, destination, ports, flags } = segment;
    let owner = this.directory.lookup(source, destination, ports, origin.device);
    if (owner < 0) {
      if ((flags & (TCP_SYN | TCP_ACK | TCP_RST)) !== TCP_SYN) return PROCEED;
      owner = this.directory.insert(source, destination, ports, origin.device, this.worker);
      if (owner === this.worker || owner < 0) return PROCEED;
    }
    if (origin.worker !== this.worker) return AWAY;
    if (owner !== this.worker) return this.send(owner, origin);
    if (++this.staleLooks < STALE_LOOKS) return PARK;
    this.staleLooks = 0;
    this.directory.remove(source, destination, ports, origin.device);
    return PROCEED;
  }

  opened(segment: Segment, device: number): void {
    if (this.alone) return;
    const { source, destination, ports } = segment;
    if (this.flows.shard.lookup(source, destination, ports, device) >= 0) return;
    this.directory.remove(source, destination, ports, device);
  }

  /** The flow ends here: nobody owns it any more. */
  flowClosed(flow: number): void {
    if (this.alone) return;
    const r = this.flows.records;
    const f = flow * FLOW_WORDS;
    this.directory.remove(r[f + SOURCE]!, r[f + DESTINATION]!, r[f + PORTS]!, r[f + DEVICE]!);
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
    const ring = this.outgoing[to]!;
    const at = ring.reserve();
    if (at < 0) return false;
    ring.data[at] = kind;
    ring.data[at + 1] = origin.device;
    ring.data[at + 2] = origin.queue;
    ring.data[at + 3] = origin.head;
    ring.commit();
    this.dirty[to] = 1;
    return true;
  }

  /** Moves the flow that `known` found to have moved away, once the packet that told so is dealt with. */
  rehomeMarked(): void {
    if (this.moving < 0) return;
    const flow = this.moving;
    this.moving = -1;
    this.rehome(flow, this.movingTo);
  }

  /** Passes a flow, its socket included, to another worker. False when it has to stay for now. */
  rehome(flow: number, to: number): boolean {
    const { records: r, shard, engine, counters } = this.flows;
    const f = flow * FLOW_WORDS;
    if (r[f + STATE] !== ESTABLISHED || r[f + HELD_FIRST]! >= 0 || r[f + BARRIER] !== 0) return false;
    const ring = this.outgoing[to]!;
    if (ring.free() < ROOM_FOR_FLOW || this.words[to * WORKER_WORDS + FREE_RECORDS]! < 64) return false;
    const at = ring.reserve();
    engine.unwatch(r[f + FD]!);
    ring.data[at] = FLOW;
    for (let word = 0; word < FLOW_WORDS; word++) ring.data[at + RECORD_AT + word] = r[f + word]!;
    ring.commit();
    this.dirty[to] = 1;
    r[f + FD] = -1;
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
      const [source, destination] = [data[record + SOURCE]!, data[record + DESTINATION]!];
      this.directory.remove(source, destination, data[record + PORTS]!, data[record + DEVICE]!);
      return;
    }
    const f = flow * FLOW_WORDS;
    const generation = r[f + GENERATION]!;
    for (let word = 0; word < FLOW_WORDS; word++) r[f + word] = data[record + word]!;
    r[f + GENERATION] = generation;
    r[f + FOREIGN_RUN] = 0;
    shard.adopt(flow);
    this.directory.setOwner(r[f + SOURCE]!, r[f + DESTINATION]!, r[f + PORTS]!, r[f + DEVICE]!, this.worker);
    r[f + BARRIER] = this.mark(from, flow, generation);
    engine.watchSocket(fd, flow, generation);
    r[f + FLAGS] = (r[f + FLAGS]! & ~LISTED) | READABLE | ACK_NOW;
    this.flows.arm(flow, this.flows.now);
    this.flows.list(flow);
    counters[C.rehomedIn]!++;
  }

  /** Asks `from` for a sign that it has seen everything that we sent so far. Returns its number; 0 if it can't be asked. */
  private mark(from: number, flow: number, generation: number): number {
    const ring = this.outgoing[from]!;
    const at = ring.reserve();
    if (at < 0) return 0;
    this.markCount = (this.markCount % 0x3fffffff) + 1;
    this.markFlows[this.markCount % MARKS] = flow;
    this.markGenerations[this.markCount % MARKS] = generation;
    ring.data[at] = MARK;
    ring.data[at + 1] = this.markCount;
    ring.commit();
    this.dirty[from] = 1;
    return this.markCount;
  }

  markBack(to: number, mark: number): void {
    const ring = this.outgoing[to]!;
    const at = ring.reserve();
    if (at < 0) return;
    ring.data[at] = MARK_BACK;
    ring.data[at + 1] = mark;
    ring.commit();
    this.dirty[to] = 1;
  }

  /** A MARK came back: the flow that waits for it may go on. */
  marked(mark: number): void {
    const r = this.flows.records;
    const flow = this.markFlows[mark % MARKS]!;
    const f = flow * FLOW_WORDS;
    if (r[f + GENERATION] === this.markGenerations[mark % MARKS] && r[f + BARRIER] === mark) r[f + BARRIER] = 0;
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
