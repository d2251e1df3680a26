import { array, assert, double, integer, property } from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  UNSETTLED_COV,
  isSettled,
  median,
  nearestRank,
  quantile,
  summarize,
} from '../../../bench/report/statistics.js';

const values = array(integer({ min: 0, max: 1e9 }), { minLength: 1, maxLength: 200 });
const share = double({ min: 0, max: 1, noNaN: true });

describe('quantile (nearest rank)', () => {
  it('is the smallest value that at least the share q of all values does not exceed', () => {
    assert(
      property(values, share, (all, q) => {
        const at = quantile(all, q);
        const notAbove = (limit: number): number => all.filter((value) => value <= limit).length;
        expect(all).toContain(at);
        expect(notAbove(at)).toBeGreaterThanOrEqual(Math.ceil(q * all.length));
        const below = all.filter((value) => value < at);
        expect(below.length).toBeLessThan(Math.max(Math.ceil(q * all.length), 1));
      }),
    );
  });

  it('does not depend on the order of the values and leaves them alone', () => {
    assert(
      property(values, share, (all, q) => {
        const before = [...all];
        expect(quantile(all.toReversed(), q)).toBe(quantile(all, q));
        expect(all).toEqual(before);
      }),
    );
  });

  it('is the lowest value at 0 and the highest at 1', () => {
    assert(
      property(values, (all) => {
        expect(quantile(all, 0)).toBe(Math.min(...all));
        expect(quantile(all, 1)).toBe(Math.max(...all));
      }),
    );
  });

  it('takes the lower of two middle values as the median, sorted by number and not as text', () => {
    expect(median([100, 9])).toBe(9);
    expect(median([100, 9, 20])).toBe(20);
    expect(quantile([4, 3, 2, 1], 0.75)).toBe(3);
    expect(quantile([4, 3, 2, 1], 0.76)).toBe(4);
  });

  it('refuses what has no quantile', () => {
    expect(() => quantile([], 0.5)).toThrow(RangeError);
    expect(() => quantile([1], 1.1)).toThrow(RangeError);
    expect(() => quantile([1], Number.NaN)).toThrow(RangeError);
  });
});

describe('summarize', () => {
  it('orders min, median and max and scales with its values, the coefficient of variation unchanged', () => {
    assert(
      property(values, integer({ min: 1, max: 1_000 }), (all, factor) => {
        const one = summarize(all);
        const scaled = summarize(all.map((value) => value * factor));
        expect(one.min).toBeLessThanOrEqual(one.median);
        expect(one.median).toBeLessThanOrEqual(one.max);
        expect(scaled.median).toBe(one.median * factor);
        expect(scaled.cov).toBeCloseTo(one.cov, 6);
      }),
    );
  });

  it('computes the coefficient of variation from the sample standard deviation', () => {
    expect(summarize([2, 4, 4, 4, 5, 5, 7, 9]).cov).toBeCloseTo(Math.sqrt(32 / 7) / 5, 12);
    expect(summarize([3]).cov).toBe(0);
    expect(summarize([0, 0]).cov).toBe(0);
  });

  it('names the rounds that are outliers', () => {
    expect(summarize([100, 101, 99, 300, 100]).outliers).toEqual([3]);
    expect(summarize([1, 100, 101, 99, 100]).outliers).toEqual([0]);
  });

  it('calls nothing an outlier that lies within 10 % of the median, however close the others are', () => {
    expect(summarize([100, 100, 100, 100, 109]).outliers).toEqual([]);
    expect(summarize([100, 100, 100, 100, 111]).outliers).toEqual([4]);
  });

  it('calls nothing an outlier of two values: either could be the odd one', () => {
    expect(summarize([100, 1_000]).outliers).toEqual([]);
    expect(summarize([100, 1_000, 100]).outliers).toEqual([1]);
  });

  it('calls nothing an outlier where all values spread alike', () => {
    expect(summarize([100, 150, 200, 250, 300]).outliers).toEqual([]);
  });
});

describe('nearestRank', () => {
  it('counts from 1 and ends at the number of values', () => {
    expect([0, 0.5, 0.75, 1].map((q) => nearestRank(q, 4))).toEqual([1, 2, 3, 4]);
    expect(nearestRank(0.5, 3)).toBe(2);
  });
});

describe('isSettled', () => {
  it('holds up to the limit of the coefficient of variation', () => {
    expect(isSettled({ ...summarize([1]), cov: UNSETTLED_COV })).toBe(true);
    expect(isSettled(summarize([100, 200]))).toBe(false);
  });
});
