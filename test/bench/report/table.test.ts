import { describe, expect, it } from 'vitest';
import { summarize } from '../../../bench/report/statistics.js';
import { formatNumber, markdownTable, summaryCell, terminalTable } from '../../../bench/report/table.js';
import type { ResultTable } from '../../../bench/report/table.js';

const table: ResultTable = {
  title: 'Latency',
  columns: [
    { name: 'back end', align: 'left' },
    { name: 'p50', align: 'right' },
  ],
  rows: [
    [{ value: 'a|b' }, { value: '1,013', spread: '980–1,100' }],
    [{ value: 'c' }, { value: '7' }],
  ],
  notes: ['one note'],
};

describe('tables', () => {
  it('writes Markdown with the spread in brackets and bars escaped', () => {
    expect(markdownTable(table)).toBe(
      [
        '## Latency',
        '',
        '| back end | p50 |',
        '|---|---:|',
        '| a\\|b | 1,013 [980–1,100] |',
        '| c | 7 |',
        '',
        '- one note',
        '',
      ].join('\n'),
    );
  });

  it('writes a terminal table with the spread below, all lines equally wide, and no escape codes without colour', () => {
    const lines = terminalTable(table, false).split('\n');
    expect(lines[0]).toBe('Latency');
    expect(lines.at(-1)).toBe('one note');
    const grid = lines.slice(1, -1);
    expect(new Set(grid.map((line) => line.length)).size).toBe(1);
    const value = grid.findIndex((line) => line.includes('1,013'));
    expect(grid[value + 1]).toContain('980–1,100');
    expect(lines.join('')).not.toContain('\u001b');
    expect(terminalTable(table, true)).toContain('\u001b');
  });

  it('shows median, spread and a mark for outliers', () => {
    expect(summaryCell(summarize([1200, 1000, 1100]))).toEqual({ value: '1,100', spread: '1,000–1,200' });
    expect(summaryCell(summarize([100, 101, 99, 900, 100]))).toEqual({ value: '100*', spread: '99–900' });
    expect(summaryCell(summarize([5.25]), 1)).toEqual({ value: '5.3' });
    expect(formatNumber(1234567.891, 2)).toBe('1,234,567.89');
  });
});
