/** Whose turn it is, and for how long: the flows are counted, not run. */
import { beforeEach, expect, it } from 'vitest';
import { COUNTER_NAMES, C } from '../../workers/counters.js';
import { FlowList } from '../../workers/flowList.js';
import { OUTPUT_DONE, OUTPUT_MORE } from '../../workers/flowProtocol.js';
import type { Handoff } from '../../workers/handoff.js';
import type { Flows } from '../../workers/nat/flows.js';
import { OutputTurns } from '../../workers/outputTurns.js';
import { createStageTimer } from '../../workers/stageTimer.js';
import { BULKY, SMALL, TurnLists } from '../../workers/turnLists.js';

const FLOWS = 2_000;
const SEGMENT = 65_000;
const counters = new Float64Array(COUNTER_NAMES.length);

/** What each flow is: its pair, its kind, the bytes of each of its turns, and whether it always has more. */
interface Kind {
  readonly pair: number;
  readonly kind: number;
  readonly bytes: number;
}
let kinds: Kind[];
let turns: number[];
let lists: TurnLists;
let outputTurns: OutputTurns;

beforeEach(() => {
  kinds = [];
  turns = [];
  lists = new TurnLists(FLOWS, 2);
  const list = (flow: number): void => lists.push(flow, kinds[flow]!.pair, kinds[flow]!.kind);
  const flows = { listed: lists, waiting: new FlowList(FLOWS), counters, takeListed: () => true, list };
  const output = {
    run: (flow: number) => {
      turns[flow]!++;
      counters[C.bytesToGuest]! += kinds[flow]!.bytes;
      return kinds[flow]!.bytes > 0 ? OUTPUT_MORE : OUTPUT_DONE;
    },
  };
  const timer = createStageTimer({} as never, new Int32Array(3), undefined);
  outputTurns = new OutputTurns(0, 1, [], flows as unknown as Flows, output, {} as Handoff, timer, 2);
});

/** Adds flows that are listed. Returns the first one's number. */
function add(count: number, kind: Kind): number {
  const first = kinds.length;
  for (let n = 0; n < count; n++) {
    kinds.push(kind);
    turns.push(0);
    lists.push(first + n, kind.pair, kind.kind);
  }
  return first;
}

const sum = (from: number, count: number): number => turns.slice(from, from + count).reduce((a, b) => a + b, 0);

it("a pair's one download gets its turn in each cycle, beside the hundreds of another", () => {
  add(600, { pair: 0, kind: BULKY, bytes: SEGMENT });
  const one = add(1, { pair: 1, kind: BULKY, bytes: SEGMENT });
  for (let cycle = 0; cycle < 50; cycle++) outputTurns.run();
  expect(turns[one]).toBe(50);
});

it("a pair's bulk comes to 1 MiB per cycle, and its flows get as many turns each", () => {
  add(600, { pair: 0, kind: BULKY, bytes: SEGMENT });
  const cycles = 400;
  for (let cycle = 0; cycle < cycles; cycle++) outputTurns.run();
  const bytes = SEGMENT * sum(0, 600);
  expect(Math.abs(bytes - cycles * (1 << 20))).toBeLessThanOrEqual(SEGMENT);
  expect(Math.max(...turns) - Math.min(...turns)).toBeLessThanOrEqual(1);
});

it('who has little to say has it said in the same cycle, behind any number of downloads of the pair', () => {
  add(1_000, { pair: 0, kind: BULKY, bytes: SEGMENT });
  const small = add(20, { pair: 0, kind: SMALL, bytes: 0 });
  outputTurns.run();
  expect(sum(small, 20)).toBe(20);
});

it('bulk goes on beside any number of small flows, of its pair and of another', () => {
  const bulk = add(1, { pair: 0, kind: BULKY, bytes: SEGMENT });
  add(900, { pair: 0, kind: SMALL, bytes: 1 });
  add(900, { pair: 1, kind: SMALL, bytes: 1 });
  for (let cycle = 0; cycle < 10; cycle++) outputTurns.run();
  expect(turns[bulk]).toBe(10);
});

it('a flow that is listed twice has one turn', () => {
  add(1, { pair: 1, kind: SMALL, bytes: 0 });
  lists.push(0, 1, BULKY);
  outputTurns.run();
  expect(turns).toEqual([1]);
  expect([lists.length, lists.busyPairs]).toEqual([0, 0]);
});
