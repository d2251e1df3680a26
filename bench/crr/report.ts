/** The CRR benchmark's results as a table for people. */
import { errorsCell, markNotes, queuesCell, retransmitNote, sessionNotes, variationCell } from '../guests/notes.js';
import { formatNumber, summaryCell } from '../report/table.js';
import type { Cell, Column, ResultTable } from '../report/table.js';
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
  return [
    { value: String(summary.flows) },
    { value: summary.backEnd },
    summaryCell(summary.p50),
    summaryCell(summary.p99),
    summaryCell(summary.p999),
    summaryCell(summary.rate),
    variationCell(summary.p50),
    errorsCell(summary.failed, summary.errors),
    queuesCell(summary.queuePackets),
  ];
}

function notes(report: CrrReport): readonly string[] {
  const { summaries } = report;
  return [
    'Medians over the rounds, with lowest–highest; quantiles are nearest rank; errors and packets (received + sent) are sums over the rounds.',
    ...markNotes(
      summaries.flatMap(({ p50, p99, p999, rate }) => [p50, p99, p999, rate]),
      summaries.map(({ p50 }) => p50),
      'medians',
    ),
    ...retransmitNote(summaries.map((each) => [`${each.backEnd} M = ${each.flows}`, each.retransmits])),
    serverNote(report),
    ...sessionNotes(report),
  ];
}

function serverNote({ serverSelfTest: { p50, p99 } }: CrrReport): string {
  const verdict = p50 < SERVER_LIMIT_US ? 'below its limit of' : "ABOVE ITS LIMIT, so don't trust the figures:";
  return `The benchmark's server adds ${p50} µs to a CRR (p50; p99 ${p99} µs; self-test on the host), ${verdict} ${SERVER_LIMIT_US} µs.`;
}
