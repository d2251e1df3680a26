/** The page's line charts, as data: what page/charts.js draws. */
import { CURVE_QUANTILES } from '../driver/histogram.js';
import { formatNumber } from '../report/table.js';
import type { Load, LoadMode } from './loads.js';
import { MEASURES } from './measures.js';
import type { Measure } from './measures.js';
import { findCell } from './result.js';
import type { CompareCell, CompareReport, ContenderInfo } from './result.js';
import { familyOf, styleOf } from './style.js';

export interface ChartSeries {
  readonly contender: string;
  readonly label: string;
  /** A custom property of the style sheet. */
  readonly colour: string;
  /** Several workers, or no network at all. */
  readonly dash: boolean;
  /** At each x: median, lowest and highest; null where there is no figure. */
  readonly y: readonly (number | null)[];
  readonly low: readonly (number | null)[];
  readonly high: readonly (number | null)[];
}

export interface LineChart {
  readonly id: string;
  readonly title: string;
  readonly unit: string;
  /** What stands below the positions. */
  readonly xLabel: string;
  /** Positions, ascending. */
  readonly x: readonly number[];
  /** What the tooltip calls each position. */
  readonly names: readonly string[];
  readonly ticks: readonly { readonly at: number; readonly label: string }[];
  readonly yScale: 'linear' | 'log';
  readonly yRange: readonly [number, number];
  readonly digits: number;
  readonly series: readonly ChartSeries[];
}

/** Curves begin at the median: what is faster than that troubles nobody. */
const CURVE_START = CURVE_QUANTILES.findIndex((q) => q > 0.49);
/** Ticks of a latency curve, by the number of nines. */
const CURVE_TICKS = [
  { at: CURVE_START / 10, label: '50 %' },
  { at: 1, label: '90 %' },
  { at: 2, label: '99 %' },
  { at: 3, label: '99.9 %' },
  { at: 4, label: '99.99 %' },
];
/** What latencies are of. */
const UNITS = { crr: 'connection', rr: 'request', 'udp-rr': 'datagram' } as const;
/** Headroom above, and on logarithmic axes below, as a factor. */
const ROOM = 1.08;
const LOG_ROOM = 1.25;

/** A measure on an axis. */
interface AxisMeasure {
  readonly measure: Measure;
  readonly title: string;
  readonly yScale: LineChart['yScale'];
}

const RATE: AxisMeasure = { measure: MEASURES.rate, title: 'Connections per second', yScale: 'linear' };
const CPU: AxisMeasure = { measure: MEASURES.cpu, title: 'CPU per connection', yScale: 'linear' };
const GIGABITS = { measure: MEASURES.gigabits, yScale: 'linear' } as const;

/** Figures of CRRs against how many are going at once. */
export function connectionCharts(report: CompareReport): readonly LineChart[] {
  const loads = loadsOf(report, 'crr').toSorted((a, b) => a.flows - b.flows);
  if (loads.length < 2) return [];
  const shown: readonly AxisMeasure[] = [
    RATE,
    { measure: MEASURES.p99, title: '99th percentile of a connection', yScale: 'log' },
    CPU,
    { measure: MEASURES.interrupts, title: 'Interrupts per connection', yScale: 'linear' },
  ];
  const x = loads.map(({ flows }) => Math.log2(flows));
  const axis = {
    xLabel: 'connections at a time',
    x,
    names: loads.map(({ flows }) => (flows === 1 ? 'one at a time' : `${flows} at a time`)),
    ticks: loads.map(({ flows }, n) => ({ at: x[n] ?? 0, label: String(flows) })),
  };
  return shown.flatMap((each) => {
    const series = report.contenders.map((contender) =>
      measureSeries(
        report,
        contender,
        each.measure,
        loads.map((load) => findCell(report, contender.name, load.name)),
      ),
    );
    return chartOf(`connections-${each.measure.figure}`, each, axis, series);
  });
}

/** Latency by percentile: one chart for each number of flows, those of one mode on one scale. */
export function latencyCharts(report: CompareReport, mode: 'crr' | 'rr' | 'udp-rr'): readonly LineChart[] {
  const unit = UNITS[mode];
  const axis = {
    xLabel: `percentile of the ${unit}s`,
    x: CURVE_QUANTILES.map((_, n) => n / 10).slice(CURVE_START),
    names: CURVE_QUANTILES.slice(CURVE_START).map(
      (q) => `${formatNumber(100 * q, q < 0.9 ? 0 : q < 0.99 ? 1 : q < 0.999 ? 2 : 3)} %`,
    ),
    ticks: CURVE_TICKS,
  };
  const charts = loadsOf(report, mode).flatMap((load) => {
    const title = `${load.flows === 1 ? `One ${unit}` : `${load.flows} ${unit}s`} at a time`;
    const series = report.contenders.map((contender) =>
      curveSeries(report, contender, findCell(report, contender.name, load.name)),
    );
    return chartOf(`latency-${load.name}`, { title, measure: MEASURES.p50, yScale: 'log' }, axis, series);
  });
  const ranges = charts.map(({ yRange }) => yRange);
  const yRange = [Math.min(...ranges.map(([low]) => low)), Math.max(...ranges.map(([, high]) => high))] as const;
  return charts.map((chart) => ({ ...chart, yRange }));
}

/** Figures against the number of workers; a peer has its one point. Nothing if ours were run with one number only. */
export function workerCharts(report: CompareReport): readonly LineChart[] {
  const counts = [...new Set(report.contenders.map(({ workers }) => workers ?? 1))].toSorted((a, b) => a - b);
  if (counts.length < 2) return [];
  const axis = {
    xLabel: 'workers and queue pairs',
    x: counts.map((workers) => Math.log2(workers)),
    names: counts.map((workers) => `${workers} worker${workers === 1 ? '' : 's'}`),
    ticks: counts.map((workers) => ({ at: Math.log2(workers), label: String(workers) })),
  };
  const wanted: readonly (AxisMeasure & { mode: LoadMode; of: string })[] = [
    { mode: 'crr', of: 'at a time', ...RATE },
    { mode: 'crr', of: 'at a time', ...CPU },
    { mode: 'bulk-tx', of: 'streams', title: 'Guest to host', ...GIGABITS },
    { mode: 'bulk-rx', of: 'streams', title: 'Host to guest', ...GIGABITS },
  ];
  return wanted.flatMap(({ mode, of, title, measure, yScale }) => {
    const load = busiest(report, mode);
    if (load === undefined) return [];
    const series = [...new Set(report.contenders.map(familyOf))].flatMap((family) => {
      const members = report.contenders.filter((contender) => familyOf(contender) === family);
      const cells = counts.map((workers) => {
        const member = members.find((each) => (each.workers ?? 1) === workers);
        return member && findCell(report, member.name, load.name);
      });
      return members.slice(0, 1).map((first) => measureSeries(report, first, measure, cells));
    });
    const look = { measure, yScale, title: `${title}, ${load.flows} ${of}` };
    return chartOf(`workers-${load.name}-${measure.figure}`, look, axis, series);
  });
}

/** The load of a mode with the most flows. */
function busiest(report: CompareReport, mode: LoadMode): Load | undefined {
  return loadsOf(report, mode).toSorted((a, b) => b.flows - a.flows)[0];
}

function loadsOf(report: CompareReport, mode: LoadMode): readonly Load[] {
  return report.loads.filter((load) => load.mode === mode);
}

/** No chart if no contender has anything to show. */
function chartOf(
  id: string,
  { title, measure: { unit, digits }, yScale }: AxisMeasure,
  axis: Pick<LineChart, 'xLabel' | 'x' | 'names' | 'ticks'>,
  all: readonly ChartSeries[],
): readonly LineChart[] {
  const series = all.filter(({ y }) => y.some((value) => value !== null));
  if (series.length === 0) return [];
  return [{ id, title, unit, digits, yScale, ...axis, yRange: rangeOf(series, yScale), series }];
}

function rangeOf(series: readonly ChartSeries[], scale: LineChart['yScale']): readonly [number, number] {
  const values = series.flatMap(({ low, high }) => [...low, ...high]).filter((value) => value !== null);
  const highest = Math.max(...values);
  if (scale === 'linear') return [0, highest * ROOM || 1];
  return [Math.max(Math.min(...values), 1) / LOG_ROOM, highest * LOG_ROOM];
}

function measureSeries(
  report: CompareReport,
  contender: ContenderInfo,
  { figure, factor }: Measure,
  cells: readonly (CompareCell | undefined)[],
): ChartSeries {
  const summaries = cells.map((cell) => cell?.figures[figure]);
  const values = (part: 'median' | 'min' | 'max'): (number | null)[] =>
    summaries.map((summary) => (summary === undefined ? null : summary[part] * factor));
  return { ...identity(report, contender), y: values('median'), low: values('min'), high: values('max') };
}

function curveSeries(report: CompareReport, contender: ContenderInfo, cell: CompareCell | undefined): ChartSeries {
  const { median = [], low = [], high = [] } = cell?.curve ?? {};
  const shown = (values: readonly number[]): readonly number[] => values.slice(CURVE_START);
  return { ...identity(report, contender), y: shown(median), low: shown(low), high: shown(high) };
}

function identity(report: CompareReport, { name, label }: ContenderInfo): Omit<ChartSeries, 'y' | 'low' | 'high'> {
  return { contender: name, label, ...styleOf(report, name) };
}
