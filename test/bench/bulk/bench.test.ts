import { describe, expect, it } from 'vitest';
import { benchBulk, bulkMeasurement } from '../../../bench/bulk/bench.js';
import { hasFailed } from '../../../bench/bulk/report.js';
import type { BulkRun, BulkSettings } from '../../../bench/bulk/result.js';
import type { BackEnd } from '../../../bench/guests/backEnds.js';
import { fakeRun } from './fakes.js';

const settings: BulkSettings = {
  cpus: 2,
  directions: ['send', 'receive'],
  streams: [1, 2],
  seconds: 0.2,
  warmup: 0.05,
  rounds: 1,
  maxRounds: 1,
};

/** A back end whose client prints these runs, one after the other. */
function fakeBackEnd(runs: readonly BulkRun[], log: string[]): BackEnd {
  return {
    name: 'a',
    description: 'a',
    host: '10.0.2.2',
    run: async (args) => {
      const run = runs[log.length];
      log.push(args.join(' '));
      return { exitCode: run?.equal === false ? 1 : 0, stdout: JSON.stringify(run), stderr: '' };
    },
    close: async () => {},
  };
}

describe('bulkMeasurement', () => {
  const load = { direction: 'send', streams: 2 } as const;
  const slow = fakeRun('send', 2, 100);
  const fast = fakeRun('send', 2, 200);

  it('has every direction with every number of streams', () => {
    const loads = bulkMeasurement(7, settings).loads.map(({ direction, streams }) => `${direction} ${streams}`);
    expect(loads).toEqual(['send 1', 'send 2', 'receive 1', 'receive 2']);
  });

  it('records the run behind the warm-up', async () => {
    const log: string[] = [];
    expect(await bulkMeasurement(7, settings).measure(fakeBackEnd([slow, fast], log), load)).toEqual(fast);
    expect(log).toEqual(['send 10.0.2.2 7 50ms 2', 'send 10.0.2.2 7 200ms 2']);
  });

  it('does without a warm-up', async () => {
    const log: string[] = [];
    const cold = bulkMeasurement(7, { ...settings, warmup: 0 });
    expect(await cold.measure(fakeBackEnd([slow], log), load)).toEqual(slow);
    expect(log).toEqual(['send 10.0.2.2 7 200ms 2']);
  });

  it('records a warm-up in which bytes were wrong', async () => {
    const log: string[] = [];
    const wrong = { ...slow, equal: false };
    expect(await bulkMeasurement(7, settings).measure(fakeBackEnd([wrong, fast], log), load)).toEqual(wrong);
    expect(log).toHaveLength(1);
  });
});

it('moves bytes between host and guest over Slipway, and every one arrives', async () => {
  const options = { ...settings, workers: 2, mtu: 1_500, installedPeers: false, passt: [], peers: [] };
  const report = await benchBulk(options, () => {}, new AbortController().signal);
  expect(report.failures).toEqual([]);
  expect(hasFailed(report)).toBe(false);
  const ours = report.summaries.filter(({ backEnd }) => backEnd === 'slipway');
  expect(ours.map(({ direction, streams }) => `${direction} ${streams}`)).toEqual([
    'send 1',
    'send 2',
    'receive 1',
    'receive 2',
  ]);
  for (const { rate, queuePackets, bytesPerPacket } of ours) {
    expect(rate.median).toBeGreaterThan(0);
    expect(queuePackets).toHaveLength(2);
    // Segments are larger than the MTU either way (TSO, GRO by mergeable buffers).
    expect(bytesPerPacket?.median).toBeGreaterThan(1_500);
  }
  expect(report.server).toMatchObject({ bulkWrong: 0 });
}, 240_000);
