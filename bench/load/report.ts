/** A load's result for people. */
import { COUNTER_NAMES } from '../driver/statistics.js';
import type { CounterName } from '../driver/statistics.js';
import { coefficientOfVariation } from '../report/statistics.js';
import { formatNumber, terminalTable } from '../report/table.js';
import type { Cell } from '../report/table.js';
import { isBulk } from './result.js';
import type { CpuUse, LoadResult, LoadWindow } from './result.js';

/** Counters of what goes well anyway. The others are worth a line when they are not zero. */
const ORDINARY: ReadonlySet<CounterName> = new Set([
  'operations',
  'connects',
  'retransmittedBytes',
  'bytesSent',
  'bytesReceived',
]);

const NONE: Cell = { value: '–' };

export function loadReport(result: LoadResult, colour: boolean): string {
  const parts: string[] = [];
  const bulk = isBulk(result.mode);
  if (result.windows.length > 0) parts.push(windowsTable(result, bulk, colour));
  if (result.idle) {
    const { open, failed, answered, seconds } = result.idle;
    parts.push(`idle: ${open} open after ${seconds.toFixed(2)} s, ${failed} failed, ${answered} still answered`);
  }
  if (result.lease)
    parts.push(
      Object.entries(result.lease)
        .map(([key, value]) => `${key.padEnd(8)} ${value}`)
        .join('\n'),
    );
  return parts.join('\n');
}

function windowsTable(result: LoadResult, bulk: boolean, colour: boolean): string {
  const names = [
    '',
    bulk ? 'Gbit/s' : 'per second',
    'p50 µs',
    'p99 µs',
    'p99.9 µs',
    'back end µs',
    'server µs',
    'driver µs',
  ];
  return terminalTable(
    {
      title: `${result.mode}, ${result.flows} flows, ${result.pairs} queue pairs, ${result.threads} driver threads, MTU ${result.mtu}`,
      columns: names.map((name, n) => ({ name, align: n === 0 ? 'left' : 'right' })),
      rows: result.windows.map((window) => row(window, bulk)),
      notes: [
        bulk ? 'CPU in µs per 10^6 bytes, which is ms per GB' : 'CPU per operation',
        `features taken: ${result.taken.join(' ')}`,
        ...result.windows.flatMap(notes),
      ],
    },
    colour,
  );
}

function row(window: LoadWindow, bulk: boolean): Cell[] {
  const latency = window.latency.total ?? window.latency.response;
  const quantile = (name: 'p50' | 'p99' | 'p999'): Cell =>
    latency && !bulk ? { value: formatNumber(latency[name]) } : NONE;
  const cpu = (use: CpuUse | undefined): Cell =>
    use ? { value: formatNumber(use.perUnit, 1), spread: `${formatNumber(use.percent)} %` } : NONE;
  return [
    { value: window.name },
    { value: bulk ? formatNumber(window.rate / 1e9, 2) : formatNumber(window.rate) },
    quantile('p50'),
    quantile('p99'),
    quantile('p999'),
    cpu(window.backEnd),
    cpu(window.server),
    cpu(window.driver),
  ];
}

function notes(window: LoadWindow): string[] {
  const counters = COUNTER_NAMES.filter((name) => !ORDINARY.has(name) && window.counters[name] > 0).map(
    (name) => `${name} ${formatNumber(window.counters[name])}`,
  );
  const pairs = window.pairs.map(
    (pair, n) =>
      `pair ${n}: ${formatNumber(pair.txPackets)} sent, ${formatNumber(pair.rxPackets)} received, ` +
      `${formatNumber(pair.kicks)} kicks, ${formatNumber(pair.interrupts)} interrupts`,
  );
  const streams = window.flowBytes.map((bytes) => (8 * bytes) / window.seconds / 1e9);
  const fairness =
    window.latency.response || streams.length < 2
      ? []
      : [
          `streams: ${Math.min(...streams).toFixed(2)} to ${Math.max(...streams).toFixed(2)} Gbit/s, ` +
            `standard deviation ${formatNumber(100 * coefficientOfVariation(streams), 1)} % of their mean`,
        ];
  return [...pairs, ...fairness, ...(counters.length > 0 ? [counters.join(', ')] : [])].map(
    (line) => `${window.name}: ${line}`,
  );
}
