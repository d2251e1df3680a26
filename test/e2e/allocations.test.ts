/** In steady state the hot path allocates nothing: not per packet, not per connection. */
import { expect, it } from 'vitest';
import { LoadedNetwork } from './loadedNetwork.js';
import { type Allocations, WorkerHeap, allocatedBytes } from './workerHeap.js';

const CONNECTIONS = 10_000;
/** Until V8 has optimized a function it boxes the doubles there: the steady state comes after some rounds. */
const ROUNDS = 16;
/** The smallest object of V8 takes 16 bytes: one per connection is eight times that. */
const BYTES_PER_CONNECTION = 2;

it(`allocates less than ${BYTES_PER_CONNECTION} bytes per CRR`, { timeout: 120_000 }, async () => {
  await using host = await LoadedNetwork.start({ workers: 1, queues: 1 });
  using heap = await WorkerHeap.attach();
  await using load = await host.load({ workload: { flows: 8 } });
  let least: Allocations = [];
  for (let round = 0; round < ROUNDS; round++) {
    await heap.start();
    await load.more(CONNECTIONS);
    const allocations = await heap.stop();
    if (round === 0 || allocatedBytes(allocations) < allocatedBytes(least)) least = allocations;
    if (allocatedBytes(least) < BYTES_PER_CONNECTION * CONNECTIONS) break;
  }
  load.stop();
  load.expectClean();
  // The names go with the number, so that a failure says who allocates.
  const names = JSON.stringify(least);
  const few: unknown = expect.toSatisfy((bytes: number) => bytes < BYTES_PER_CONNECTION * CONNECTIONS);
  expect({ names, bytes: allocatedBytes(least) }).toEqual({ names, bytes: few });
});
