import { expect, it } from 'vitest';
import { summarizeRuns } from '../../../bench/compare/figures.js';
import { loadList } from '../../../bench/compare/loads.js';
import type { CompareRun, RunWindow } from '../../../bench/compare/result.js';
import { CURVE_QUANTILES } from '../../../bench/driver/histogram.js';
import { fakeWindow } from './fakes.js';

const [crr, bulk, idle] = loadList('crr-8,bulk-tx-2,idle-10');

function runs(load: string, ...windows: readonly (readonly RunWindow[])[]): CompareRun[] {
  return windows.map((each, round) => ({
    contender: 'a',
    load,
    round,
    startedAt: '2026-01-01T00:00:00Z',
    windows: [...each],
    offered: [],
    taken: [],
    ...(load.startsWith('idle') && { idle: { open: 10, failed: 1, answered: 8, seconds: 1 } }),
  }));
}

it('takes medians over the rounds, and CPU, kicks and interrupts per operation', () => {
  const { figures, curve, settled } = summarizeRuns(
    crr!,
    runs('crr-8', [fakeWindow(1_000)], [fakeWindow(3_000)], [fakeWindow(2_000)]),
  );
  expect(figures.rate).toMatchObject({ n: 3, median: 2_000, min: 1_000, max: 3_000 });
  expect(figures.p50?.median).toBe(500);
  expect(figures.cpu?.median).toBeCloseTo(250, 9);
  expect(figures.driverCpu?.median).toBeCloseTo(100, 9);
  expect([figures.packets?.median, figures.kicks?.median, figures.interrupts?.median]).toEqual([10, 3, 2]);
  expect(settled).toBe(false);
  expect([figures.change, figures.unfairness, figures.bytesPerFlow]).toEqual([undefined, undefined, undefined]);
  const at = CURVE_QUANTILES.length - 1;
  const q = 1 + CURVE_QUANTILES[at]!;
  expect([curve?.low[at], curve?.median[at], curve?.high[at]]).toEqual([(1e6 / 3_000) * q, 500 * q, 1_000 * q]);
});

it('measures bulk in bits, its CPU in ms per GB, and how evenly the streams share', () => {
  const { figures, streams } = summarizeRuns(bulk!, runs('bulk-tx-2', [fakeWindow(1_000)]));
  // 10^9 bytes in a second for 0.5 s of CPU; streams of 300 and 100 MB have a standard deviation of √2 · 100 MB.
  expect(figures.rate?.median).toBe(8e9);
  expect(figures.cpu?.median).toBeCloseTo(500, 9);
  expect(figures.unfairness?.median).toBeCloseTo(Math.SQRT2 / 2, 12);
  expect(streams).toEqual([[2.4e9, 8e8]]);
});

it('sets what happens beside idle connections against what happened before', () => {
  const beside = fakeWindow(900, { resident: 2 ** 20 + 5_120, errors: { timeouts: 2 } });
  const { figures, errors } = summarizeRuns(idle!, runs('idle-10', [fakeWindow(1_000), beside]));
  expect(figures.change?.median).toBeCloseTo(-0.1, 12);
  expect(figures.rate?.median).toBe(900);
  expect(figures.bytesPerFlow?.median).toBe(512);
  expect(errors).toEqual({ timeouts: 2, 'idle connections lost': 3 });
});

it('leaves out what was not measured', () => {
  const { latency: _latency, resident: _resident, ...window } = fakeWindow(10, { cpu: {}, packets: 0 });
  const { figures, curve } = summarizeRuns(crr!, runs('crr-8', [window]));
  expect(Object.keys(figures)).toEqual(['rate']);
  expect(curve).toBeUndefined();
});
