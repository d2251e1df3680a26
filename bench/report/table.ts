/** A table of results, and how it is written for a terminal and as Markdown. */
import Table from 'cli-table3';
import type { Summary } from './statistics.js';

/** One cell: its value and, smaller or behind it, its spread. */
export interface Cell {
  readonly value: string;
  readonly spread?: string;
}

export interface Column {
  readonly name: string;
  readonly align: 'left' | 'right';
}

export interface ResultTable {
  readonly title: string;
  readonly columns: readonly Column[];
  /** Each as long as `columns`. */
  readonly rows: readonly (readonly Cell[])[];
  /** What a reader has to know to read the table: one line each. */
  readonly notes: readonly string[];
}

/** A number with thousands separated, `digits` behind the point. */
export function formatNumber(value: number, digits = 0): string {
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Median, and lowest to highest as the spread; `*` marks a figure with an outlier among its rounds. */
export function summaryCell(summary: Summary, digits = 0): Cell {
  const value = formatNumber(summary.median, digits) + (summary.outliers.length > 0 ? '*' : '');
  if (summary.n === 1) return { value };
  return { value, spread: `${formatNumber(summary.min, digits)}–${formatNumber(summary.max, digits)}` };
}

/** The spread stands below its value. */
export function terminalTable(table: ResultTable, colour: boolean): string {
  const grid = new Table({
    head: table.columns.map((column) => column.name),
    colAligns: table.columns.map((column) => column.align),
    style: { head: colour ? ['bold'] : [], border: colour ? ['gray'] : [], compact: true },
  });
  const dim = (text: string): string => (colour ? `\u001b[2m${text}\u001b[22m` : text);
  for (const row of table.rows)
    grid.push(row.map((cell) => (cell.spread === undefined ? cell.value : `${cell.value}\n${dim(cell.spread)}`)));
  return [table.title, grid.toString(), ...table.notes].join('\n');
}

/** The spread stands in brackets behind its value. */
export function markdownTable(table: ResultTable): string {
  const line = (cells: readonly string[]): string => `| ${cells.map(escapeCell).join(' | ')} |`;
  const rows = table.rows.map((row) =>
    line(row.map((cell) => (cell.spread === undefined ? cell.value : `${cell.value} [${cell.spread}]`))),
  );
  return [
    `## ${table.title}`,
    '',
    line(table.columns.map((column) => column.name)),
    `|${table.columns.map((column) => (column.align === 'right' ? '---:' : '---')).join('|')}|`,
    ...rows,
    '',
    ...table.notes.map((note) => `- ${note}`),
    '',
  ].join('\n');
}

function escapeCell(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('|', '\\|').replaceAll('\n', ' ');
}
