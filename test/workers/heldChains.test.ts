import { beforeEach, describe, expect, it } from 'vitest';
import {
  ESTABLISHED,
  FIN_HELD,
  FLAGS,
  FLOW_WORDS,
  HELD_BYTES,
  HELD_FIRST,
  HELD_LAST,
  STATE,
} from '../../workers/flow.js';
import { HeldChains } from '../../workers/heldChains.js';
import { Origin } from '../../workers/nat/guestLink.js';

const ENTRIES = 4;
const FLOWS = 3;

let records: Int32Array;
let words: Int32Array;
let returned: number[];
let held: HeldChains;

beforeEach(() => {
  records = new Int32Array(FLOWS * FLOW_WORDS);
  for (let flow = 0; flow < FLOWS; flow++) {
    records[flow * FLOW_WORDS + STATE] = ESTABLISHED;
    records[flow * FLOW_WORDS + HELD_FIRST] = records[flow * FLOW_WORDS + HELD_LAST] = -1;
  }
  words = new Int32Array(HeldChains.words(ENTRIES));
  returned = [];
  held = new HeldChains(words, ({ head }) => returned.push(head));
});

const origin = (head: number, queue = 1, device = 0): Origin =>
  Object.assign(new Origin(), { worker: 1, device, queue, pair: queue >> 1, head });
const append = (flow: number, head: number, queue = 1, device = 0): boolean =>
  held.append(records, flow * FLOW_WORDS, origin(head, queue, device), 54, 100);

describe('HeldChains', () => {
  it('gives chains back one by one, as their bytes are taken', () => {
    append(0, 7);
    append(0, 8);
    expect(records[HELD_BYTES]).toBe(200);
    held.consume(records, 0, 60);
    expect([held.skip(records, 0), held.length(records, 0), returned]).toEqual([114, 40, []]);
    held.consume(records, 0, 40);
    expect([held.skip(records, 0), held.length(records, 0), returned]).toEqual([54, 100, [7]]);
    held.consume(records, 0, 100);
    expect([returned, records[HELD_FIRST], records[HELD_LAST], records[HELD_BYTES]]).toEqual([[7, 8], -1, -1, 0]);
  });

  it('says where the first chain came from', () => {
    append(0, 300, 129, 255);
    const out = new Origin();
    held.origin(records, 0, out);
    expect({ ...out }).toEqual({ ...origin(300, 129, 255) });
  });

  it('takes no more than it has entries for', () => {
    expect([1, 2, 3, 4, 5].map((head) => append(head % FLOWS, head))).toEqual([true, true, true, true, false]);
    held.releaseAll(records, 1 * FLOW_WORDS);
    expect(returned).toEqual([1, 4]);
    expect(append(0, 6)).toBe(true);
  });

  it('forgets a FIN behind chains that go back: the guest sends it again', () => {
    append(0, 1);
    records[FLAGS] = FIN_HELD;
    held.releaseAll(records, 0);
    expect([records[FLAGS], records[HELD_BYTES], returned]).toEqual([0, 0, [1]]);
  });

  it('gives back what is kept of a queue that stops, and all of the same flow: bytes behind a gap are worth nothing', () => {
    append(0, 1, 1);
    append(0, 2, 3);
    append(1, 3, 1);
    append(2, 4, 3, 1);
    held.releaseQueue(records, 0, 3);
    expect(returned).toEqual([1, 2]);
    expect(records[1 * FLOW_WORDS + HELD_BYTES]).toBe(100);
    expect(records[2 * FLOW_WORDS + HELD_BYTES]).toBe(100);
  });

  it('is the same to a successor', () => {
    append(0, 1);
    append(1, 2);
    append(0, 3);
    held.consume(records, 0, 30);
    const successor = new HeldChains(words, ({ head }) => returned.push(head));
    held = successor;
    expect([held.length(records, 0), append(2, 4), append(2, 5)]).toEqual([70, true, false]);
    held.releaseAll(records, 0);
    expect(returned).toEqual([1, 3]);
  });
});
