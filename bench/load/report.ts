/** A load's result for people. */
import { COUNTER_NAMES } from '../driver/statistics.js';
import type { CounterName } from '../driver/statistics.js';
import { coefficientOfVariation } from '../report/statistics.js';
import { formatNumber, terminalTable } from '../report/table.js';
import type { Cell } from '../report/table.js';
import { isBulk, isFlood } from './result.js';
import type { CpuUse, LoadResult, LoadWindow } from './result.js';

/** Counters of what goes well anyway. The others are worth a line when they are not zero. */
const ORDINARY: ReadonlySet<CounterName> = new Set([
  'operations',
  'connects',
  'retransmittedBytes',
  'bytesSent',
  'bytesReceived',
  'datagramsSent',
  'datagramsReceived',
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

/** A column: its heading, and what stands in it. */
type Column = readonly [heading: string, cell: (window: LoadWindow) => Cell];

const LATENCIES: readonly Column[] = [
  ['p50 µs', (window) => quantile(window, 'p50')],
  ['p99 µs', (window) => quantile(window, 'p99')],
  ['p99.9 µs', (window) => quantile(window, 'p999')],
];
const CPU: readonly Column[] = [
  ['back end µs', ({ backEnd }) => cpu(backEnd)],
  ['server µs', ({ server }) => cpu(server)],
  ['driver µs', ({ driver }) => cpu(driver)],
];
const OPERATIONS: readonly Column[] = [
  ['per second', ({ rate }) => ({ value: formatNumber(rate) })],
  ...LATENCIES,
  ...CPU,
];
const BULK: readonly Column[] = [['Gbit/s', ({ rate }) => ({ value: formatNumber(rate / 1e9, 2) })], ...CPU];
const FLOOD: readonly Column[] = [
  ['sent Mpps', ({ flood, seconds }) => figure(flood && flood.sent / seconds / 1e6, 3)],
  ['arrived Mpps', ({ flood, seconds }) => figure(flood && flood.arrived / seconds / 1e6, 3)],
  ['lost %', ({ flood }) => figure(flood && 100 * (1 - flood.arrived / flood.sent), 1)],
  ['Gbit/s', ({ flood, seconds }) => figure(flood && (8 * flood.bytes) / seconds / 1e9, 2)],
  ...CPU,
];

function windowsTable(result: LoadResult, bulk: boolean, colour: boolean): string {
  const flood = isFlood(result.mode);
  const columns = bulk ? BULK : flood ? FLOOD : OPERATIONS;
  const unit = bulk
    ? 'in µs per 10^6 bytes, which is ms per GB'
    : flood
      ? 'per datagram that arrived'
      : 'per operation';
  return terminalTable(
    {
      title: `${result.mode}, ${result.flows} flows, ${result.pairs} queue pairs, ${result.threads} driver threads, MTU ${result.mtu}`,
      columns: ['', ...columns.map(([name]) => name)].map((name, n) => ({ name, align: n === 0 ? 'left' : 'right' })),
      rows: result.windows.map((window) => [{ value: window.name }, ...columns.map(([, cell]) => cell(window))]),
      notes: [`CPU ${unit}`, `features taken: ${result.taken.join(' ')}`, ...result.windows.flatMap(notes)],
    },
    colour,
  );
}

function figure(value: number | undefined, digits: number): Cell {
  return value === undefined ? NONE : { value: formatNumber(value, digits) };
}

function quantile({ latency }: LoadWindow, name: 'p50' | 'p99' | 'p999'): Cell {
  return figure((latency.total ?? latency.response)?.[name], 0);
}

function cpu(use: CpuUse | undefined): Cell {
  return use ? { value: formatNumber(use.perUnit, 1), spread: `${formatNumber(use.percent)} %` } : NONE;
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
    window.latency.response || window.flood || streams.length < 2
      ? []
      : [
          `streams: ${Math.min(...streams).toFixed(2)} to ${Math.max(...streams).toFixed(2)} Gbit/s, ` +
            `standard deviation ${formatNumber(100 * coefficientOfVariation(streams), 1)} % of their mean`,
        ];
  const wrong = window.flood && window.flood.wrong > 0 ? [`${formatNumber(window.flood.wrong)} arrived wrong`] : [];
  return [...pairs, ...fairness, ...wrong, ...(counters.length > 0 ? [counters.join(', ')] : [])].map(
    (line) => `${window.name}: ${line}`,
  );
}
