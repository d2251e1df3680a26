import { assert, integer, property } from 'fast-check';
import { expect, test } from 'vitest';
import { Cubic } from '../../../bench/driver/congestion.js';

const MSS = 1_000;

/** A window that has grown in slow start as far as `flights` full flights take it. */
function grown(flights: number): Cubic {
  const cubic = new Cubic();
  cubic.reset(MSS);
  for (let n = 0; n < flights; n++) cubic.acknowledged(cubic.cwnd, cubic.cwnd, n);
  return cubic;
}

test('slow start doubles a window that is used, and leaves one that is not', () => {
  expect(grown(0).cwnd).toBe(10 * MSS);
  expect(grown(3).cwnd).toBe(80 * MSS);
  const idle = grown(3);
  idle.acknowledged(10 * MSS, 39 * MSS, 3);
  expect(idle.cwnd).toBe(80 * MSS);
});

test('a loss leaves 0.7 of what was in flight, however large the window (RFC 9438 §4.6)', () => {
  assert(
    property(integer({ min: 3, max: 80 }), (flight) => {
      const cubic = grown(3);
      cubic.reduced(flight * MSS);
      expect(cubic.cwnd).toBeCloseTo(Math.max(0.7 * flight, 2) * MSS, 6);
    }),
  );
});

test('after a time-out one segment goes out, and slow start ends at 0.7 of what was in flight', () => {
  const cubic = grown(3);
  cubic.timedOut(40 * MSS);
  expect(cubic.cwnd).toBe(MSS);
  while (cubic.cwnd < 28 * MSS) cubic.acknowledged(cubic.cwnd, cubic.cwnd, 0);
  const reached = cubic.cwnd;
  cubic.acknowledged(cubic.cwnd, cubic.cwnd, 1);
  expect(cubic.cwnd).toBeLessThan(1.1 * reached);
});
