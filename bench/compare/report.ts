/** The comparison's results as tables for a terminal: one for each kind of load. */
import { isBulk } from '../load/result.js';
import { machineLine } from '../report/machine.js';
import { UNSETTLED_COV } from '../report/statistics.js';
import { formatNumber, summaryCell } from '../report/table.js';
import type { Cell, ResultTable } from '../report/table.js';
import type { Load } from './loads.js';
import { MEASURES } from './measures.js';
import type { Measure } from './measures.js';
import { findCell, findFailure } from './result.js';
import type { CompareCell, CompareReport, ContenderInfo } from './result.js';

/** A column: its heading and what stands in it. */
type MeasureColumn = readonly [heading: string, measure: Measure];

const LATENCIES: readonly MeasureColumn[] = [
  ['p50 µs', MEASURES.p50],
  ['p99 µs', MEASURES.p99],
  ['p99.9 µs', MEASURES.p999],
];
const NOTIFICATIONS: readonly MeasureColumn[] = [
  ['kicks', MEASURES.kicks],
  ['interrupts', MEASURES.interrupts],
];
const MEMORY: MeasureColumn = ['RSS MiB', MEASURES.memory];

const OPERATIONS: readonly MeasureColumn[] = [
  ['per second', MEASURES.rate],
  ...LATENCIES,
  ['CPU µs', MEASURES.cpu],
  ...NOTIFICATIONS,
  MEMORY,
];
const BULK: readonly MeasureColumn[] = [
  ['Gbit/s', MEASURES.gigabits],
  ['CPU ms/GB', MEASURES.cpuPerGB],
  ['SD of streams %', MEASURES.unfairness],
  ...NOTIFICATIONS,
  MEMORY,
];
const BESIDE: readonly MeasureColumn[] = [
  ['per second', MEASURES.rate],
  ['change %', MEASURES.change],
  ...LATENCIES,
  ['CPU µs', MEASURES.cpu],
  ['bytes per idle', MEASURES.bytesPerFlow],
  MEMORY,
];

interface Kind {
  readonly title: string;
  readonly columns: readonly MeasureColumn[];
  has(load: Load): boolean;
}

const KINDS: readonly Kind[] = [
  {
    title: 'CRR-M: connect, a byte there, a byte back, close, M at a time; latency of all of it',
    columns: OPERATIONS,
    has: ({ mode }) => mode === 'crr',
  },
  {
    title: 'RR-M: a byte there, a byte back, over M connections',
    columns: OPERATIONS,
    has: ({ mode }) => mode === 'rr',
  },
  {
    title: 'UDP-RR-M: a datagram of a byte there, its echo back, M at a time',
    columns: OPERATIONS,
    has: ({ mode }) => mode === 'udp-rr',
  },
  {
    title: 'Bulk over N streams, guest to host (tx) and host to guest (rx); kicks and interrupts per MB',
    columns: BULK,
    has: ({ mode }) => isBulk(mode),
  },
  {
    title: 'CRR-4 beside N idle connections, and beside N connects without an answer; change of the rate',
    columns: BESIDE,
    has: ({ mode }) => mode === 'idle' || mode === 'stall',
  },
];

/** The last one carries the notes on all. */
export function compareTables(report: CompareReport): readonly ResultTable[] {
  const kinds = KINDS.map((kind) => ({ kind, loads: report.loads.filter((load) => kind.has(load)) }));
  const tables = kinds.filter(({ loads }) => loads.length > 0).map(({ kind, loads }) => tableOf(report, kind, loads));
  return tables.map((table, n) => (n === tables.length - 1 ? { ...table, notes: notes(report) } : table));
}

function tableOf(report: CompareReport, { title, columns }: Kind, loads: readonly Load[]): ResultTable {
  return {
    title,
    columns: [
      { name: 'load', align: 'left' },
      { name: 'back end', align: 'left' },
      ...columns.map(([name]) => ({ name, align: 'right' }) as const),
      { name: 'CoV rate', align: 'right' },
      { name: 'errors', align: 'right' },
    ],
    rows: loads.flatMap((load) =>
      report.contenders.flatMap((contender) => {
        const cell = findCell(report, contender.name, load.name);
        if (cell !== undefined) return [row(load, contender, cell, columns)];
        return findFailure(report, contender.name, load.name) === undefined
          ? []
          : [failedRow(load, contender, columns)];
      }),
    ),
    notes: [],
  };
}

function row(load: Load, contender: ContenderInfo, cell: CompareCell, columns: readonly MeasureColumn[]): Cell[] {
  const cov = cell.figures.rate?.cov ?? 0;
  const errors = Object.entries(cell.errors).map(([name, times]) => `${name} ${formatNumber(times)}`);
  return [
    { value: load.name },
    { value: contender.label },
    ...columns.map((column) => figureCell(cell, column)),
    { value: `${formatNumber(100 * cov)} %${cell.settled ? '' : '~'}` },
    { value: errors.join('\n') || '0' },
  ];
}

/** One that finished no run: no figure, which isn't a figure of 0. */
function failedRow(load: Load, contender: ContenderInfo, columns: readonly MeasureColumn[]): Cell[] {
  const none = [...columns, 'CoV rate'].map(() => ({ value: '–' }));
  return [{ value: load.name }, { value: contender.label }, ...none, { value: 'FAILED' }];
}

function figureCell(cell: CompareCell, [, { figure, factor, digits }]: MeasureColumn): Cell {
  const summary = cell.figures[figure];
  if (summary === undefined) return { value: '–' };
  const { median, min, max } = summary;
  return summaryCell({ ...summary, median: median * factor, min: min * factor, max: max * factor }, digits);
}

function notes(report: CompareReport): readonly string[] {
  const { settings, cells, failures, contenders } = report;
  const rounds = `${settings.rounds} rounds of ${settings.seconds} s after ${settings.warmup} s of warm-up`;
  const outlier = cells.some((cell) => Object.values(cell.figures).some(({ outliers }) => outliers.length > 0));
  return [
    `Medians over the rounds, with lowest–highest: ${rounds}, interleaved${report.complete ? '' : ', NOT ALL OF THEM RUN YET'}.`,
    `Downloads are sent under ${settings.congestion ?? report.machine.congestion}.`,
    'CPU is the back end’s alone, all its threads; kicks and interrupts are per operation; errors are sums over the rounds.',
    ...(outlier
      ? ['* an outlier among the rounds: over 3.5 scaled median absolute deviations, and over 10 %, from the median.']
      : []),
    ...(cells.every(({ settled }) => settled)
      ? []
      : [`~ not settled: the rates of the rounds vary by more than ${100 * UNSETTLED_COV} % (CoV); run more rounds.`]),
    ...contenders.map(({ label, version, mtu, command }) => `${label}: ${version}, MTU ${mtu}; ${command}`),
    ...contenders.map((contender) => featuresNote(report, contender)).filter((note) => note !== undefined),
    ...failures.map(
      ({ contender, load, round, message }) => `${contender} FAILED in ${load}, round ${round + 1}: ${message}`,
    ),
    `${machineLine(report.machine)}; ${report.date}.`,
  ];
}

function featuresNote({ runs }: CompareReport, { name, label }: ContenderInfo): string | undefined {
  const run = runs.find(({ contender, offered }) => contender === name && offered.length > 0);
  return run && `${label} offers ${run.offered.join(' ')}`;
}
