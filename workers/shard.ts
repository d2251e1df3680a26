/**
 * A worker's shard: the records of its flows, found by their 5-tuple and woken by their timers.
 *
 * Records, and the number of free ones, lie in shared memory. The rest (index, wheel, free list) follows from the records: a successor
 * of the worker derives it anew, so that a thread that died in the middle of a change leaves nothing inconsistent.
 */
import {
  DESTINATION,
  FLOW_WORDS,
  FREE,
  GENERATION,
  FLAGS,
  KEY,
  LISTED,
  PORTS,
  SOURCE,
  STATE,
  TIMER_DEADLINE,
  TIMER_NEXT,
  TIMER_PREV,
  TIMER_SLOT,
} from './flow.js';
import { FlowIndex } from './shared/flowIndex.js';
import { TimerWheel } from './shared/timerWheel.js';

export class Shard {
  readonly capacity: number;
  readonly index: FlowIndex;
  readonly wheel: TimerWheel;
  private readonly freeList: Int32Array;
  private freeCount = 0;

  /**
   * @param records `capacity` × FLOW_WORDS words of shared memory
   * @param freeWord one word of shared memory that tells others how many records are free
   */
  constructor(
    readonly records: Int32Array,
    seed: number,
    private readonly freeWord: Int32Array,
  ) {
    this.capacity = records.length / FLOW_WORDS;
    let entries = 16;
    while (entries < 2 * this.capacity) entries *= 2;
    this.index = new FlowIndex(new Int32Array(entries), records, FLOW_WORDS, SOURCE, DESTINATION, PORTS, KEY, seed);
    const wheel = new Int32Array(TimerWheel.words());
    this.wheel = new TimerWheel(wheel, records, FLOW_WORDS, TIMER_NEXT, TIMER_PREV, TIMER_SLOT, TIMER_DEADLINE);
    this.freeList = new Int32Array(this.capacity);
    this.derive();
  }

  /** Rebuilds everything from the records. */
  private derive(): void {
    this.index.clear();
    this.freeCount = 0;
    for (let flow = this.capacity - 1; flow >= 0; flow--) {
      // Nothing is written to records that were never used: they cost no memory until then.
      if (this.records[flow * FLOW_WORDS + STATE] === FREE) {
        this.freeList[this.freeCount++] = flow;
        continue;
      }
      this.records[flow * FLOW_WORDS + TIMER_SLOT] = -1;
      this.records[flow * FLOW_WORDS + FLAGS]! &= ~LISTED;
      this.index.insert(flow);
    }
    this.wheel.clear();
    this.freeWord[0] = this.freeCount;
  }

  /** Number of flows. */
  get size(): number {
    return this.capacity - this.freeCount;
  }

  lookup(source: number, destination: number, ports: number, key: number): number {
    return this.index.lookup(source, destination, ports, key);
  }

  /** Takes a free record and clears all but its generation, which goes up. -1 when the shard is full. */
  allocate(): number {
    if (this.freeCount === 0) return -1;
    const flow = this.freeList[--this.freeCount]!;
    const base = flow * FLOW_WORDS;
    const generation = this.records[base + GENERATION]!;
    for (let word = 0; word < FLOW_WORDS; word++) this.records[base + word] = 0;
    this.records[base + GENERATION] = (generation + 1) & 0x3fffffff;
    this.records[base + TIMER_SLOT] = -1;
    this.freeWord[0] = this.freeCount;
    return flow;
  }

  /** Makes a record that `allocate` gave and that was filled with another shard's findable. */
  adopt(flow: number): void {
    this.records[flow * FLOW_WORDS + TIMER_SLOT] = -1;
    this.index.insert(flow);
  }

  /** Gives an indexed record back. */
  release(flow: number): void {
    this.index.remove(flow);
    this.wheel.cancel(flow);
    this.records[flow * FLOW_WORDS + STATE] = FREE;
    this.records[flow * FLOW_WORDS + FLAGS] = 0;
    this.freeList[this.freeCount++] = flow;
    this.freeWord[0] = this.freeCount;
  }
}
