import { describe, expect, it } from 'vitest';
import { crrTable } from '../../../bench/crr/report.js';
import { summarizeCell } from '../../../bench/crr/result.js';
import type { CrrCell, CrrReport, CrrRun } from '../../../bench/crr/result.js';
import { markdownTable } from '../../../bench/report/table.js';
import { MACHINE } from '../report/fakeMachine.js';
import { fakeRun } from './fakes.js';

function reportOf(cells: readonly CrrCell[], changes: Partial<CrrReport> = {}): CrrReport {
  return {
    benchmark: 'crr',
    schemaVersion: 1,
    date: '2026-01-02T03:04:05.000Z',
    machine: MACHINE,
    settings: { cpus: 2, flows: [1, 4], count: 2_000, closes: 'client', warmup: 50, rounds: 3, maxRounds: 3 },
    backEnds: { slipway: 'ours', 'qemu-user': 'libslirp' },
    notInstalled: [],
    failures: [],
    serverSelfTest: { p50: 12.5, p99: 40, max: 90 },
    server: {
      accepted: 1,
      answered: 12_000,
      broken: 0,
      serviceUs: { p50: 12.5, p99: 40, max: 90 },
      bulkStreams: 0,
      bulkWrong: 0,
    },
    summaries: cells.map(summarizeCell),
    cells,
    ...changes,
  };
}

function cell(backEnd: string, flows: number, p50s: readonly number[], changes: Partial<CrrRun> = {}): CrrCell {
  return { backEnd, flows, rounds: p50s.map((p50) => fakeRun(flows, p50, changes)) };
}

describe('crrTable', () => {
  it('groups by flows, states N and rounds, and shows medians with spread', () => {
    const cells = ['slipway', 'qemu-user'].flatMap((name) =>
      [1, 4].map((flows) => cell(name, flows, [1_000, 990, 1_010])),
    );
    const table = crrTable(reportOf(cells));
    expect(table.title).toContain('N = 2,000');
    expect(table.title).toContain('3 rounds');
    expect(table.rows.map((row) => [row[0]?.value, row[1]?.value])).toEqual([
      ['1', 'slipway'],
      ['1', 'qemu-user'],
      ['4', 'slipway'],
      ['4', 'qemu-user'],
    ]);
    expect(table.rows[0]?.slice(2).map((each) => each.value)).toEqual([
      '1,000',
      '3,000',
      '4,000',
      '1,000',
      '1 %',
      '0',
      '63 + 123',
    ]);
    expect(table.rows[0]?.[2]?.spread).toBe('990–1,010');
  });

  it('shows errors by name, and a dash for a back end without queue pairs', () => {
    const failing = cell('host-direct', 1, [100], { failed: 3, errors: { ETIMEDOUT: 3 }, queues: [] });
    const row = crrTable(reportOf([failing])).rows[0];
    expect(row?.slice(7).map((each) => each.value)).toEqual(['3 (ETIMEDOUT 3)', '–']);
  });

  it('names what is missing, what failed, and medians that are not settled', () => {
    const markdown = markdownTable(
      crrTable(
        reportOf([cell('slipway', 1, [100, 200, 300])], {
          notInstalled: ['passt'],
          failures: [{ backEnd: 'qemu-user', message: 'the guest did not boot' }],
        }),
      ),
    );
    expect(markdown).toContain('passt: not installed.');
    expect(markdown).toContain('qemu-user FAILED: the guest did not boot');
    expect(markdown).toContain('~ not settled');
    expect(markdown).toContain('TCG');
    expect(markdown).toContain('adds 12.5 µs');
    expect(markdown).not.toContain('ABOVE');
  });

  it('says when the server itself is too slow', () => {
    const slow = reportOf([cell('slipway', 1, [100])], { serverSelfTest: { p50: 50, p99: 80, max: 90 } });
    expect(markdownTable(crrTable(slow))).toContain('ABOVE ITS LIMIT');
  });
});
