/** However a network ends, and whatever it was doing: it ends, and gives everything back. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FrontEnd } from '../../bench/driver/frontEnd.js';
import { LoadServers } from '../../bench/load/servers.js';
import { Network } from '../../src/network.js';
import { ENGINE } from '../engineUnderTest.js';
import { GuestProcess, NetworkProcess } from './children.js';
import { PORT_BASE } from './guest.js';
import { openDescriptors } from '../native/support.js';
import { LoadedNetwork, eventually } from './loadedNetwork.js';

const MIB = 2 ** 20;
const SHAPE = { engine: ENGINE, workers: 2, queues: 2 };
const UPLOAD = { kind: 'upload', flows: 8, hopMs: 3 } as const;

describe('close()', () => {
  it('before any front end', async () => {
    const network = await Network.create(SHAPE);
    expect(await network.close()).toBeUndefined();
  });

  it('twice', async () => {
    const network = await Network.create(SHAPE);
    expect(await Promise.all([network.close(), network.close()])).toEqual([undefined, undefined]);
  });

  it('while its workers sleep', async () => {
    await using host = await LoadedNetwork.start(SHAPE);
    await eventually(() => host.network.stats().workers.every(({ asleep }) => asleep), 'workers sleep');
    expect(await host.network.close()).toBeUndefined();
  });

  it('under load, with all sockets closed', async () => {
    const servers = await LoadServers.start(PORT_BASE, 1);
    await servers.close();
    const before = openDescriptors();
    {
      await using host = await LoadedNetwork.start(SHAPE);
      await using load = await host.load({ workload: UPLOAD });
      await load.moreBytes(MIB);
      expect(await host.network.close()).toBeUndefined();
    }
    await eventually(() => openDescriptors() <= before, 'descriptors are closed');
  });

  it('with a front end half connected', async () => {
    await using host = await LoadedNetwork.start(SHAPE);
    const frontEnd = FrontEnd.connect(host.path);
    await frontEnd.negotiate([]);
    expect(await host.network.close()).toBeUndefined();
    frontEnd.close();
  });

  it('with workers that die meanwhile', async () => {
    for (let n = 0; n < 4; n++) {
      await using host = await LoadedNetwork.start(SHAPE);
      await using load = await host.load({ workload: UPLOAD });
      await load.moreBytes(MIB);
      await Promise.all([host.network.injectFault(0), host.network.injectFault(1)]);
      if (n % 2 === 0) await eventually(() => host.deaths > 0, 'a worker dies');
      expect(await host.network.close()).toBeUndefined();
    }
  });

  it('with a worker that died so often that it was given up', async () => {
    await using host = await LoadedNetwork.start(SHAPE);
    await using load = await host.load({ workload: UPLOAD });
    await load.moreBytes(MIB);
    for (let deaths = 1; deaths <= 21; deaths++) {
      await host.network.injectFault(1);
      await eventually(() => host.network.stats().workers[1]!.deaths >= deaths, 'the worker dies');
    }
    expect(await host.network.close()).toBeUndefined();
  });
});

describe('a process with a network under load', () => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-shutdown-'));
  let servers: LoadServers;
  beforeAll(async () => {
    servers = await LoadServers.start(PORT_BASE, 1);
  });
  afterAll(async () => {
    await servers.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it.each([
    ['by itself after close()', 'close', 0],
    ['on process.exit()', 'exit', 3],
    ['on an uncaught error', 'throw', 1],
  ])('ends %s', async (_, command, code) => {
    const path = join(folder, command);
    await using network = await NetworkProcess.start(path, SHAPE);
    await using guest = await GuestProcess.start(path, 2, 'go on');
    network.say(command);
    expect(await network.exit()).toBe(code);
    await guest.kill();
  });
});
