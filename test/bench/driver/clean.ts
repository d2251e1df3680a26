import { expect } from 'vitest';
import type { CounterName, Snapshot } from '../../../bench/driver/statistics.js';

/** What only a wrong driver, or a wrong network, brings about. */
const DEFECTS: readonly CounterName[] = [
  'badChecksums',
  'badFrames',
  'badData',
  'ringErrors',
  'resets',
  'timeouts',
  'refused',
];

/** Expects none of them, but for those `allowed`. */
export function expectClean({ counters }: Snapshot, ...allowed: readonly CounterName[]): void {
  const found = DEFECTS.filter((name) => counters[name] > 0 && !allowed.includes(name));
  expect(found.map((name) => `${name} ${counters[name]}`)).toEqual([]);
}
