/**
 * A histogram of durations in microseconds with fixed buckets: exact below 256, then 128 buckets to each power of two
 * (an error below 0.8 %). Recording is one addition to an array that may lie in shared memory.
 */
import { nearestRank } from '../report/statistics.js';

const EXACT = 256;
const STEPS = 128;
const STEP_BITS = 7;
const LARGEST_EXPONENT = 30;

/** Elements of the array of counts. */
export const HISTOGRAM_BUCKETS = EXACT + (LARGEST_EXPONENT - 7) * STEPS;

/** The bucket of a duration, µs, 0 … 2^31 - 1. */
export function bucketOf(microseconds: number): number {
  if (microseconds < EXACT) return Math.max(microseconds, 0);
  const exponent = 31 - Math.clz32(microseconds);
  return EXACT + (exponent - 8) * STEPS + ((microseconds >>> (exponent - STEP_BITS)) - STEPS);
}

/** The middle of a bucket, µs. */
export function bucketValue(bucket: number): number {
  if (bucket < EXACT) return bucket;
  const exponent = Math.floor((bucket - EXACT) / STEPS) + 8;
  const width = 2 ** (exponent - STEP_BITS);
  return (((bucket - EXACT) % STEPS) + STEPS) * width + (width - 1) / 2;
}

/** The quantiles of a latency curve: 0 … 0.9999, ten steps to each further nine. */
export const CURVE_QUANTILES: readonly number[] = Array.from({ length: 41 }, (_, n) => 1 - 10 ** (-n / 10));

/** Percentiles of a histogram, µs. */
export interface Latency {
  readonly count: number;
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
  /** At each of `CURVE_QUANTILES`. */
  readonly curve: readonly number[];
}

/** Nearest-rank quantiles of the counts; `undefined` for an empty histogram. */
export function summarizeHistogram(counts: Float64Array): Latency | undefined {
  const count = counts.reduce((sum, n) => sum + n, 0);
  if (count === 0) return undefined;
  const quantile = (q: number): number => {
    let rank = nearestRank(q, count);
    return bucketValue(counts.findIndex((n) => (rank -= n) <= 0));
  };
  const sum = counts.reduce((total, n, bucket) => total + n * bucketValue(bucket), 0);
  return {
    count,
    mean: sum / count,
    p50: quantile(0.5),
    p90: quantile(0.9),
    p99: quantile(0.99),
    p999: quantile(0.999),
    max: quantile(1),
    curve: CURVE_QUANTILES.map(quantile),
  };
}
