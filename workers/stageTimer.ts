/**
 * How long the stages of a packet's way take, as histograms in shared memory: one writer, read by the main thread at any
 * time. A worker has one timer, which measures or does nothing: where it does nothing, calls of it are compiled away.
 */
import type { Addon } from '../src/native/addon.js';

/** Stages in the order of their places. Each is timed from the end of the one before, the first from the worker's wake-up. */
export const STAGE_NAMES = ['parsed', 'sent', 'received', 'published', 'interrupt'] as const;
export type StageName = (typeof STAGE_NAMES)[number];

/** A frame of the guest's was read off its queue, since the kick (or since the frame before). */
export const PARSED = 0;
/** What the frame asked for was done: the socket has its bytes. */
export const SENT = 1;
/** A flow had its turn: what its socket had lies in the guest's buffers. */
export const RECEIVED = 2;
/** The driver was shown what was used, where it wants to be told. */
export const PUBLISHED = 3;
/** The driver was told. */
export const INTERRUPT = 4;

/** Buckets are exact to 31 ns, then 32 to each power of two: an error below 3.2 %. */
const STEP_BITS = 5;
const STEPS = 1 << STEP_BITS;
const LARGEST = 0x7fffffff;
/** Buckets of one stage. */
export const STAGE_BUCKETS = bucketOf(LARGEST) + 1;
/** Bytes of the histograms of one worker. */
export const STAGE_BYTES = 8 * STAGE_BUCKETS * STAGE_NAMES.length;

/** The bucket of a duration, ns, 0 … 2^31 - 1. */
export function bucketOf(nanoseconds: number): number {
  if (nanoseconds < STEPS) return nanoseconds;
  const shift = 31 - Math.clz32(nanoseconds) - STEP_BITS;
  return shift * STEPS + (nanoseconds >>> shift);
}

/** The middle of a bucket, ns. */
export function bucketValue(bucket: number): number {
  if (bucket < 2 * STEPS) return bucket;
  const shift = (bucket >>> STEP_BITS) - 1;
  return (bucket - shift * STEPS + 0.5) * 2 ** shift;
}

export interface StageTimer {
  /** What comes next is timed from now. */
  start(): void;
  /** A stage ended: counts the time since `start`, or since the stage before. */
  end(stage: number): void;
}

const NO_TIMER: StageTimer = {
  start() {},
  end() {},
};

/** A timer that counts in `histograms`, STAGE_BYTES of shared memory; without them one that does nothing. */
export function createStageTimer(
  addon: Addon,
  clock: Int32Array,
  histograms: SharedArrayBuffer | undefined,
): StageTimer {
  return histograms === undefined ? NO_TIMER : new ClockTimer(addon, clock, new Float64Array(histograms));
}

class ClockTimer implements StageTimer {
  private last = 0;

  /** @param clock bound to the addon: element 2 is in nanoseconds, modulo 2^32 */
  constructor(
    private readonly addon: Pick<Addon, 'readClock'>,
    private readonly clock: Int32Array,
    private readonly histograms: Float64Array,
  ) {}

  start(): void {
    this.addon.readClock();
    this.last = this.clock[2]!;
  }

  end(stage: number): void {
    this.addon.readClock();
    const now = this.clock[2]!;
    const elapsed = Math.max(0, (now - this.last) | 0);
    this.histograms[stage * STAGE_BUCKETS + bucketOf(elapsed)]!++;
    this.last = now;
  }
}
