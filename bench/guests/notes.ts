/** What stands in and below the tables of all benchmarks from inside guests. */
import { machineLine } from '../report/machine.js';
import { UNSETTLED_COV, isSettled } from '../report/statistics.js';
import type { Summary } from '../report/statistics.js';
import { formatNumber } from '../report/table.js';
import type { Cell } from '../report/table.js';
import type { GuestsReport } from './result.js';

/** How much a figure varies over the rounds; `~` where that is too much. */
export function variationCell(summary: Summary): Cell {
  return { value: `${formatNumber(summary.cov * 100)} %${isSettled(summary) ? '' : '~'}` };
}

/** `EPIPE 2, ETIMEDOUT 1`, behind the number of all of them; `0` if there were none. */
export function errorsCell(count: number, errors: Readonly<Record<string, number>>): Cell {
  const names = Object.entries(errors).map(([name, times]) => `${name} ${times}`);
  return { value: names.length === 0 ? '0' : `${count} (${names.join(', ')})` };
}

export function queuesCell(queuePackets: readonly number[]): Cell {
  return { value: queuePackets.map((packets) => formatNumber(packets)).join(' + ') || '–' };
}

/**
 * What the marks in a table mean, as far as it has any.
 * @param shown figures that may carry `*`
 * @param settling figures that may carry `~`
 * @param what the latter are called, in the plural
 */
export function markNotes(shown: readonly Summary[], settling: readonly Summary[], what: string): readonly string[] {
  return [
    ...(shown.some(({ outliers }) => outliers.length > 0)
      ? ['* an outlier among the rounds: over 3.5 scaled median absolute deviations, and over 10 %, from the median.']
      : []),
    ...(settling.every(isSettled)
      ? []
      : [
          `~ not settled: the ${what} of the rounds vary by more than ${UNSETTLED_COV * 100} % (CoV); run more rounds.`,
        ]),
  ];
}

/** @param cells a name for each, and what its client's kernel retransmitted over all rounds */
export function retransmitNote(cells: readonly (readonly [name: string, segments: number])[]): readonly string[] {
  const some = cells.filter(([, segments]) => segments > 0);
  if (some.length === 0) return [];
  return [`Retransmitted segments: ${some.map(([name, segments]) => `${name}: ${segments}`).join('; ')}.`];
}

/** Who took part, who didn't, and where. */
export function sessionNotes(report: GuestsReport): readonly string[] {
  return [
    ...Object.entries(report.backEnds).map(([name, description]) => `${name}: ${description}.`),
    ...report.notInstalled.map((name) => `${name}: not installed.`),
    ...report.failures.map((failure) => `${failure.backEnd} FAILED: ${failure.message}`),
    `${machineLine(report.machine)}; ${report.date}.`,
  ];
}
