/** The load driver's shapes of a device end to end, against Slipway itself. Both load compiled workers from dist/. */
import { describe, expect, test } from 'vitest';
import type { DeviceOptions } from '../../../bench/driver/device.js';
import { REFUSABLE } from '../../../bench/driver/features.js';
import { LoadedNetwork } from '../../e2e/loadedNetwork.js';

const PAIRS = 2;
const FLOWS = 4;

describe.each([
  ['all features', {}],
  ['no feature but what a driver must take', { refused: REFUSABLE.filter((name) => name !== 'MQ') }],
  ['direct descriptors, payload in pieces of 4 KiB', { refused: ['INDIRECT_DESC'], fragment: 4_096 }],
  [
    'memory in regions with holes between them, above 4 GiB',
    { regionSize: 2 ** 21, regionGap: 2 ** 30, guestBase: 2 ** 32 },
  ],
  ['small receive buffers: the lease comes in pieces', { rxBufferSize: 256, refused: ['GUEST_TSO4', 'GUEST_TSO6'] }],
  ['queues of 64 entries', { queueSize: 64 }],
] as [string, Partial<DeviceOptions>][])('%s', (_, device) => {
  test.each(['check', 'fetch'] as const)('%s: every byte of 16 MiB in its place', async (kind) => {
    await using host = await LoadedNetwork.start({ workers: PAIRS, queues: PAIRS });
    const workload = { kind, flows: FLOWS, bytes: 2 ** 24 / FLOWS, hopMs: 10 };
    await using load = await host.load({ device, workload });
    await load.until(() => load.transfersDone === FLOWS, 'all transfers end');
    load.expectClean();
    expect(load.counts.pairs.every((pair) => pair.txPackets > 0)).toBe(true);
    expect(load.driver.network.lease).toMatchObject({ seconds: 86_400, mask: -256 });
  });
});
