import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SpscRing } from '../../../workers/shared/spscRing.js';
import { runWorkers } from './threads.js';

const WORDS = 3;

/** Word indexes of the counters, as documented by the layout: tail, and head 64 bytes on. */
function ringAt(capacity: number, counter: number): SharedArrayBuffer {
  const buffer = new SharedArrayBuffer(SpscRing.bytes(capacity, WORDS));
  const words = new Int32Array(buffer);
  words[0] = counter;
  words[16] = counter;
  return buffer;
}

function write(ring: SpscRing, value: number): boolean {
  const at = ring.reserve();
  if (at < 0) {
    return false;
  }
  ring.data.fill(value, at, at + WORDS);
  ring.commit();
  return true;
}

function read(ring: SpscRing): number {
  const at = ring.peek();
  if (at < 0) {
    return -1;
  }
  const [value, ...others] = ring.data.subarray(at, at + WORDS);
  expect(others).toEqual([value, value]);
  ring.release();
  return value!;
}

/** A step's result, the model's word against ours. */
function agree(actual: unknown, model: unknown): void {
  expect(actual).toEqual(model);
}

function behaveLikeArray(capacity: number, counter: number, steps: readonly string[]): void {
  const buffer = ringAt(capacity, counter);
  let producer = new SpscRing(buffer, capacity, WORDS);
  let consumer = new SpscRing(buffer, capacity, WORDS);
  const visible: number[] = [];
  let staged: number[] = [];
  for (const [value, action] of steps.entries()) {
    const room = capacity - visible.length - staged.length;
    if (action === 'write') {
      agree(write(producer, value), room > 0);
      if (room > 0) {
        staged.push(value);
      }
    } else if (action === 'publish') {
      producer.publish();
      visible.push(...staged);
      staged = [];
    } else if (action === 'read') {
      agree(read(consumer), visible.shift() ?? -1);
    } else if (action === 'peek') {
      agree(consumer.peek() >= 0, visible.length > 0);
    } else if (action === 'free') {
      agree(producer.free(), room);
    } else if (action === 'newProducer') {
      producer = new SpscRing(buffer, capacity, WORDS);
      staged = [];
    } else {
      consumer = new SpscRing(buffer, capacity, WORDS);
    }
  }
}

describe('SpscRing', () => {
  it('does what an array does, whatever the counters and whenever a side is replaced', () => {
    const step = fc.constantFrom('write', 'publish', 'read', 'peek', 'free', 'newProducer', 'newConsumer');
    fc.assert(
      fc.property(
        fc.constantFrom(1, 2, 8),
        fc.constantFrom(0, 5, 2 ** 31 - 3, -2),
        fc.array(step, { maxLength: 120, size: 'max' }),
        behaveLikeArray,
      ),
      { numRuns: 500 },
    );
  });

  it('refuses capacities that are no power of two and buffers that are too small', () => {
    const buffer = new SharedArrayBuffer(SpscRing.bytes(8, WORDS));
    expect(() => new SpscRing(buffer, 6, WORDS)).toThrow(RangeError);
    expect(() => new SpscRing(buffer, 0, WORDS)).toThrow(RangeError);
    expect(() => new SpscRing(buffer, 16, WORDS)).toThrow(/buffer has/);
  });

  it('keeps order and content between threads, with both threads replaced on the way', async () => {
    const capacity = 64;
    const half = 100_000;
    const buffer = ringAt(capacity, 2 ** 31 - half);
    const side = (role: string, from: number, to: number) => ({ role, buffer, capacity, words: WORDS, from, to });
    const producers = runWorkers('ringWorker', [side('producer', 0, half)]).then(() =>
      runWorkers('ringWorker', [side('producer', half, 2 * half)]),
    );
    const cut = half + 777;
    await runWorkers('ringWorker', [side('consumer', 0, cut)]);
    await runWorkers('ringWorker', [side('consumer', cut, 2 * half)]);
    await producers;
    expect(new SpscRing(buffer, capacity, WORDS).peek()).toBe(-1);
  });
});
