/**
 * What a driver thread counts: one array of numbers in shared memory, written by its thread and read by any other.
 * A window of time is the difference of two copies.
 */
import { HISTOGRAM_BUCKETS, summarizeHistogram } from './histogram.js';
import type { Latency } from './histogram.js';

export const COUNTER_NAMES = [
  'operations',
  'connects',
  /** Connects answered by RST. */
  'refused',
  /** Connections ended by RST, or by a FIN too early. */
  'resets',
  /** Operations given up. */
  'timeouts',
  /** Datagrams whose echo did not come in time. */
  'lost',
  /** Retransmission timer ran out with data in flight. */
  'retransmissionTimeouts',
  'fastRetransmits',
  'retransmittedSegments',
  'retransmittedBytes',
  /** Segments received again. */
  'duplicates',
  /** Segments beyond a hole; dropped. */
  'outOfOrder',
  /** Segments that came in on another queue pair than their flow sends on. */
  'cross',
  /** Flows that took up another queue pair. */
  'hops',
  /** Packets that came in for another thread's flow, and those lost because it didn't keep up. */
  'handedOver',
  'handoverDrops',
  /** Packets for no flow; of UDP also echoes that come too late, or twice. */
  'stray',
  'badChecksums',
  /** Frames whose header fields or virtio-net header contradict each other. */
  'badFrames',
  /** Payload that isn't what the other side sent. */
  'badData',
  /** Rule breaks of the device in its used rings. */
  'ringErrors',
  /** Times the transmit ring was full. */
  'txFull',
  'bytesSent',
  'bytesReceived',
  'datagramsSent',
  'datagramsReceived',
  /** Segments sent larger than the MSS, and received so. */
  'largeSent',
  'largeReceived',
] as const;

const PAIR_NAMES = ['txPackets', 'rxPackets', 'kicks', 'interrupts'] as const;
const HISTOGRAM_NAMES = ['connect', 'response', 'total'] as const;

export type CounterName = (typeof COUNTER_NAMES)[number];
export type PairCounterName = (typeof PAIR_NAMES)[number];
export type HistogramName = (typeof HISTOGRAM_NAMES)[number];

/** Indices of the counters. */
export const Counter = Object.fromEntries(COUNTER_NAMES.map((name, n) => [name, n])) as Record<CounterName, number>;
/** Indices of a pair's counters, from `pairCounters`. */
export const PairCounter = Object.fromEntries(PAIR_NAMES.map((name, n) => [name, n])) as Record<
  PairCounterName,
  number
>;

const HISTOGRAMS_AT = COUNTER_NAMES.length;
const PAIRS_AT = HISTOGRAMS_AT + HISTOGRAM_NAMES.length * HISTOGRAM_BUCKETS;
/** Indices of the first bucket of each histogram. */
export const HistogramAt = Object.fromEntries(
  HISTOGRAM_NAMES.map((name, n) => [name, HISTOGRAMS_AT + n * HISTOGRAM_BUCKETS]),
) as Record<HistogramName, number>;

/** Index of the first counter of a queue pair. */
export function pairCounters(pair: number): number {
  return PAIRS_AT + pair * PAIR_NAMES.length;
}

/** Index of the first of the flows' byte counts, one for each main flow. */
export function flowBytes(pairs: number): number {
  return pairCounters(pairs);
}

export function createStatistics(pairs: number, flows: number): Float64Array {
  return new Float64Array(new SharedArrayBuffer(8 * (flowBytes(pairs) + flows)));
}

/** What happened in a window of time. */
export interface Snapshot {
  readonly counters: Readonly<Record<CounterName, number>>;
  readonly pairs: readonly Readonly<Record<PairCounterName, number>>[];
  readonly latency: Readonly<Partial<Record<HistogramName, Latency>>>;
  /** Payload bytes of each main flow, both directions. */
  readonly flowBytes: readonly number[];
}

/** The sum of several threads' counts now. */
export function sumStatistics(threads: readonly Float64Array[]): Float64Array {
  const sum = new Float64Array(threads[0]?.length ?? 0);
  for (const thread of threads) for (let n = 0; n < sum.length; n++) sum[n] += thread[n];
  return sum;
}

/** Reads the window between two sums of `sumStatistics`. */
export function statisticsBetween(before: Float64Array, after: Float64Array, pairs: number): Snapshot {
  const window = after.map((value, n) => value - before[n]);
  const histogram = (name: HistogramName) =>
    summarizeHistogram(window.subarray(HistogramAt[name], HistogramAt[name] + HISTOGRAM_BUCKETS));
  const latencies = HISTOGRAM_NAMES.map((name) => [name, histogram(name)] as const);
  return {
    counters: named(COUNTER_NAMES, window, 0),
    pairs: Array.from({ length: pairs }, (_, pair) => named(PAIR_NAMES, window, pairCounters(pair))),
    latency: Object.fromEntries(latencies.filter(([, latency]) => latency !== undefined)),
    flowBytes: [...window.subarray(flowBytes(pairs))],
  };
}

function named<Name extends string>(names: readonly Name[], values: Float64Array, from: number): Record<Name, number> {
  return Object.fromEntries(names.map((name, n) => [name, values[from + n]])) as Record<Name, number>;
}
