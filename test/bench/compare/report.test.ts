import { beforeAll, expect, it } from 'vitest';
import { benchCompare } from '../../../bench/compare/bench.js';
import { compareTables } from '../../../bench/compare/report.js';
import type { CompareReport } from '../../../bench/compare/result.js';
import { terminalTable } from '../../../bench/report/table.js';
import { fakeMeasurement, fakeOptions, fakeReport } from './fakes.js';

let report: CompareReport;
beforeAll(async () => {
  report = await fakeReport();
});

it('has a table for each kind of load, a row for each contender that ran it', () => {
  const tables = compareTables(report);
  expect(tables.map(({ rows }) => rows.length)).toEqual([8, 4, 4, 8, 6]);
  for (const { columns, rows } of tables) for (const row of rows) expect(row).toHaveLength(columns.length);
  expect(tables[0]?.rows[0]?.slice(0, 2).map(({ value }) => value)).toEqual(['crr-1', 'Slipway epoll']);
});

it('tells of outliers, lost idle connections, commands and features', () => {
  const text = compareTables(report)
    .map((table) => terminalTable(table, false))
    .join('\n');
  expect(text).toContain('idle connections lost 2');
  expect(text).toContain('Slipway epoll offers VERSION_1 MQ');
  expect(text).not.toContain('NOT ALL');
});

it('says so when rounds are missing, and who failed', async () => {
  const failures = [{ contender: 'a', load: 'crr-1', round: 1, message: 'hung up' }];
  const notes = compareTables({ ...report, complete: false, failures })
    .at(-1)
    ?.notes.join('\n');
  expect(notes).toContain('NOT ALL OF THEM RUN YET');
  expect(notes).toContain('a FAILED in crr-1, round 2: hung up');
});

it('gives one that fails under a load a row there, without figures', async () => {
  const without = await benchCompare(fakeOptions(), {}, undefined, async ({ info }, load) => {
    if (info.product === 'slipway' && load.mode === 'udp-rr') throw new Error('no echo came back');
    return fakeMeasurement(load);
  });
  const { rows, columns } = compareTables(without)[2]!;
  expect(rows.map((row) => row.map(({ value }) => value)).slice(0, 3)).toEqual([
    ['udp-rr-1', 'Slipway epoll', ...columns.slice(3).map(() => '–'), 'FAILED'],
    ['udp-rr-1', 'Slipway epoll, 2 workers', ...columns.slice(3).map(() => '–'), 'FAILED'],
    ['udp-rr-1', 'passt <old> & "odd"', '1,000', ...rows[2]!.slice(3).map(({ value }) => value)],
  ]);
});
