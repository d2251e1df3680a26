import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

/** Runs a compiled worker of this directory once per `workerData` and waits for all; rejects when one throws. */
export async function runWorkers(name: string, inputs: readonly object[]): Promise<void> {
  const script = new URL(`../../../dist/test/workers/shared/${name}.js`, import.meta.url);
  const workers = inputs.map((workerData) => new Worker(script, { workerData }));
  try {
    await Promise.all(workers.map((worker) => once(worker, 'exit')));
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}
