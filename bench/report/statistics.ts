/**
 * The statistics of every benchmark here. One definition of a quantile for all: nearest rank, the ceil(q·N)-th smallest
 * of N values, without interpolation, so that each figure is one that was measured. The C client (bench/guest/crr.c) does
 * the same. The median is the quantile 0.5; with an even number of values it is the lower of the middle two.
 */

/** What is said about one figure over several rounds. */
export interface Summary {
  /** Number of values. */
  readonly n: number;
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** See `coefficientOfVariation`. */
  readonly cov: number;
  /** Indices of the values that are outliers by `isOutlier`. */
  readonly outliers: readonly number[];
}

/** A figure whose coefficient of variation over the rounds is above this is called not settled. */
export const UNSETTLED_COV = 0.15;
/** Modified z-score above which a value is an outlier (Iglewicz and Hoaglin, 1993). */
const OUTLIER_SCORE = 3.5;
/** Scales a median absolute deviation to the standard deviation of a normal distribution. */
const MAD_TO_SIGMA = 1.4826;
/** Of fewer values nobody can say which is the odd one. */
const OUTLIER_VALUES = 3;
/** A value this near to the median is no outlier however close the others lie together. */
const OUTLIER_SHARE = 0.1;

/** The rank of the quantile `q` among `count` values in ascending order: 1 … `count`. */
export function nearestRank(q: number, count: number): number {
  return Math.max(Math.ceil(q * count), 1);
}

/**
 * Nearest-rank quantile.
 * @param values in any order, at least one
 * @param q 0 … 1
 * @throws {RangeError} for no values or a `q` outside 0 … 1
 */
export function quantile(values: readonly number[], q: number): number {
  if (!(q >= 0 && q <= 1)) throw new RangeError(`a quantile lies between 0 and 1, not at ${q}`);
  const sorted = values.toSorted((a, b) => a - b);
  const value = sorted[nearestRank(q, sorted.length) - 1];
  if (value === undefined) throw new RangeError('no values, so no quantile');
  return value;
}

/** @throws {RangeError} for no values */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** @throws {RangeError} for no values */
export function summarize(values: readonly number[]): Summary {
  const middle = median(values);
  const deviation = MAD_TO_SIGMA * median(values.map((value) => Math.abs(value - middle)));
  return {
    n: values.length,
    median: middle,
    min: Math.min(...values),
    max: Math.max(...values),
    cov: coefficientOfVariation(values),
    outliers: values.flatMap((value, index) =>
      values.length >= OUTLIER_VALUES && isOutlier(value, middle, deviation) ? [index] : [],
    ),
  };
}

function isOutlier(value: number, middle: number, deviation: number): boolean {
  const distance = Math.abs(value - middle);
  return distance > OUTLIER_SCORE * deviation && distance > OUTLIER_SHARE * Math.abs(middle);
}

/** Sample standard deviation (n − 1) over mean; 0 for fewer than two values or a mean of 0. */
export function coefficientOfVariation(values: readonly number[]): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  if (values.length < 2 || mean === 0) return 0;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return Math.sqrt(squares / (values.length - 1)) / Math.abs(mean);
}

export function isSettled(summary: Summary): boolean {
  return summary.cov <= UNSETTLED_COV;
}
