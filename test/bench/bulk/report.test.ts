import { describe, expect, it } from 'vitest';
import { bulkTable, hasFailed } from '../../../bench/bulk/report.js';
import { summarizeCell } from '../../../bench/bulk/result.js';
import type { BulkCell, BulkReport, BulkRun, Direction } from '../../../bench/bulk/result.js';
import { markdownTable } from '../../../bench/report/table.js';
import { MACHINE } from '../report/fakeMachine.js';
import { fakeRun, fakeStream } from './fakes.js';

function reportOf(cells: readonly BulkCell[], changes: Partial<BulkReport> = {}): BulkReport {
  return {
    benchmark: 'bulk',
    schemaVersion: 1,
    date: '2026-01-02T03:04:05.000Z',
    machine: MACHINE,
    settings: {
      cpus: 2,
      directions: ['send', 'receive'],
      streams: [1, 8],
      seconds: 1.5,
      warmup: 0.3,
      rounds: 3,
      maxRounds: 3,
    },
    backEnds: { slipway: 'ours', 'qemu-user': 'libslirp' },
    notInstalled: [],
    failures: [],
    server: {
      accepted: 0,
      answered: 0,
      broken: 0,
      serviceUs: { p50: 0, p99: 0, max: 0 },
      bulkStreams: 27,
      bulkWrong: 0,
    },
    summaries: cells.map(summarizeCell),
    cells,
    ...changes,
  };
}

function cell(
  backEnd: string,
  direction: Direction,
  streams: number,
  rates: readonly number[],
  changes: Partial<BulkRun> = {},
): BulkCell {
  return { backEnd, direction, streams, rounds: rates.map((rate) => fakeRun(direction, streams, rate, changes)) };
}

describe('bulkTable', () => {
  it('groups by direction and streams, states seconds and rounds, and shows medians with spread', () => {
    const cells = ['slipway', 'qemu-user'].flatMap((name) =>
      (['send', 'receive'] as const).flatMap((direction) =>
        [1, 8].map((streams) => cell(name, direction, streams, [2_000, 1_990, 2_010])),
      ),
    );
    const table = bulkTable(reportOf(cells));
    expect(table.title).toContain('2 vCPUs, 1.5 s per run, 3 rounds');
    expect(
      table.rows.map((row) =>
        row
          .slice(0, 3)
          .map(({ value }) => value)
          .join(' '),
      ),
    ).toEqual([
      'guest → host 1 slipway',
      'guest → host 1 qemu-user',
      'guest → host 8 slipway',
      'guest → host 8 qemu-user',
      'host → guest 1 slipway',
      'host → guest 1 qemu-user',
      'host → guest 8 slipway',
      'host → guest 8 qemu-user',
    ]);
    const figures = ['2,000', '1 %', '0.0 %', '50,000', '0', '12,000 + 6,000'];
    expect(table.rows[2]?.slice(3).map(({ value }) => value)).toEqual(figures);
    expect(table.rows[2]?.[3]?.spread).toBe('1,990–2,010');
    expect(table.rows[0]?.[5]?.value).toBe('–');
  });

  it('names streams that failed, what was retransmitted, what is missing, and rates that are not settled', () => {
    const streams = [fakeStream(1, { equal: false, firstWrongOffset: 0 }), fakeStream(1)];
    const cells = [cell('slipway', 'send', 8, [100, 200, 300], { streams, equal: false, retransmits: 2 })];
    const table = bulkTable(reportOf(cells, { notInstalled: ['passt'] }));
    expect(table.rows[0]?.[7]?.value).toBe('3 (WRONG_DATA 3)');
    expect(table.rows[0]?.[4]?.value).toContain('~');
    const markdown = markdownTable(table);
    expect(markdown).toContain('slipway guest → host 8: 6');
    expect(markdown).toContain('passt: not installed.');
    expect(markdown).toContain('~ not settled: the rates of the rounds');
  });
});

it('has failed if a back end did, or a single stream', () => {
  const good = cell('slipway', 'send', 1, [100]);
  const bad = cell('slipway', 'send', 1, [100], { equal: false, streams: [fakeStream(1, { equal: false })] });
  expect(hasFailed(reportOf([good]))).toBe(false);
  expect(hasFailed(reportOf([good, bad]))).toBe(true);
  expect(hasFailed(reportOf([good], { failures: [{ backEnd: 'passt', message: 'gone' }] }))).toBe(true);
});
