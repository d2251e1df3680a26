/** What happens to a guest's device in its life: pauses, resets, memory that comes, links that go, back ends that restart. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GuestServer } from '../../bench/crr/guestServer.js';
import { bulkRunSchema } from '../../bench/guest/bulkRun.js';
import { compileTool } from '../../bench/native/tools.js';
import { Network } from '../../src/network.js';
import { NetworkProcess } from '../e2e/children.js';
import { VariantGuest } from './variantGuest.js';

/** For hangs: the guests are emulated. */
const HANG = 120_000;
const MIB = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), 'slipway-life-'));
const path = join(folder, 'socket');
const files = { '/usr/sbin/ethtool': '/usr/sbin/ethtool', '/bin/bulk': compileTool('guest/bulk.c') };
let server: GuestServer;
let network: Network;
let guest: VariantGuest;

beforeAll(async () => {
  server = await GuestServer.start();
  network = await Network.create({ workers: 2, queues: 2, allowHostLoopback: true });
  await network.serve({ path });
  const memory = ['-m', '256M,slots=2,maxmem=1G', '-object', 'memory-backend-memfd,id=memory,size=256M,share=on'];
  guest = await VariantGuest.start({
    path,
    queues: 2,
    cpus: 2,
    files,
    memory: [...memory, '-numa', 'node,memdev=memory'],
  });
  expect(await guest.ready).toBe('');
}, HANG);

afterAll(async () => {
  await guest?.[Symbol.asyncDispose]();
  await network?.close();
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
}, HANG);

/** Moves bytes both ways and compares them. */
async function transfers(peer: VariantGuest, bytes: number): Promise<void> {
  const both = ['send', 'receive'].map(async (direction) => {
    const { stdout, stderr } = await peer.run(`bulk ${direction} 10.0.2.2 ${server.bulkPort} ${bytes} 2 0`);
    expect(stderr).toBe('');
    const run = bulkRunSchema.parse(JSON.parse(stdout));
    expect(run.equal, stdout).toBe(true);
  });
  await Promise.all(both);
}

async function lease(peer: VariantGuest): Promise<number> {
  return (await peer.run('udhcpc -i eth0 -n -q -t 10 -T 1 -s /lib/slipway/udhcpc')).exitCode;
}

describe('a guest under load', () => {
  it(
    'is stopped and goes on',
    async () => {
      const load = transfers(guest, 32 * MIB);
      for (let n = 0; n < 5; n++) {
        await delay(100);
        await guest.qmp('stop');
        await delay(100);
        await guest.qmp('cont');
      }
      await load;
    },
    HANG,
  );

  it(
    'gets memory while it runs: memory slots change',
    async () => {
      const load = transfers(guest, 32 * MIB);
      await guest.qmp('object-add', { 'qom-type': 'memory-backend-memfd', id: 'more', size: 128 * MIB, share: true });
      await guest.qmp('device_add', { driver: 'pc-dimm', id: 'dimm', memdev: 'more' });
      await load;
    },
    HANG,
  );

  it.each([1, 2, 3])(
    'loses its link and gets it back %i',
    async () => {
      const load = transfers(guest, 128 * MIB);
      for (let n = 0; n < 3; n++) {
        await guest.qmp('set_link', { name: 'nic', up: false });
        await delay(300);
        await guest.qmp('set_link', { name: 'nic', up: true });
        await delay(300);
      }
      try {
        await load;
      } catch (e) {
        const c = network.stats();
        console.log(
          JSON.stringify(c.devices),
          c.flows,
          c.counters.flowsOpened,
          (await guest.run('ip a; ip r; cat /proc/net/tcp; ethtool -S eth0')).stdout,
        );
        throw e;
      }
    },
    HANG,
  );

  it(
    'takes its driver away and loads it again',
    async () => {
      const unbind =
        'cd /sys/bus/virtio/drivers/virtio_net; for d in virtio[0-9]*; do echo $d > unbind; echo $d > bind; done';
      for (let n = 0; n < 3; n++) {
        await guest.run(unbind);
        await guest.run('ip link set eth0 up');
        expect(await lease(guest)).toBe(0);
        await transfers(guest, MIB);
      }
    },
    HANG,
  );

  it(
    'is refused a migration: the log of writes that it needs is not offered',
    async () => {
      await expect(guest.qmp('migrate', { uri: `unix:${join(folder, 'nowhere')}` })).rejects.toThrow(/vhost-user/);
      await transfers(guest, MIB);
    },
    HANG,
  );

  it(
    'is reset in mid-transfer, and boots again',
    async () => {
      const load = transfers(guest, 512 * MIB).catch(() => undefined);
      await delay(500);
      await guest.qmp('system_reset');
      await using other = { [Symbol.asyncDispose]: async () => void load };
      expect(other).toBeDefined();
      await delay(8000);
      console.log(network.stats().devices, network.stats().flows, guest.consoleTail.slice(-3));
    },
    HANG,
  );
});

describe('a back end that is killed', () => {
  it(
    'is found again by a QEMU that reconnects',
    async () => {
      const options = { workers: 1, queues: 2, allowHostLoopback: true };
      const other = join(folder, 'killed');
      const first = await NetworkProcess.start(other, options);
      await using peer = await VariantGuest.start({ path: other, queues: 2, files, chardev: 'reconnect-ms=200' });
      expect(await peer.ready).toBe('');
      await transfers(peer, MIB);
      await first.kill();
      await using _second = await NetworkProcess.start(other, options);
      await delay(500);
      expect(await lease(peer)).toBe(0);
      await transfers(peer, MIB);
    },
    HANG,
  );
});
