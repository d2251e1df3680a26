/** The flows of one worker, of all protocols: whose turn it is, timers, and the end. */
import { C, type Counters } from '../counters.js';
import type { Engine } from '../engine/engine.js';
import {
  BULK,
  DEVICE,
  FD,
  FLAGS,
  FLOW_WORDS,
  FREE,
  GENERATION,
  LISTED,
  PAIR,
  STATE,
  TIMER_DEADLINE,
  TIMER_SLOT,
} from '../flow.js';
import { FlowList } from '../flowList.js';
import { isUdp } from '../flowProtocol.js';
import type { HeldChains } from '../heldChains.js';
import type { PoolDimensions } from '../poolMemory.js';
import type { Shard } from '../shard.js';
import { BULKY, SMALL, TurnLists } from '../turnLists.js';
import type { GuestLink } from './guestLink.js';
import type { NatSettings } from './settings.js';

/** What the flows need of the worker around them. */
export interface FlowHost {
  link(device: number): GuestLink;
  /** The flow, whose record is still there, ends. */
  flowClosed(flow: number): void;
}

export class Flows {
  readonly records: Int32Array;
  /** Flows that have something for the guest; those that were closed meanwhile aren't marked LISTED any more. */
  readonly listed: TurnLists;
  /** Flows that found no receive buffers. */
  readonly waiting: FlowList;

  constructor(
    readonly shard: Shard,
    readonly engine: Engine,
    readonly held: HeldChains,
    readonly counters: Counters,
    readonly settings: NatSettings,
    readonly host: FlowHost,
    private readonly dimensions: Pick<PoolDimensions, 'devices' | 'pairs'>,
  ) {
    this.records = shard.records;
    this.listed = new TurnLists(shard.capacity, dimensions.devices * dimensions.pairs);
    this.waiting = new FlowList(shard.capacity);
  }

  /** Milliseconds now, of this cycle. */
  get now(): number {
    return this.engine.clock[0]!;
  }

  /** Puts the flow on the list of those that have something for the guest. */
  list(flow: number): void {
    const f = flow * FLOW_WORDS;
    if ((this.records[f + FLAGS]! & LISTED) !== 0) return;
    this.records[f + FLAGS]! |= LISTED;
    this.pushListed(flow);
  }

  private pushListed(flow: number): void {
    const f = flow * FLOW_WORDS;
    const { records: r } = this;
    const kind = (r[f + FLAGS]! & BULK) === 0 ? SMALL : BULKY;
    this.listed.push(flow, r[f + DEVICE]! * this.dimensions.pairs + r[f + PAIR]!, kind);
  }

  /** Lets the flow wait, still marked as listed, until the guest has posted buffers. */
  wait(flow: number): void {
    this.records[flow * FLOW_WORDS + FLAGS]! |= LISTED;
    this.waiting.push(flow);
  }

  /** Buffers came, or queues: all that waited try again. */
  wakeWaiting(): void {
    for (let n = this.waiting.length; n > 0; n--) this.pushListed(this.waiting.shift());
  }

  /** Unmarks a flow that came off the list. False for one that was closed since. */
  takeListed(flow: number): boolean {
    const f = flow * FLOW_WORDS;
    if ((this.records[f + FLAGS]! & LISTED) === 0) return false;
    this.records[f + FLAGS]! &= ~LISTED;
    return true;
  }

  pairOf(flow: number): number {
    return this.records[flow * FLOW_WORDS + PAIR]!;
  }

  /** Listens to the flow's socket. Returns 0 or -errno. */
  watch(flow: number): number {
    const f = flow * FLOW_WORDS;
    const fd = this.records[f + FD]!;
    const generation = this.records[f + GENERATION]!;
    const udp = isUdp(this.records, flow);
    return udp ? this.engine.watchDatagrams(fd, flow, generation) : this.engine.watchSocket(fd, flow, generation);
  }

  /** Makes the flow's timer fire no later than `deadline`. */
  arm(flow: number, deadline: number): void {
    const f = flow * FLOW_WORDS;
    if (this.records[f + TIMER_SLOT]! >= 0 && ((this.records[f + TIMER_DEADLINE]! - deadline) | 0) <= 0) return;
    this.shard.wheel.arm(flow, deadline, this.now);
  }

  /** Ends the flow, its socket closed in order (`abort` false) or by a RST. */
  close(flow: number, abort: boolean): void {
    const { records: r } = this;
    const f = flow * FLOW_WORDS;
    if (r[f + STATE] === FREE) return;
    this.dropHeld(flow);
    const fd = r[f + FD]!;
    if (fd >= 0) {
      if (abort) this.engine.abort(fd);
      else this.engine.close(fd);
    }
    r[f + FD] = -1;
    this.host.flowClosed(flow);
    this.shard.release(flow);
    this.counters[C.flowsClosed]!++;
  }

  /** Chains that the flow kept go back; their bytes weren't acknowledged, so the guest sends them again. */
  dropHeld(flow: number): void {
    const f = flow * FLOW_WORDS;
    this.held.releaseAll(this.records, f);
  }
}
