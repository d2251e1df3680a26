/** The bulk benchmark's results as a table for people. */
import { errorsCell, markNotes, queuesCell, retransmitNote, sessionNotes, variationCell } from '../guests/notes.js';
import { formatNumber, summaryCell } from '../report/table.js';
import type { Cell, Column, ResultTable } from '../report/table.js';
import type { BulkReport, BulkSummary, Direction } from './result.js';

const WAYS: Readonly<Record<Direction, string>> = { send: 'guest → host', receive: 'host → guest' };

const COLUMNS: readonly Column[] = [
  { name: 'direction', align: 'left' },
  { name: 'streams', align: 'right' },
  { name: 'back end', align: 'left' },
  { name: 'Mbit/s', align: 'right' },
  { name: 'CoV', align: 'right' },
  { name: 'streams differ by', align: 'right' },
  { name: 'bytes per packet', align: 'right' },
  { name: 'errors', align: 'right' },
  { name: 'packets per queue pair', align: 'right' },
];

/** By direction and number of streams, then by back end, so that what is to be compared stands together. */
export function bulkTable(report: BulkReport): ResultTable {
  const { cpus, directions, streams, seconds, rounds } = report.settings;
  const rows = directions.flatMap((direction) =>
    streams.flatMap((count) =>
      report.summaries.filter((each) => each.direction === direction && each.streams === count).map(row),
    ),
  );
  return {
    title: `Bulk data over TCP, every byte compared: ${cpus} vCPUs, ${seconds} s per run, ${rounds} rounds`,
    columns: COLUMNS,
    rows,
    notes: notes(report),
  };
}

/** Whether a back end failed, or a single stream. */
export function hasFailed({ failures, summaries }: BulkReport): boolean {
  return failures.length > 0 || summaries.some(({ failed }) => failed > 0);
}

function row(summary: BulkSummary): readonly Cell[] {
  const { unfairness, bytesPerPacket } = summary;
  return [
    { value: WAYS[summary.direction] },
    { value: String(summary.streams) },
    { value: summary.backEnd },
    summaryCell(summary.rate),
    variationCell(summary.rate),
    { value: summary.streams === 1 ? '–' : `${formatNumber(unfairness.median * 100, 1)} %` },
    { value: bytesPerPacket === undefined ? '–' : formatNumber(bytesPerPacket.median) },
    errorsCell(summary.failed, summary.errors),
    queuesCell(summary.queuePackets),
  ];
}

function notes(report: BulkReport): readonly string[] {
  const rates = report.summaries.map(({ rate }) => rate);
  return [
    'Medians over the rounds, with lowest–highest; errors (streams) and packets (received + sent) are sums over the rounds.',
    'Streams differ by: the standard deviation of their bytes as a share of the mean; bytes per packet: payload, in the direction of the data.',
    ...markNotes(rates, rates, 'rates'),
    ...retransmitNote(
      report.summaries.map(({ backEnd, direction, streams, retransmits }) => [
        `${backEnd} ${WAYS[direction]} ${streams}`,
        retransmits,
      ]),
    ),
    ...sessionNotes(report),
  ];
}
