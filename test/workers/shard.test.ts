import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  DESTINATION,
  KEY,
  ESTABLISHED,
  FLAGS,
  FLOW_WORDS,
  FREE,
  GENERATION,
  LISTED,
  PORTS,
  SOURCE,
  STATE,
} from '../../workers/flow.js';
import { Shard } from '../../workers/shard.js';

const CAPACITY = 8;
const SEED = 12345;

interface Memory {
  readonly records: Int32Array;
  readonly free: Int32Array;
}

const memory = (): Memory => ({ records: new Int32Array(CAPACITY * FLOW_WORDS), free: new Int32Array(1) });
const shardOver = ({ records, free }: Memory): Shard => new Shard(records, SEED, free);

/** Opens a flow from a guest's port, as the NAT does. */
function open(shard: Shard, port: number, key = 0): number {
  const flow = shard.allocate();
  if (flow < 0) return -1;
  const f = flow * FLOW_WORDS;
  shard.records[f + STATE] = ESTABLISHED;
  shard.records[f + SOURCE] = 0x0a00020f;
  shard.records[f + DESTINATION] = 0x01020304;
  shard.records[f + PORTS] = (port << 16) | 80;
  shard.records[f + KEY] = key;
  shard.index.insert(flow);
  return flow;
}

const lookup = (shard: Shard, port: number, key = 0): number =>
  shard.lookup(0x0a00020f, 0x01020304, (port << 16) | 80, key);

describe('Shard', () => {
  it('has as many records as fit, and says how many are free', () => {
    const at = memory();
    const shard = shardOver(at);
    const flows = Array.from({ length: CAPACITY }, (_, n) => open(shard, n + 1));
    expect(new Set(flows).size).toBe(CAPACITY);
    expect([shard.size, at.free[0], shard.allocate()]).toEqual([CAPACITY, 0, -1]);
    shard.release(flows[3]!);
    expect([shard.size, at.free[0], open(shard, 99)]).toEqual([CAPACITY - 1, 1, flows[3]]);
  });

  it('touches no record before its first use: memory that nobody wrote to is not resident', () => {
    const fresh = memory();
    shardOver(fresh);
    expect(fresh.records).toEqual(memory().records);
  });

  it('keeps the same 5-tuple of two devices apart', () => {
    const shard = shardOver(memory());
    const [a, b] = [open(shard, 1, 0), open(shard, 1, 1)];
    expect([lookup(shard, 1, 0), lookup(shard, 1, 1), lookup(shard, 1, 2)]).toEqual([a, b, -1]);
  });

  it('tells each use of a record by another generation, and clears everything else', () => {
    const shard = shardOver(memory());
    const first = open(shard, 1);
    const generation = shard.records[first * FLOW_WORDS + GENERATION]!;
    shard.records.fill(-1, first * FLOW_WORDS + 11, first * FLOW_WORDS + 27);
    shard.release(first);
    const again = shard.allocate();
    expect(again).toBe(first);
    expect(shard.records[again * FLOW_WORDS + GENERATION]).toBe(generation + 1);
    expect([...shard.records.subarray(again * FLOW_WORDS + 11, again * FLOW_WORDS + 27)].every((w) => w === 0)).toBe(
      true,
    );
  });

  it('is the same to a successor, whatever was opened and released before', () => {
    const step = fc.record({ open: fc.boolean(), port: fc.integer({ min: 1, max: 12 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const at = memory();
        const shard = shardOver(at);
        for (const { open: opens, port } of steps) {
          const known = lookup(shard, port);
          if (opens && known < 0) open(shard, port);
          else if (!opens && known >= 0) shard.release(known);
        }
        const expected = Array.from({ length: 13 }, (_, port) => lookup(shard, port));
        const successor = shardOver(at);
        expect(Array.from({ length: 13 }, (_, port) => lookup(successor, port))).toEqual(expected);
        expect([successor.size, at.free[0]]).toEqual([shard.size, CAPACITY - shard.size]);
        const states = Array.from({ length: CAPACITY }, (_, flow) => at.records[flow * FLOW_WORDS + STATE]);
        for (let next = successor.allocate(); next >= 0; next = successor.allocate()) {
          expect(states[next]).toBe(FREE);
          states[next] = -1;
        }
        expect(states).not.toContain(FREE);
      }),
    );
  });

  it("leaves a predecessor's timers and lists behind: they were in its own memory", () => {
    const at = memory();
    const shard = shardOver(at);
    const flow = open(shard, 1);
    shard.wheel.arm(flow, 50, 0);
    at.records[flow * FLOW_WORDS + FLAGS] = LISTED;
    const successor = shardOver(at);
    const fired = new Int32Array(CAPACITY);
    expect(successor.wheel.advance(1_000, fired)).toBe(0);
    expect(at.records[flow * FLOW_WORDS + FLAGS]).toBe(0);
    successor.wheel.arm(flow, 1_100, 1_000);
    expect(successor.wheel.advance(2_000, fired)).toBe(1);
    expect(fired[0]).toBe(flow);
  });
});
