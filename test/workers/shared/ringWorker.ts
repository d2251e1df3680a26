import { workerData } from 'node:worker_threads';
import { SpscRing } from '../../../workers/shared/spscRing.js';

interface Input {
  readonly role: 'producer' | 'consumer';
  readonly buffer: SharedArrayBuffer;
  readonly capacity: number;
  readonly words: number;
  readonly from: number;
  readonly to: number;
}

const input = workerData as Input;
const ring = new SpscRing(input.buffer, input.capacity, input.words);
const never = new Int32Array(new SharedArrayBuffer(4));

function sleep(): void {
  Atomics.wait(never, 0, 0, 0.1);
}

/** Writes word w of message n as n * 31 + w, in batches of all sizes; leaves staged ones behind that must not be seen. */
function produce(): void {
  for (let n = input.from; n < input.to;) {
    const at = ring.reserve();
    if (at < 0) {
      ring.publish();
      sleep();
      continue;
    }
    for (let word = 0; word < input.words; word++) {
      ring.data[at + word] = n * 31 + word;
    }
    ring.commit();
    n++;
    if (n % ((n % 7) + 1) === 0) {
      ring.publish();
    }
  }
  ring.publish();
  const stray = ring.reserve();
  if (stray >= 0) {
    ring.data.fill(-1, stray, stray + input.words);
    ring.commit();
  }
}

function consume(): void {
  for (let n = input.from; n < input.to;) {
    const at = ring.peek();
    if (at < 0) {
      sleep();
      continue;
    }
    for (let word = 0; word < input.words; word++) {
      if (ring.data[at + word] !== n * 31 + word) {
        throw new Error(`Message ${n}, word ${word} is ${ring.data[at + word]}.`);
      }
    }
    ring.release();
    n++;
  }
}

if (input.role === 'producer') {
  produce();
} else {
  consume();
}
