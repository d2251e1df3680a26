/** End to end: the load driver's threads against Slipway's own. Both load compiled workers from dist/. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Command, Status } from '../../../bench/driver/control.js';
import { DEVICE_DEFAULTS } from '../../../bench/driver/device.js';
import type { DeviceOptions } from '../../../bench/driver/device.js';
import { LOOP_DEFAULTS } from '../../../bench/driver/eventLoop.js';
import { FrontEnd } from '../../../bench/driver/frontEnd.js';
import { LoadDriver } from '../../../bench/driver/loadDriver.js';
import { parseIpv4, parseMac } from '../../../bench/driver/network.js';
import { statisticsBetween } from '../../../bench/driver/statistics.js';
import type { Snapshot } from '../../../bench/driver/statistics.js';
import type { WorkloadOptions } from '../../../bench/driver/workloads.js';
import { LoadServers } from '../../../bench/load/servers.js';
import { Network } from '../../../src/network.js';
import { ENGINE } from '../../engineUnderTest.js';
import { expectClean } from './clean.js';

/** Below the ports that the kernel gives out, and apart from those of other test processes. */
const PORT_BASE = 20_000 + ((process.pid * 20) % 12_000);
const DEADLINE_MS = 40_000;
const PAIRS = 2;

let folder: string;
let path: string;
let network: Network;
let servers: LoadServers;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'slipway-load-'));
  path = join(folder, 'socket');
  servers = await LoadServers.start(PORT_BASE, 1);
  network = await Network.create({ engine: ENGINE, workers: PAIRS, queues: PAIRS, allowHostLoopback: true });
  await network.serve({ path });
});

afterAll(async () => {
  await network.close();
  await servers.close();
  rmSync(folder, { recursive: true });
});

/** Runs a workload until `done` of its driver holds. */
async function drive(
  device: Partial<DeviceOptions>,
  workload: Partial<WorkloadOptions>,
  done: (driver: LoadDriver, counts: () => Snapshot) => boolean,
): Promise<Snapshot> {
  const gateway = parseIpv4('10.0.2.2');
  const options: WorkloadOptions = {
    kind: 'crr',
    flows: 1,
    bytes: 1,
    verify: true,
    stalled: 0,
    idle: 0,
    address: gateway,
    portBase: PORT_BASE,
    hopMs: 0,
    ...workload,
  };
  await using driver = await LoadDriver.start(FrontEnd.connect(path), {
    device: { ...DEVICE_DEFAULTS, pairs: PAIRS, threads: PAIRS, ...device },
    loop: { ...LOOP_DEFAULTS, strictChecksums: true, dhcp: true },
    guest: {
      mac: parseMac('52:54:00:12:34:56'),
      address: 0,
      mask: 0,
      gateway: 0,
    },
    workload: options,
  });
  await driver.ready();
  expect(driver.network.gateway).toBe(gateway);
  const start = driver.count();
  const counts = (): Snapshot => statisticsBetween(start, driver.count(), PAIRS);
  driver.begin(Command.RUN);
  expect(await driver.until(() => done(driver, counts), DEADLINE_MS)).toBe(true);
  return counts();
}

const transferred =
  (flows: number) =>
  (driver: LoadDriver): boolean =>
    driver.status(Status.TRANSFERS_DONE) === flows;

test('2,000 CRRs over two queue pairs, one thread each', async () => {
  const result = await drive({}, { flows: 8 }, (_, counts) => counts().counters.operations >= 2_000);
  expectClean(result);
  expect(result.pairs.every((pair) => pair.txPackets > 0 && pair.rxPackets > 0)).toBe(true);
});

describe.each([
  ['with all offloads', {}],
  ['without', { refused: ['CSUM', 'GUEST_CSUM', 'MRG_RXBUF', 'INDIRECT_DESC', 'EVENT_IDX'] }],
] as const)('64 MiB over four flows that hop between the queue pairs, %s', (_, device) => {
  test.each(['check', 'fetch'] as const)('%s: every byte in its place', async (kind) => {
    const workload = { kind, flows: 4, bytes: 16 * 2 ** 20, hopMs: 10 };
    const result = await drive({ threads: 1, ...device }, workload, transferred(4));
    expectClean(result);
    expect(result.pairs.every((pair) => pair.txPackets > 0)).toBe(true);
  });
});

test('memory in regions with holes between them, above 4 GiB', async () => {
  const device = { threads: 1, regionSize: 2 * 2 ** 20, regionGap: 2 ** 30, guestBase: 2 ** 32 };
  expectClean(await drive(device, { kind: 'check', flows: 2, bytes: 2 ** 20 }, transferred(2)));
});
