/** The CRR benchmark's results as a table for people. */
import { machineLine } from '../report/machine.js';
import { formatNumber, summaryCell } from '../report/table.js';
import type { Cell, Column, ResultTable } from '../report/table.js';
import { UNSETTLED_COV, isSettled } from '../report/statistics.js';
import { SERVER_LIMIT_US } from './result.js';
import type { CellSummary, CrrReport } from './result.js';

const COLUMNS: readonly Column[] = [
  { name: 'M', align: 'right' },
  { name: 'back end', align: 'left' },
  { name: 'p50 µs', align: 'right' },
  { name: 'p99 µs', align: 'right' },
  { name: 'p99.9 µs', align: 'right' },
  { name: 'CRR/s', align: 'right' },
  { name: 'CoV p50', align: 'right' },
  { name: 'errors', align: 'right' },
  { name: 'packets per queue pair', align: 'right' },
];

/** By number of flows, then by back end, so that what is to be compared stands together. */
export function crrTable(report: CrrReport): ResultTable {
  const { cpus, count, rounds, closes } = report.settings;
  const rows = report.settings.flows.flatMap((flows) =>
    report.summaries.filter((summary) => summary.flows === flows).map(row),
  );
  return {
    title: `Concurrent connect/request/response/close: ${cpus} vCPUs, M flows, N = ${formatNumber(count)} CRRs per run, ${rounds} rounds, the ${closes} closes first`,
    columns: COLUMNS,
    rows,
    notes: notes(report),
  };
}

function row(summary: CellSummary): readonly Cell[] {
  const { cov } = summary.p50;
  return [
    { value: String(summary.flows) },
    { value: summary.backEnd },
    summaryCell(summary.p50),
    summaryCell(summary.p99),
    summaryCell(summary.p999),
    summaryCell(summary.rate),
    { value: `${formatNumber(cov * 100)} %${isSettled(summary.p50) ? '' : '~'}` },
    { value: errorsText(summary) },
    { value: summary.queuePackets.map((packets) => formatNumber(packets)).join(' + ') || '–' },
  ];
}

function errorsText(summary: CellSummary): string {
  const names = Object.entries(summary.errors).map(([name, times]) => `${name} ${times}`);
  return names.length === 0 ? '0' : `${summary.failed} (${names.join(', ')})`;
}

function notes(report: CrrReport): readonly string[] {
  const { summaries } = report;
  const outlier = summaries.some((each) =>
    [each.p50, each.p99, each.p999, each.rate].some((figure) => figure.outliers.length > 0),
  );
  const unsettled = !summaries.every((each) => isSettled(each.p50));
  const retransmits = summaries.filter((each) => each.retransmits > 0);
  return [
    'Medians over the rounds, with lowest–highest; quantiles are nearest rank; errors and packets (received + sent) are sums over the rounds.',
    ...(outlier
      ? ['* an outlier among the rounds: over 3.5 scaled median absolute deviations, and over 10 %, from the median.']
      : []),
    ...(unsettled
      ? [`~ not settled: the medians of the rounds vary by more than ${UNSETTLED_COV * 100} % (CoV); run more rounds.`]
      : []),
    ...(retransmits.length > 0
      ? [
          `Retransmitted segments: ${retransmits.map((each) => `${each.backEnd} M = ${each.flows}: ${each.retransmits}`).join('; ')}.`,
        ]
      : []),
    serverNote(report),
    ...Object.entries(report.backEnds).map(([name, description]) => `${name}: ${description}.`),
    ...report.notInstalled.map((name) => `${name}: not installed.`),
    ...report.failures.map((failure) => `${failure.backEnd} FAILED: ${failure.message}`),
    `${machineLine(report.machine)}; ${report.date}.`,
  ];
}

function serverNote({ serverSelfTest: { p50, p99 } }: CrrReport): string {
  const verdict = p50 < SERVER_LIMIT_US ? 'below its limit of' : "ABOVE ITS LIMIT, so don't trust the figures:";
  return `The benchmark's server adds ${p50} µs to a CRR (p50; p99 ${p99} µs; self-test on the host), ${verdict} ${SERVER_LIMIT_US} µs.`;
}
