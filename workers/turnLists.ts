/**
 * Flows that have something for the guest, in the order of their turns: by queue pair, so that no guest waits behind the flows of
 * another, and within a pair those that move little apart from bulk, so that an acknowledgment or an answer doesn't wait behind
 * downloads. A flow is in one list at most: pushed again, it keeps its place.
 */
import { FlowList } from './flowList.js';

/** Lists of one pair. */
export const SMALL = 0;
export const BULKY = 1;

export class TurnLists {
  /** Flows in all lists. */
  length = 0;
  /** The flow behind each in its list, and whether it is in one. */
  private readonly next: Int32Array;
  private readonly present: Uint8Array;
  /** First and last flow, and number of flows, of each list. */
  private readonly first: Int32Array;
  private readonly last: Int32Array;
  private readonly count: Int32Array;
  /** Pairs that have any. */
  private readonly pairs: FlowList;

  /**
   * @param flows how many flows there are, numbered from 0
   * @param pairs how many queue pairs, of all devices
   */
  constructor(flows: number, pairs: number) {
    this.next = new Int32Array(flows);
    this.present = new Uint8Array(flows);
    this.first = new Int32Array(2 * pairs);
    this.last = new Int32Array(2 * pairs);
    this.count = new Int32Array(2 * pairs);
    this.pairs = new FlowList(pairs);
  }

  /** @param kind SMALL or BULKY */
  push(flow: number, pair: number, kind: number): void {
    if (this.present[flow] !== 0) return;
    this.present[flow] = 1;
    const list = 2 * pair + kind;
    if (this.count[list] === 0) this.first[list] = flow;
    else this.next[this.last[list]!] = flow;
    this.last[list] = flow;
    this.count[list]!++;
    this.length++;
    this.pairs.push(pair);
  }

  /** Flows in one list of a pair. */
  size(pair: number, kind: number): number {
    return this.count[2 * pair + kind]!;
  }

  /** The first flow of a list that isn't empty, taken off it. */
  shift(pair: number, kind: number): number {
    const list = 2 * pair + kind;
    const flow = this.first[list]!;
    this.first[list] = this.next[flow]!;
    this.count[list]!--;
    this.length--;
    this.present[flow] = 0;
    return flow;
  }

  /** Number of pairs that have flows. */
  get busyPairs(): number {
    return this.pairs.length;
  }

  /** The next pair that has flows. It comes last from now on: `endTurn` follows. */
  nextPair(): number {
    return this.pairs.shift();
  }

  /** The pair had its turn. */
  endTurn(pair: number): void {
    if (this.count[2 * pair]! + this.count[2 * pair + 1]! > 0) this.pairs.push(pair);
  }
}
