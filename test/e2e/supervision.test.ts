/** Poll workers that die in the middle of their work: a successor goes on where they stopped. */
import { ftruncateSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import * as fe from '../device/vhostUser/frontEnd.js';
import { addon } from '../../src/native/addon.js';
import { bringUp } from '../device/vhostUser/harness.js';
import { PORT_BASE } from './guest.js';
import { LoadedNetwork, eventually } from './loadedNetwork.js';

const MIB = 2 ** 20;
const KILLS = 6;

const SHAPES = [
  { workers: 1, queues: 1, hopMs: 0 },
  { workers: 2, queues: 2, hopMs: 0 },
  { workers: 2, queues: 2, hopMs: 3 },
] as const;

async function kill(host: LoadedNetwork, worker: number): Promise<void> {
  const before = host.deaths;
  await host.network.injectFault(worker);
  await eventually(() => host.deaths > before, 'the worker dies');
}

describe.each(SHAPES)('$workers workers, $queues queue pairs, hopping every $hopMs ms (0: never)', (shape) => {
  it.each(['check', 'fetch'] as const)('8 transfers (%s) survive the deaths of their workers', async (kind) => {
    const { hopMs, ...options } = shape;
    await using host = await LoadedNetwork.start(options);
    await using load = await host.load({ workload: { kind, flows: 8, bytes: 64 * MIB, hopMs } });
    for (let n = 0; n < KILLS; n++) {
      await load.moreBytes(16 * MIB);
      await kill(host, n % options.workers);
    }
    await load.until(() => load.transfersDone === 8, 'all transfers end');
    load.expectClean();
    const { counters } = host.network.stats();
    expect(counters.takeovers).toBe(KILLS);
    await load.driver.close();
    await eventually(() => host.flows === 0, 'all flows end');
  });
});

it('CRRs survive too, and nothing is left of them', async () => {
  await using host = await LoadedNetwork.start({ workers: 2, queues: 2 });
  await using load = await host.load({ device: { threads: 2 }, workload: { flows: 16 } });
  for (let n = 0; n < KILLS; n++) {
    await load.more(300);
    await kill(host, n % 2);
  }
  await load.more(1_000);
  load.stop();
  await eventually(() => host.flows === 0, 'all flows end');
  load.expectClean();
});

it('flows that wait for late FINs when their worker dies end as well', async () => {
  await using host = await LoadedNetwork.start({ workers: 1, queues: 1 });
  await host.servers.close();
  // These finish first, so that it is for us to wait (RFC 9293 §3.6.1).
  const servers = Array.from({ length: 8 }, (_, n) => {
    const server = createServer((socket) =>
      socket.on('error', () => undefined).once('data', (data) => socket.end(data)),
    );
    return server.listen(PORT_BASE + n, '127.0.0.1');
  });
  await using load = await host.load();
  await load.more(200);
  await kill(host, 0);
  load.stop();
  await eventually(() => host.flows === 0, 'all flows end');
  load.expectClean();
  for (const server of servers) server.close();
});

it('a front end that comes, sets up and leaves while workers die gets what it asks for', async () => {
  await using host = await LoadedNetwork.start({ workers: 2, queues: 2 });
  for (let n = 0; n < 8; n++) {
    await using load = await host.load({ workload: { kind: 'upload', flows: 4, hopMs: 3 } });
    await load.moreBytes(MIB);
    await Promise.all([host.network.injectFault(0), host.network.injectFault(1)]);
    await delay(n);
  }
  await eventually(() => host.flows === 0, 'all flows end');
  expect(host.deaths).toBeGreaterThan(0);
  await using load = await host.load();
  await load.more(500);
  load.expectClean();
});

it('a front end that has truncated its memory keeps no successor from serving the others', async () => {
  await using host = await LoadedNetwork.start({ workers: 1, queues: 1 });
  const path = host.otherPath('hostile');
  await host.network.serve({ path });
  const guest = new fe.Guest();
  const hostile = fe.FrontEnd.connect(path);
  await bringUp(hostile, guest);
  await hostile.ack(fe.SET_VRING_ERR, fe.u64(0), [guest.err]);
  ftruncateSync(guest.memory, 0);
  await using load = await host.load();
  await load.more(100);
  await kill(host, 0);
  await load.more(500);
  load.expectClean();
  expect(host.deaths).toBe(1);
  await eventually(() => addon.eventfdDrain(guest.err) === 0, 'the ring is told to be broken');
  await hostile.ask(fe.GET_VRING_BASE, fe.state(0, 0));
  hostile.close();
  guest.close();
});
