/** Stages of packets' ways are timed where that is asked for. */
import { expect, it } from 'vitest';
import { LoadedNetwork, eventually } from './loadedNetwork.js';

it('every stage is counted with `timing`', async () => {
  await using host = await LoadedNetwork.start({ timing: true });
  await using load = await host.load({ workload: { flows: 2 } });
  await load.more(200);
  load.stop();
  await eventually(() => host.flows === 0, 'all flows end');
  const { stages, counters } = host.network.stats();
  expect(stages?.parsed.count).toBe(stages?.sent.count);
  // SYN, ACK, request, FIN and ACK of each CRR.
  expect(stages?.parsed.count).toBeGreaterThanOrEqual(200 * 5);
  expect(stages?.received.count).toBeGreaterThanOrEqual(200);
  expect(stages?.interrupt.count).toBe(stages?.published.count);
  expect(stages?.interrupt.count).toBeGreaterThan(0);
  expect(counters.interrupts).toBeGreaterThan(0);
});

it('nothing is without', async () => {
  await using host = await LoadedNetwork.start({});
  expect(host.network.stats().stages).toBeUndefined();
});
