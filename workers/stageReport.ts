/** What the workers' stage timers counted, summed up for people. */
import { build } from 'hdr-histogram-js';
import { STAGE_BUCKETS, STAGE_NAMES, type StageName, bucketValue } from './stageTimer.js';

/** How long a stage took, µs. */
export interface StageTimes {
  readonly count: number;
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

/** @param histograms each worker's; none: nothing is timed */
export function reportStages(histograms: readonly SharedArrayBuffer[]): Record<StageName, StageTimes> | undefined {
  if (histograms.length === 0) return undefined;
  const counts = histograms.map((buffer) => new Float64Array(buffer));
  return Object.fromEntries(STAGE_NAMES.map((name, stage) => [name, stageTimes(counts, stage)])) as Record<
    StageName,
    StageTimes
  >;
}

function stageTimes(workers: readonly Float64Array[], stage: number): StageTimes {
  const histogram = build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: 2 ** 31,
    numberOfSignificantValueDigits: 3,
  });
  for (const counts of workers) {
    for (let bucket = 0; bucket < STAGE_BUCKETS; bucket++) {
      const count = counts[stage * STAGE_BUCKETS + bucket]!;
      if (count > 0) histogram.recordValueWithCount(Math.round(bucketValue(bucket)), count);
    }
  }
  const at = (percentile: number): number => histogram.getValueAtPercentile(percentile) / 1000;
  return {
    count: histogram.totalCount,
    mean: Math.round(histogram.mean) / 1000,
    p50: at(50),
    p90: at(90),
    p99: at(99),
    p999: at(99.9),
    max: histogram.maxValue / 1000,
  };
}
