/** Connections by the thousand, end to end. */
import { describe, expect, it } from 'vitest';
import { openDescriptors } from '../native/support.js';
import { LoadedNetwork, eventually } from './loadedNetwork.js';

const SHAPES = [
  { workers: 1, queues: 1 },
  { workers: 1, queues: 2 },
  { workers: 2, queues: 2 },
] as const;

describe.each(SHAPES)('$workers workers, $queues queue pairs', ({ workers, queues }) => {
  it('20,000 CRRs, 8 at a time, without one error; nothing is left of them', async () => {
    await using host = await LoadedNetwork.start({ workers, queues });
    const descriptors = openDescriptors();
    {
      await using load = await host.load({ device: { threads: queues }, workload: { flows: 8 } });
      await load.more(20_000);
      load.stop();
      // TIME_WAIT records stay for a second.
      await eventually(() => host.flows === 0, 'all flows end');
      load.expectClean();
      expect(load.counts.pairs.every(({ txPackets }) => txPackets > 0)).toBe(true);
    }
    const { counters } = host.network.stats();
    expect(counters.flowsOpened).toBe(counters.flowsClosed);
    expect(counters.resetsSent).toBe(0);
    await eventually(() => openDescriptors() <= descriptors, 'descriptors are closed');
    expect(host.deaths).toBe(0);
  });
});
