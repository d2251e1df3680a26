/** The turns of flows that have something for the guest. */
import { C } from './counters.js';
import type { DeviceView } from './deviceView.js';
import { DEVICE, FLOW_WORDS } from './flow.js';
import type { Handoff } from './handoff.js';
import { OUTPUT_BLOCKED, OUTPUT_MORE, OUTPUT_NO_SINK, type FlowProtocol } from './flowProtocol.js';
import type { Flows } from './nat/flows.js';
import { RECEIVED, type StageTimer } from './stageTimer.js';
import { BULKY, SMALL } from './turnLists.js';

/** Turns of small flows of one pair per cycle. */
const SMALL_TURNS = 256;
/** Bytes that one pair's bulk may come to per cycle; what one cycle exceeds, the next has less (deficit round robin). */
const BULK_QUANTUM = 1 << 20;
/** Flows without buffers that are looked at again in a cycle that nothing was told of new ones. */
const WAITING_BUDGET = 16;

export class OutputTurns {
  /** A flow has to move to another worker and can't yet. */
  anyHomeless = false;
  /** Bytes that each pair's bulk may still come to. */
  private readonly credit: Int32Array;

  /** @param worker this one, of `workers` */
  constructor(
    private readonly worker: number,
    private readonly workers: number,
    private readonly devices: readonly (DeviceView | undefined)[],
    private readonly flows: Flows,
    private readonly protocols: Pick<FlowProtocol, 'run'>,
    private readonly handoff: Handoff,
    private readonly timer: StageTimer,
    /** Queue pairs, of all devices. */
    pairs: number,
  ) {
    this.credit = new Int32Array(pairs);
  }

  /** Gives listed flows their turns, those that had no buffers last time first: else who gets an ACK would always overtake them. */
  run(): void {
    const { listed, waiting } = this.flows;
    this.timer.start();
    if (listed.length > 0) {
      for (let n = Math.min(waiting.length, WAITING_BUDGET); n > 0; n--) this.turn(waiting.shift());
    }
    for (let n = listed.busyPairs; n > 0; n--) this.pair(listed.nextPair());
  }

  /** Gives one pair's flows their turns: all that move little, and bulk as far as the pair's credit goes. */
  private pair(pair: number): void {
    const { listed } = this.flows;
    for (let n = Math.min(listed.size(pair, SMALL), SMALL_TURNS); n > 0; n--) this.turn(listed.shift(pair, SMALL));
    const bulky = listed.size(pair, BULKY);
    if (bulky > 0) this.bulk(pair, bulky);
    listed.endTurn(pair);
  }

  private bulk(pair: number, flows: number): void {
    const { listed, counters } = this.flows;
    let credit = Math.min(this.credit[pair]! + BULK_QUANTUM, BULK_QUANTUM);
    for (let n = flows; n > 0 && credit > 0; n--) {
      const before = counters[C.bytesToGuest]!;
      this.turn(listed.shift(pair, BULKY));
      credit -= counters[C.bytesToGuest]! - before;
    }
    this.credit[pair] = credit;
  }

  private turn(flow: number): void {
    const { flows } = this;
    if (!flows.takeListed(flow)) return;
    const result = this.protocols.run(flow);
    this.timer.end(RECEIVED);
    if (result === OUTPUT_MORE) flows.list(flow);
    else if (result === OUTPUT_BLOCKED) this.blocked(flow);
    else if (result === OUTPUT_NO_SINK) this.homeless(flow);
  }

  /** No receive buffers: the flow waits for the driver's kick, unless buffers came just now. */
  private blocked(flow: number): void {
    const { records } = this.flows;
    const view = this.devices[records[flow * FLOW_WORDS + DEVICE]!]!;
    this.flows.counters[C.receiveBuffersMissing]!++;
    if (view.wantBuffers(this.flows.pairOf(flow))) this.flows.list(flow);
    else this.flows.wait(flow);
  }

  /** None of this worker's receive queues is on: the flow moves to a worker that has one, or waits. */
  private homeless(flow: number): void {
    const view = this.devices[this.flows.records[flow * FLOW_WORDS + DEVICE]!]!;
    const pair = view.enabledPair();
    const owner = pair % this.workers;
    if (pair >= 0 && owner !== this.worker) {
      if (this.handoff.rehome(flow, owner)) return;
      this.anyHomeless = true;
    }
    this.flows.wait(flow);
  }

  /** Flows that had to move to another worker, and couldn't, try again. */
  retryHomeless(): void {
    if (!this.anyHomeless) return;
    this.anyHomeless = false;
    this.flows.wakeWaiting();
  }
}
