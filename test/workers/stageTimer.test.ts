import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addon } from '../../src/native/addon.js';
import { reportStages } from '../../workers/stageReport.js';
import {
  INTERRUPT,
  PARSED,
  SENT,
  STAGE_BUCKETS,
  STAGE_BYTES,
  bucketOf,
  bucketValue,
  createStageTimer,
} from '../../workers/stageTimer.js';

const LARGEST = 2 ** 31 - 1;

describe('buckets', () => {
  it('are exact below 64 ns', () => {
    for (let nanoseconds = 0; nanoseconds < 64; nanoseconds++) {
      expect(bucketValue(bucketOf(nanoseconds))).toBe(nanoseconds);
    }
  });

  it('lie within 3.2 % of the duration, and in order', () => {
    const duration = fc.integer({ min: 0, max: LARGEST });
    fc.assert(
      fc.property(duration, duration, (a, b) => {
        expect(Math.abs(bucketValue(bucketOf(a)) - a)).toBeLessThanOrEqual(0.032 * a);
        expect(Math.sign(bucketOf(a) - bucketOf(b)) * Math.sign(a - b)).toBeGreaterThanOrEqual(0);
      }),
    );
  });

  it('hold the longest duration in the last', () => {
    expect(bucketOf(LARGEST)).toBe(STAGE_BUCKETS - 1);
  });
});

describe('a stage timer', () => {
  /** A clock that goes by `steps` ns from one reading to the next. */
  function timerOver(histograms: SharedArrayBuffer | undefined, first: number, steps: number[]) {
    const clock = Int32Array.of(0, 0, first);
    let readings = 0;
    const readClock = (): void => {
      if (readings > 0) clock[2]! += steps[readings - 1]!;
      readings++;
    };
    return { timer: createStageTimer({ ...addon, readClock }, clock, histograms), readings: () => readings };
  }

  it('counts each stage from the end of the one before, across the wrap of its clock', () => {
    const histograms = new SharedArrayBuffer(STAGE_BYTES);
    const { timer } = timerOver(histograms, LARGEST - 10, [20, 7, 1_000_000, 30]);
    timer.start();
    timer.end(PARSED);
    timer.end(SENT);
    timer.start();
    timer.end(PARSED);
    const report = reportStages([histograms])!;
    expect([report.parsed.count, report.sent.count, report.interrupt.count]).toEqual([2, 1, 0]);
    expect(report.parsed).toMatchObject({ p50: 0.02, max: 0.03, mean: 0.025 });
    expect(report.sent).toMatchObject({ p50: 0.007, p999: 0.007 });
  });

  it('takes a clock that stood still for no time, and 2 s for the most there is', () => {
    const histograms = new SharedArrayBuffer(STAGE_BYTES);
    const { timer } = timerOver(histograms, 0, [0, LARGEST]);
    timer.start();
    timer.end(PARSED);
    timer.end(INTERRUPT);
    const report = reportStages([histograms])!;
    expect(report.parsed.max).toBe(0);
    expect(report.interrupt.max / (LARGEST / 1000)).toBeCloseTo(1, 1);
  });

  it('does nothing without histograms: not even read the clock', () => {
    const { timer, readings } = timerOver(undefined, 0, []);
    timer.start();
    timer.end(PARSED);
    expect(readings()).toBe(0);
    expect(reportStages([])).toBeUndefined();
  });

  it('is summed up over workers', () => {
    const workers = [5, 60].map((step) => {
      const histograms = new SharedArrayBuffer(STAGE_BYTES);
      const { timer } = timerOver(histograms, 0, [step]);
      timer.start();
      timer.end(SENT);
      return histograms;
    });
    expect(reportStages(workers)!.sent).toMatchObject({ count: 2, p50: 0.005, max: 0.06 });
  });
});

it('the addon reads the clock in nanoseconds too', () => {
  const clock = new Int32Array(new SharedArrayBuffer(12));
  addon.bindScratch(new Uint32Array(3), new Int32Array(3), clock);
  addon.readClock();
  const before = clock.slice();
  const until = performance.now() + 3;
  while (performance.now() < until);
  addon.readClock();
  const microseconds = (clock[1]! - before[1]!) | 0;
  const nanoseconds = (clock[2]! - before[2]!) | 0;
  expect(Math.abs(nanoseconds / 1000 - microseconds)).toBeLessThanOrEqual(1);
});
