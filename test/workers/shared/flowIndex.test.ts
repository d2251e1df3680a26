import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FlowIndex } from '../../../workers/shared/flowIndex.js';

type Key = readonly [source: number, destination: number, ports: number, device: number];

const STRIDE = 6;
const FLOWS = 15;

function create(seed: number, empty: number) {
  const records = new Int32Array(STRIDE * FLOWS);
  const table = new Int32Array(16).fill(empty);
  return { records, table, index: new FlowIndex(table, records, STRIDE, 1, 2, 4, 5, seed) };
}

function behaveLikeMap(seed: number, empty: number, actions: readonly (readonly [name: string, key: Key])[]): void {
  const { records, index } = create(seed, empty);
  const model = new Map<string, number>();
  const spare = Array.from({ length: FLOWS }, (_, flow) => flow);
  for (const [name, at] of actions) {
    const id = at.join();
    const flow = model.get(id);
    expect(index.lookup(...at)).toBe(flow ?? -1);
    if (name === 'insert' && flow === undefined && spare.length > 0) {
      const added = spare.pop()!;
      const [source, destination, ports, device] = at;
      records.set([77, source, destination, 88, ports, device], added * STRIDE);
      index.insert(added);
      model.set(id, added);
    } else if (name === 'remove' && flow !== undefined) {
      index.remove(flow);
      model.delete(id);
      spare.unshift(flow);
      index.remove(flow);
    } else if (name === 'clear' && model.size > 10) {
      index.clear();
      spare.push(...model.values());
      model.clear();
    }
  }
  for (const [id, flow] of model) {
    const [source, destination, ports, device] = id.split(',').map(Number);
    expect(index.lookup(source!, destination!, ports!, device!)).toBe(flow);
  }
}

describe('FlowIndex', () => {
  it('does what a Map does, up to all cells but one in use', () => {
    const key = fc.tuple(
      fc.constantFrom(1, -1),
      fc.constantFrom(0, -(2 ** 31)),
      fc.integer({ min: 0, max: 3 }),
      fc.constantFrom(0, 1),
    );
    const action = fc.tuple(fc.constantFrom('insert', 'insert', 'insert', 'remove', 'lookup', 'clear'), key);
    fc.assert(
      fc.property(
        fc.integer(),
        fc.constantFrom(0, -1),
        fc.array(action, { maxLength: 200, size: 'max' }),
        behaveLikeMap,
      ),
      {
        numRuns: 500,
      },
    );
  });

  it('refuses tables that could fill up or are no power of two', () => {
    const records = new Int32Array(STRIDE * 16);
    expect(() => new FlowIndex(new Int32Array(16), records, STRIDE, 1, 2, 4, 5, 0)).toThrow(RangeError);
    expect(() => new FlowIndex(new Int32Array(24), records, STRIDE, 1, 2, 4, 5, 0)).toThrow(RangeError);
  });
});
