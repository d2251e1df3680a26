import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { HISTOGRAM_BUCKETS, bucketOf, bucketValue, summarizeHistogram } from '../../../bench/driver/histogram.js';

const durations = fc.integer({ min: 0, max: 0x7fff_ffff });

test('a bucket’s value is within 0.8 % of every duration in it', () => {
  fc.assert(
    fc.property(durations, (us) => {
      expect(bucketOf(us)).toBeLessThan(HISTOGRAM_BUCKETS);
      expect(Math.abs(bucketValue(bucketOf(us)) - us)).toBeLessThanOrEqual(us < 256 ? 0 : us * 0.008);
    }),
  );
});

test('buckets keep the order of durations', () => {
  fc.assert(
    fc.property(durations, durations, (a, b) => {
      expect(bucketOf(Math.min(a, b))).toBeLessThanOrEqual(bucketOf(Math.max(a, b)));
    }),
  );
});

test('quantiles are nearest-rank: of 1,000 values below 250 each is exact', () => {
  const counts = new Float64Array(HISTOGRAM_BUCKETS);
  for (let n = 0; n < 1_000; n++) counts[bucketOf(Math.floor(n / 4))]++;
  const latency = summarizeHistogram(counts);
  expect(latency).toMatchObject({
    count: 1_000,
    mean: 124.5,
    p50: 124,
    p90: 224,
    p99: 247,
    p999: 249,
    max: 249,
  });
  const curve = latency?.curve ?? [];
  // 1 − 10^−1 and 1 − 10^−3 are p90 and p99.9; the last quantile is beyond the last of 1,000.
  expect([curve[0], curve[10], curve[30], curve[40]]).toEqual([0, 224, 249, 249]);
  expect(curve).toEqual(curve.toSorted((a, b) => a - b));
});

test('an empty histogram has no quantiles', () => {
  expect(summarizeHistogram(new Float64Array(HISTOGRAM_BUCKETS))).toBeUndefined();
});
