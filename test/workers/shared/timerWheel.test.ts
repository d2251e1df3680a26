import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TimerWheel } from '../../../workers/shared/timerWheel.js';

const STRIDE = 5;
const FLOWS = 12;
const SLOT = 3;
const TICK = 16;
const HOUR = 3_600_000;

function create(firedLength: number) {
  const wheel = new Int32Array(TimerWheel.words());
  const records = new Int32Array(STRIDE * FLOWS).fill(-1);
  const timers = new TimerWheel(wheel, records, STRIDE, 1, 2, SLOT, 4);
  return { wheel, records, timers, fired: new Int32Array(firedLength) };
}

/** All that `advance` gives at a time, by as many calls as it takes. */
function drain(timers: TimerWheel, now: number, fired: Int32Array): number[] {
  const all: number[] = [];
  for (;;) {
    const count = timers.advance(now | 0, fired);
    all.push(...fired.subarray(0, count));
    if (count < fired.length) {
      return all.toSorted((a, b) => a - b);
    }
  }
}

/** When a timer fires: the start of the tick at or after the deadline. Times are unwrapped here. */
function due(deadline: number): number {
  return Math.ceil(deadline / TICK) * TICK;
}

function behaveLikeList(
  start: number,
  firedLength: number,
  actions: readonly (readonly [name: string, flow: number, by: number])[],
): void {
  const { wheel, records, fired, ...made } = create(firedLength);
  let { timers } = made;
  const model = new Map<number, number>();
  let now = start;
  const advance = (to: number) => {
    now = to;
    const expected = [...model].filter(([, at]) => at <= now).map(([flow]) => flow);
    expect(drain(timers, now, fired)).toEqual(expected.toSorted((a, b) => a - b));
    expected.forEach((flow) => model.delete(flow));
  };
  for (const [name, flow, by] of actions) {
    if (name === 'arm') {
      timers.arm(flow, (now + by) | 0, now | 0);
      model.set(flow, by <= 0 ? now : due(now + by));
    } else if (name === 'cancel') {
      timers.cancel(flow);
      model.delete(flow);
    } else if (name === 'advance') {
      advance(now + Math.max(0, by));
    } else if (name === 'advanceToTimeout') {
      advance(now + Math.max(0, timers.timeout(now | 0)));
    } else if (name === 'replace') {
      timers = new TimerWheel(wheel, records, STRIDE, 1, 2, SLOT, 4);
    } else if (by < 0) {
      for (let each = 0; each < FLOWS; each++) {
        records[each * STRIDE + SLOT] = -1;
      }
      timers.clear();
      model.clear();
    }
    const timeout = timers.timeout(now | 0);
    const earliest = model.size === 0 ? -1 : Math.max(0, Math.min(...model.values()) - now);
    expect(timeout).toBeGreaterThanOrEqual(Math.min(earliest, 0));
    expect(timeout).toBeLessThanOrEqual(earliest);
  }
}

describe('TimerWheel', () => {
  it('does what a sorted list does, across the wrap of time', () => {
    const span = fc.oneof(
      fc.integer({ min: -50, max: 100 }),
      fc.integer({ min: 0, max: 5000 }),
      fc.integer({ min: 0, max: 5 * HOUR }),
      fc.constantFrom(16, 4080, 4081, 4095, 4096, 4112, 2 ** 23 - 4096, 2 ** 23, 2 ** 23 + 1),
    );
    const action = fc.tuple(
      fc.constantFrom('arm', 'arm', 'arm', 'cancel', 'advance', 'advance', 'advanceToTimeout', 'replace', 'clear'),
      fc.nat(FLOWS - 1),
      span,
    );
    fc.assert(
      fc.property(
        fc.constantFrom(0, 7, 2 ** 31 - 5000, 2 ** 32 - 3, 2 ** 31 - 2 * HOUR),
        fc.constantFrom(1, 3, 20),
        fc.array(action, { maxLength: 100, size: 'max' }),
        behaveLikeList,
      ),
      { numRuns: 600 },
    );
  });

  it('gets to a far deadline in few steps of timeout, and only then fires', () => {
    const { timers, fired } = create(4);
    const start = 2 ** 31 - 1234;
    timers.arm(3, (start + 24 * HOUR) | 0, start | 0);
    let now = start;
    let steps = 0;
    let count = 0;
    while (count === 0 && steps < 50) {
      const wait = timers.timeout(now | 0);
      expect(wait).toBeGreaterThan(0);
      now += wait;
      count = timers.advance(now | 0, fired);
      steps++;
    }
    expect(now).toBe(due(start + 24 * HOUR));
    expect(fired[0]).toBe(3);
    expect(steps).toBeLessThan(15);
  });

  it('leaves a flow where it is when its slot stays the same', () => {
    const { timers, records, fired } = create(4);
    timers.arm(0, 10_000, 0);
    timers.arm(1, 10_000, 0);
    const before = records.slice();
    timers.arm(0, 10_001, 0);
    before[0 * STRIDE + 4] = 10_001;
    expect(records).toEqual(before);
    expect(drain(timers, 9_999, fired)).toEqual([]);
    expect(drain(timers, 10_016, fired)).toEqual([0, 1]);
  });

  it('takes a wheel that rested for weeks', () => {
    const { timers, fired } = create(4);
    timers.arm(0, 100, 0);
    timers.cancel(0);
    const now = 2 ** 31 + 2 ** 30;
    timers.arm(0, (now + 1000) | 0, now | 0);
    expect(timers.timeout(now | 0)).toBeLessThanOrEqual(1016);
    expect(drain(timers, now + 999, fired)).toEqual([]);
    expect(drain(timers, now + 1016, fired)).toEqual([0]);
    expect(() => new TimerWheel(new Int32Array(5), new Int32Array(5), 5, 1, 2, 3, 4)).toThrow(RangeError);
  });
});
