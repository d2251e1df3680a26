/** The figures of a run, and over the rounds. */
import { CURVE_QUANTILES } from '../driver/histogram.js';
import { isBulk } from '../load/result.js';
import { coefficientOfVariation, isSettled, median, summarize } from '../report/statistics.js';
import type { Summary } from '../report/statistics.js';
import type { Load } from './loads.js';
import { FIGURE_NAMES } from './result.js';
import type { CompareCell, CompareRun, FigureName, RunWindow } from './result.js';

/** A window's own figures; those that it can't have are undefined. */
type Figures = Readonly<Partial<Record<FigureName, number | undefined>>>;

/** @param runs of one contender under one load, at least one */
export function summarizeRuns(load: Load, runs: readonly CompareRun[]): CompareCell {
  const figures = runs.map((run) => runFigures(load, run));
  const summaries: Partial<Record<FigureName, Summary>> = {};
  for (const name of FIGURE_NAMES) {
    const values = figures.map((each) => each[name]).filter((value) => value !== undefined);
    if (values.length > 0) summaries[name] = summarize(values);
  }
  const curve = summarizeCurves(runs);
  return {
    contender: runs[0]?.contender ?? '',
    load: load.name,
    figures: summaries,
    settled: summaries.rate !== undefined && isSettled(summaries.rate),
    errors: sumErrors(runs),
    ...(curve && { curve }),
    streams: isBulk(load.mode) ? runs.map(({ windows }) => streamRates(windows[0])) : [],
  };
}

/** The last window's figures: under `idle` and `stall`, those beside. */
function runFigures(load: Load, run: CompareRun): Figures {
  const [alone] = run.windows;
  const window = run.windows.at(-1);
  if (alone === undefined || window === undefined) return {};
  const change = window === alone ? undefined : rateOf(load, window) / rateOf(load, alone) - 1;
  return { ...windowFigures(load, window), change, bytesPerFlow: bytesPerFlow(run, alone, window) };
}

function windowFigures(load: Load, window: RunWindow): Figures {
  const { latency, cpu } = window;
  // ms per GB are µs per MB.
  const units = isBulk(load.mode) ? window.bytes / 1e6 : window.operations;
  const perUnit = (value: number): number | undefined => (units > 0 ? value / units : undefined);
  const cpuPerUnit = (use: RunWindow['cpu']['server']) => use && perUnit(1e6 * (use.user + use.system));
  const guest = cpu.driver !== undefined && window.packets > 0;
  return {
    rate: rateOf(load, window),
    p50: latency?.p50,
    p99: latency?.p99,
    p999: latency?.p999,
    cpu: cpuPerUnit(cpu.backEnd),
    serverCpu: cpuPerUnit(cpu.server),
    driverCpu: cpuPerUnit(cpu.driver),
    resident: window.resident,
    packets: guest ? perUnit(window.packets) : undefined,
    kicks: guest ? perUnit(window.kicks) : undefined,
    interrupts: guest ? perUnit(window.interrupts) : undefined,
    retransmits: guest ? window.retransmits : undefined,
    unfairness: isBulk(load.mode) && window.streams.length > 1 ? coefficientOfVariation(window.streams) : undefined,
  };
}

function rateOf(load: Load, window: RunWindow): number {
  return (isBulk(load.mode) ? 8 * window.bytes : window.operations) / window.seconds;
}

function bytesPerFlow(run: CompareRun, alone: RunWindow, beside: RunWindow): number | undefined {
  if (!run.idle?.open || alone.resident === undefined || beside.resident === undefined) return undefined;
  return (beside.resident - alone.resident) / run.idle.open;
}

function streamRates(window: RunWindow | undefined): number[] {
  return window === undefined ? [] : window.streams.map((bytes) => (8 * bytes) / window.seconds);
}

function sumErrors(runs: readonly CompareRun[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const { windows, idle } of runs) {
    const lost = idle ? idle.failed + idle.open - idle.answered : 0;
    const all = [...windows.flatMap(({ errors }) => Object.entries(errors)), ['idle connections lost', lost] as const];
    for (const [name, times] of all) if (times > 0) sums[name] = (sums[name] ?? 0) + times;
  }
  return sums;
}

/** At each quantile, the median of the rounds and their range. */
function summarizeCurves(runs: readonly CompareRun[]): CompareCell['curve'] {
  const curves = runs.flatMap(({ windows }) => windows.at(-1)?.latency ?? []).map(({ curve }) => curve);
  if (curves.length === 0) return undefined;
  const over = (pick: (values: readonly number[]) => number): number[] =>
    CURVE_QUANTILES.map((_, n) => pick(curves.map((curve) => curve[n] ?? 0)));
  return {
    low: over((values) => Math.min(...values)),
    median: over(median),
    high: over((values) => Math.max(...values)),
  };
}
