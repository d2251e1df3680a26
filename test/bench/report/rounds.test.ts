import { array, assert, integer, property, uniqueArray } from 'fast-check';
import { expect, it } from 'vitest';
import { roundOrder } from '../../../bench/report/rounds.js';

const names = uniqueArray(integer(), { minLength: 1, maxLength: 8 });

it('has every contender under every load once, load by load', () => {
  assert(
    property(array(integer(), { maxLength: 8 }), names, integer({ min: 0, max: 100 }), (loads, contenders, round) => {
      const order = roundOrder(loads, contenders, round);
      expect(order.map(([load]) => load)).toEqual(loads.flatMap((load) => contenders.map(() => load)));
      for (let n = 0; n < loads.length; n++) {
        const turn = order.slice(n * contenders.length, (n + 1) * contenders.length).map(([, contender]) => contender);
        expect(turn.toSorted()).toEqual(contenders.toSorted());
      }
    }),
  );
});

it('begins with each contender in turn', () => {
  const first = [0, 1, 2, 3].map((round) => roundOrder(['load'], ['a', 'b', 'c'], round)[0]?.[1]);
  expect(first).toEqual(['a', 'b', 'c', 'a']);
});
