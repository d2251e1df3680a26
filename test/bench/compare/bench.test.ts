import { describe, expect, it } from 'vitest';
import { benchCompare } from '../../../bench/compare/bench.js';
import { loadList } from '../../../bench/compare/loads.js';
import { compareReportSchema } from '../../../bench/compare/result.js';
import type { CompareReport } from '../../../bench/compare/result.js';
import { fakeContender, fakeMeasurement, fakeOptions, fakeReport } from './fakes.js';

const two = { contenders: [fakeContender('a'), fakeContender('b')], loads: loadList('crr-1,rr-1') };
const order = (report: CompareReport): string[] => report.runs.map(({ contender, load }) => `${contender}/${load}`);

describe('benchCompare', () => {
  it('interleaves: load by load with every contender, each round beginning with another', async () => {
    const report = await fakeReport(two);
    expect(order(report)).toEqual('a/crr-1 b/crr-1 a/rr-1 b/rr-1 b/crr-1 a/crr-1 b/rr-1 a/rr-1'.split(' '));
    expect(report.complete).toBe(true);
  });

  it('writes what its schema says', async () => {
    const report = await fakeReport();
    expect(compareReportSchema.parse(JSON.parse(JSON.stringify(report)))).toEqual(report);
  });

  it('knows no idle connections beside the loopback', async () => {
    const report = await fakeReport();
    const direct = report.runs.filter(({ contender }) => contender === 'direct').map(({ load }) => load);
    expect(new Set(direct)).toEqual(new Set(['crr-1', 'crr-8', 'rr-1', 'udp-rr-1', 'bulk-tx-2', 'bulk-rx-2']));
  });

  it('leaves a contender out of a load that it failed under, and goes on with all else', async () => {
    const lines: string[] = [];
    const report = await benchCompare(
      fakeOptions(two),
      { progress: (line) => lines.push(line) },
      undefined,
      async ({ info }, load) => {
        if (info.name === 'b' && load.name === 'crr-1') throw new Error('hung up');
        return fakeMeasurement(load);
      },
    );
    expect(report.failures).toEqual([{ contender: 'b', load: 'crr-1', round: 0, message: 'hung up' }]);
    expect(order(report)).toEqual('a/crr-1 a/rr-1 b/rr-1 a/crr-1 b/rr-1 a/rr-1'.split(' '));
    expect(lines.filter((line) => line.includes('failed'))).toEqual(['round 1/2, crr-1, b failed: hung up']);
  });

  it('adds rounds to the loads whose rates are not settled, and only to them', async () => {
    let runs = 0;
    const settings = { rounds: 2, maxRounds: 4, seconds: 1, warmup: 0 };
    const report = await benchCompare(fakeOptions({ ...two, settings }), {}, undefined, async ({ info }, load) =>
      fakeMeasurement(load, info.name === 'a' && load.name === 'rr-1' ? 1_000 * 3 ** (runs++ % 2) : 1_000),
    );
    const rounds = (load: string): number[] => report.runs.filter((run) => run.load === load).map(({ round }) => round);
    expect(rounds('crr-1')).toEqual([0, 0, 1, 1]);
    expect(rounds('rr-1')).toEqual([0, 0, 1, 1, 2, 2, 3, 3]);
    expect(report.cells.map(({ contender, load, settled }) => [contender, load, settled])).toContainEqual([
      'a',
      'rr-1',
      false,
    ]);
  });

  it('ends when its time is over, but not before the first run, and goes on where it ended', async () => {
    const whole = await fakeReport(two);
    const cut = await fakeReport({ ...two, forSeconds: 0 });
    expect([cut.complete, order(cut)]).toEqual([false, order(whole).slice(0, 1)]);
    const resumed = await fakeReport({ ...two, earlier: whole.runs.slice(0, 3) });
    expect(order(resumed)).toEqual(order(whole));
    expect(resumed.runs.slice(0, 3)).toEqual(whole.runs.slice(0, 3));
  });

  it('ends after the run under way when it is told to, and calls nobody failed', async () => {
    const abort = new AbortController();
    const saved: number[] = [];
    const report = await benchCompare(
      fakeOptions(two),
      { save: ({ runs }) => saved.push(runs.length) },
      abort.signal,
      async (_, load) => {
        if (saved.length === 2) {
          abort.abort();
          throw new Error('killed by the same signal');
        }
        return fakeMeasurement(load);
      },
    );
    expect(saved).toEqual([1, 2]);
    expect([report.complete, report.runs.length, report.failures]).toEqual([false, 2, []]);
  });
});
