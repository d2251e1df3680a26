/** Bulk transfers with every byte compared, over flows that rotate their transmit queue: handoff and re-homing end to end. */
import { describe, expect, it } from 'vitest';
import type { NetworkStats } from '../../src/network.js';
import { LoadedNetwork, eventually } from './loadedNetwork.js';

const MIB = 2 ** 20;
const SHAPES = [
  { workers: 1, queues: 2 },
  { workers: 2, queues: 2 },
] as const;

describe.each(SHAPES)('$workers workers, $queues queue pairs', ({ workers, queues }) => {
  it.each([
    { kind: 'check', flows: 1 },
    { kind: 'check', flows: 8 },
    { kind: 'fetch', flows: 1 },
    { kind: 'fetch', flows: 8 },
  ] as const)('$kind, $flows streams that hop every 5 ms', async ({ kind, flows }) => {
    await using host = await LoadedNetwork.start({ workers, queues });
    const workload = { kind, flows, bytes: (256 / flows) * MIB, hopMs: 5 };
    await using load = await host.load({ workload });
    await load.until(() => load.transfersDone === flows, 'all transfers end');
    load.expectClean();
    const { counters } = load.counts;
    expect(counters.hops).toBeGreaterThan(0);
    const moved = (): NetworkStats['counters'] => host.network.stats().counters;
    await eventually(() => moved().rehomedIn === moved().rehomedOut, 'flows that move arrive');
    const { handoffsOut, rehomedOut, handoffsDropped, outOfOrderSegments } = moved();
    expect(handoffsOut > 0).toBe(workers > 1);
    // A flow follows a run of packets: uploads send enough between two hops, a download's acknowledgments may not.
    expect(rehomedOut > 0 || kind === 'fetch').toBe(workers > 1 || kind === 'fetch');
    expect({ handoffsDropped, outOfOrderSegments }).toEqual({ handoffsDropped: 0, outOfOrderSegments: 0 });
    expect(host.deaths).toBe(0);
  });
});
