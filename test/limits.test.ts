import { expect, it } from 'vitest';
import { defaultWorkers } from '../src/limits.js';

it.each([
  { queues: 1, cpus: 1, workers: 1 },
  { queues: 2, cpus: 1, workers: 1 },
  { queues: 2, cpus: 2, workers: 1 },
  { queues: 2, cpus: 3, workers: 1 },
  { queues: 2, cpus: 4, workers: 2 },
  { queues: 8, cpus: 16, workers: 8 },
  { queues: 64, cpus: 16, workers: 8 },
])('$queues queue pairs on $cpus CPUs have $workers workers', ({ queues, cpus, workers }) => {
  expect(defaultWorkers(queues, cpus)).toBe(workers);
});
