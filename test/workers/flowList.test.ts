import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FlowList } from '../../workers/flowList.js';

const FLOWS = 16;

describe('FlowList', () => {
  it('gives flows back in the order in which they came; -1 when it is empty', () => {
    const list = new FlowList(FLOWS);
    for (const flow of [3, 0, 15]) list.push(flow);
    expect([list.shift(), list.shift(), list.shift(), list.shift()]).toEqual([3, 0, 15, -1]);
  });

  it('is a queue without repetitions: a flow that is pushed again keeps its place', () => {
    const operation = fc.oneof(fc.nat({ max: FLOWS - 1 }), fc.constant('shift' as const));
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 500, size: 'max' }), (operations) => {
        const list = new FlowList(FLOWS);
        const model: number[] = [];
        for (const step of operations) {
          const shifts = step === 'shift';
          if (!shifts) list.push(step);
          if (!shifts && !model.includes(step)) model.push(step);
          expect(shifts ? list.shift() : -1).toBe(shifts ? (model.shift() ?? -1) : -1);
          expect(list.length).toBe(model.length);
        }
      }),
    );
  });
});
