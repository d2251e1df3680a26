/** A host that runs out of descriptors: new connections are refused, the others go on, and it passes. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Command, Status } from '../../bench/driver/control.js';
import { LoadServers } from '../../bench/load/servers.js';
import { chooseEngine } from '../../workers/engine/chooseEngine.js';
import { ENGINE } from '../engineUnderTest.js';
import { NetworkProcess } from './children.js';
import { PORT_BASE, connectDriver } from './guest.js';
import { Load } from './loadedNetwork.js';

const DESCRIPTORS = 160;
const IDLE = 300;
const SHORTAGE_MS = 1_000;

const folder = mkdtempSync(join(tmpdir(), 'slipway-descriptors-'));
let servers: LoadServers;
beforeAll(async () => {
  servers = await LoadServers.start(PORT_BASE, 1);
});
afterAll(async () => {
  await servers.close();
  rmSync(folder, { recursive: true, force: true });
});

describe.each([1, 2])('%i workers', (workers) => {
  it('refuses connects that it has no descriptor for, keeps the others, and recovers', async () => {
    const path = join(folder, `${workers}`);
    await using network = await NetworkProcess.start(path, { workers, queues: workers }, DESCRIPTORS);
    const workload = { kind: 'rr', flows: 8, idle: IDLE } as const;
    {
      await using load = new Load(await connectDriver(path, workers, { workload }), workers);
      await load.more(100);
      load.driver.begin(Command.IDLE);
      const tried = (): number => load.driver.status(Status.IDLE_OPEN) + load.driver.status(Status.IDLE_FAILED);
      await load.until(() => tried() === IDLE, 'every connect is answered');
      expect(load.driver.status(Status.IDLE_FAILED)).toBeGreaterThan(IDLE / 2);
      expect(load.driver.status(Status.IDLE_OPEN)).toBeGreaterThan(0);
      await load.more(2_000);
      const { resets, timeouts } = load.counts.counters;
      expect({ resets, timeouts }).toEqual({ resets: 0, timeouts: 0 });
      expect((await network.stats()).counters.socketFailed).toBeGreaterThan(0);
    }
    await using load = new Load(await connectDriver(path, workers, {}), workers);
    await load.more(1_000);
    load.expectClean();
  });
});

it('a worker that dies while there is no descriptor for its successor gets one once there is', async () => {
  const path = join(folder, 'dying');
  await using network = await NetworkProcess.start(path, { workers: 1, queues: 1 }, DESCRIPTORS);
  await using load = new Load(await connectDriver(path, 1, { workload: { kind: 'rr', flows: 8 } }), 1);
  await load.more(100);
  network.limitDescriptors(4);
  network.say('kill 0');
  // As long as it takes to try in vain as often as a worker may die.
  await delay(SHORTAGE_MS);
  const [worker] = (await network.stats()).workers;
  // An io_uring is a new descriptor; epoll's is the predecessor's.
  expect(worker?.deaths).toBeGreaterThan(chooseEngine(ENGINE).engine === 'epoll' ? 0 : 1);
  network.limitDescriptors(DESCRIPTORS);
  await load.more(1_000);
  load.expectClean();
});
