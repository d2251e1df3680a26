/** What happens to a guest's device in its life: pauses, resets, memory that comes, links that go, back ends that restart. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GuestServer } from '../../bench/guests/guestServer.js';
import { bulkRunSchema } from '../../bench/bulk/result.js';
import { compileTool } from '../../bench/native/tools.js';
import { Network } from '../../src/network.js';
import { ENGINE } from '../engineUnderTest.js';
import { NetworkProcess } from '../e2e/children.js';
import { VariantGuest } from './variantGuest.js';

/** For hangs: the guests are emulated. */
const HANG = 120_000;
const MIB = 2 ** 20;
/** What `transfers` gives if nothing was lost. */
const WHOLE = [true, true];
const folder = mkdtempSync(join(tmpdir(), 'slipway-life-'));
const path = join(folder, 'socket');
const files = { '/usr/sbin/ethtool': '/usr/sbin/ethtool', '/bin/bulk': compileTool('guest/bulk.c') };
let server: GuestServer;
let network: Network;
let guest: VariantGuest;

beforeAll(async () => {
  server = await GuestServer.start();
  network = await Network.create({ engine: ENGINE, workers: 2, queues: 2, allowHostLoopback: true });
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

/** Moves bytes both ways. Resolves with whether they arrived as they were sent, for each direction. */
function transfers(peer: VariantGuest, bytes: number): Promise<boolean[]> {
  const both = ['send', 'receive'].map(async (direction) => {
    const { stdout } = await peer.run(`bulk ${direction} 10.0.2.2 ${server.bulkPort} ${bytes} 2 0`);
    return bulkRunSchema.parse(JSON.parse(stdout)).equal;
  });
  return Promise.all(both);
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
      expect(await load).toEqual(WHOLE);
    },
    HANG,
  );

  it(
    'gets memory while it runs: memory slots change',
    async () => {
      const load = transfers(guest, 32 * MIB);
      await guest.qmp('object-add', { 'qom-type': 'memory-backend-memfd', id: 'more', size: 128 * MIB, share: true });
      await guest.qmp('device_add', { driver: 'pc-dimm', id: 'dimm', memdev: 'more' });
      expect(await load).toEqual(WHOLE);
    },
    HANG,
  );

  it.each([1, 2, 3])(
    'loses its link and gets it back, time %i',
    async () => {
      const load = transfers(guest, 64 * MIB);
      for (let n = 0; n < 3; n++) {
        await delay(300);
        await guest.qmp('set_link', { name: 'nic', up: false });
        await delay(300);
        await guest.qmp('set_link', { name: 'nic', up: true });
      }
      expect(await load).toEqual(WHOLE);
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
        expect(await transfers(guest, MIB)).toEqual(WHOLE);
      }
    },
    HANG,
  );

  it(
    'is refused a migration: the log of writes that it needs is not offered',
    async () => {
      await expect(guest.qmp('migrate', { uri: `unix:${join(folder, 'nowhere')}` })).rejects.toThrow(/vhost-user/);
      expect(await transfers(guest, MIB)).toEqual(WHOLE);
    },
    HANG,
  );

  it(
    'is reset in mid-transfer, and boots again',
    async () => {
      await guest.run(`(bulk send 10.0.2.2 ${server.bulkPort} ${1024 * MIB} 4 0 > /dev/null 2>&1 &)`);
      await delay(500);
      expect(await guest.reset()).toBe('');
      expect(await transfers(guest, MIB)).toEqual(WHOLE);
    },
    HANG,
  );

  it(
    'is killed in mid-transfer, and another one takes its place',
    async () => {
      await guest.run(`(bulk send 10.0.2.2 ${server.bulkPort} ${1024 * MIB} 4 0 > /dev/null 2>&1 &)`);
      await delay(500);
      await guest.kill();
      await using other = await VariantGuest.start({ path, queues: 2, files });
      expect(await other.ready).toBe('');
      expect(await transfers(other, MIB)).toEqual(WHOLE);
      expect(network.stats().workers.map(({ deaths }) => deaths)).toEqual([0, 0]);
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
      expect(await transfers(peer, MIB)).toEqual(WHOLE);
      await first.kill();
      await using _second = await NetworkProcess.start(other, options);
      await delay(500);
      expect(await lease(peer)).toBe(0);
      expect(await transfers(peer, MIB)).toEqual(WHOLE);
    },
    HANG,
  );
});
