/** Devices as users of QEMU cut them down, and memory in other shapes: a Linux guest gets its lease and moves bytes, by TCP and UDP. */
import { existsSync, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { GuestServer } from '../../bench/guests/guestServer.js';
import { parseCrrRun } from '../../bench/crr/result.js';
import { bulkRunSchema } from '../../bench/bulk/result.js';
import { compileTool } from '../../bench/native/tools.js';
import { createLogger } from '../../src/log.js';
import { Network } from '../../src/network.js';
import { ENGINE } from '../engineUnderTest.js';
import { UdpServer } from '../workers/nat/udpHost.js';
import { VariantGuest } from './variantGuest.js';
import type { VariantOptions } from './variantGuest.js';

/** For hangs: the guests are emulated. */
const HANG = 240_000;
/** What a guest takes for half a minute on a slow machine it doesn't do in this time, ms: it hangs, and is to say where. */
const STUCK = 180_000;
const MIB = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), 'slipway-variants-'));
const files = {
  '/bin/crr': compileTool('guest/crr.c'),
  '/bin/bulk': compileTool('guest/bulk.c'),
  '/bin/udp': compileTool('guest/udp.c'),
};
const warnings: string[] = [];
// More at once wait for each other's processors.
vi.setConfig({ maxConcurrency: 2 });
let server: GuestServer;
let echo: UdpServer;
let nobody: number;
let network: Network;
let sockets = 0;

beforeAll(async () => {
  server = await GuestServer.start();
  echo = await UdpServer.start(true);
  await using gone = await UdpServer.start(false);
  nobody = gone.port;
  const log = createLogger('silent');
  log.warn = (message: unknown) => void warnings.push(String(message));
  network = await Network.create({ engine: ENGINE, workers: 2, queues: 2, allowHostLoopback: true, log });
}, HANG);

afterAll(async () => {
  await network?.close();
  await server?.stop();
  await echo?.[Symbol.asyncDispose]();
  for (const each of [folder, dirname(ramFile)]) rmSync(each, { recursive: true, force: true });
}, HANG);

/** Boots a guest on a device of its own. */
async function withGuest(options: Partial<VariantOptions>, act: (guest: VariantGuest) => Promise<void>): Promise<void> {
  const path = join(folder, `socket${++sockets}`);
  const device = await network.serve({ path });
  const acted = new AbortController();
  try {
    await using guest = await VariantGuest.start({ path, queues: 2, files, ...options });
    await Promise.race([act(guest), stuck(guest, acted.signal)]);
  } finally {
    acted.abort();
    await device.close();
  }
}

function hasRoom(path: string, bytes: number): boolean {
  if (!existsSync(path)) return false;
  const { bavail, bsize } = statfsSync(path);
  return bavail * bsize >= bytes;
}

/** @param signal rejects at once: the guest wasn't stuck */
async function stuck(guest: VariantGuest, signal: AbortSignal): Promise<never> {
  await delay(STUCK, undefined, { signal });
  const counts = JSON.stringify(network.stats());
  throw new Error(`the guest hangs: ${await guest.whereabouts()}\nThe network: ${counts}`);
}

async function works(guest: VariantGuest): Promise<void> {
  expect(await guest.ready).toBe('');
  expect(parseCrrRun(await guest.run(`crr 10.0.2.2 ${server.crrPort} 2 50`)).errors).toEqual({});
  for (const direction of ['send', 'receive']) {
    const { stdout, stderr } = await guest.run(`bulk ${direction} 10.0.2.2 ${server.bulkPort} ${4 * MIB} 2 0`);
    expect(stderr).toBe('');
    expect(bulkRunSchema.parse(JSON.parse(stdout)).equal).toBe(true);
  }
  expect(await guest.run(`udp 10.0.2.2 ${echo.port} ${nobody}`)).toMatchObject({ stdout: 'ok\n', stderr: '' });
}

const memfd = (id: string, size: string): string[] => [
  '-object',
  `memory-backend-memfd,id=${id},size=${size},share=on`,
];
/** Where files of guests' memory usually lie: a disk that is slow to take pages back would hold up the guest. */
const ramFile = join(hasRoom('/dev/shm', 512 * MIB) ? mkdtempSync('/dev/shm/slipway-variants-') : folder, 'ram');
const noControlQueue = ['ctrl_vq', 'ctrl_rx', 'ctrl_vlan', 'ctrl_rx_extra', 'ctrl_mac_addr', 'ctrl_guest_offloads']
  .map((feature) => `,${feature}=off`)
  .join('');

describe('virtio-net-pci with', () => {
  it.concurrent.each<readonly [string, Partial<VariantOptions>]>([
    ['vectors=0: no MSI-X', { device: 'mq=on,vectors=0' }],
    ['mq=off', { queues: 1, device: 'mq=off' }],
    ['no control queue', { device: `vectors=6,guest_announce=off${noControlQueue}` }],
    ['event_idx=off,indirect_desc=off', { device: 'mq=on,vectors=6,event_idx=off,indirect_desc=off' }],
    ['mrg_rxbuf=off', { device: 'mq=on,vectors=6,mrg_rxbuf=off' }],
    ['csum=off alone: HOST_TSO4 without CSUM', { device: 'mq=on,vectors=6,csum=off' }],
    ['guest_csum=off alone: GUEST_TSO4 without GUEST_CSUM', { device: 'mq=on,vectors=6,guest_csum=off' }],
    ['packed=on, which is not offered on', { device: 'mq=on,vectors=6,packed=on' }],
    ['disable-modern=on: a legacy device', { device: 'mq=on,vectors=6,disable-modern=on,disable-legacy=off' }],
    [
      'disable-modern=on,mrg_rxbuf=off: the short header',
      { device: 'mq=on,vectors=6,disable-modern=on,disable-legacy=off,mrg_rxbuf=off' },
    ],
    ['queues of 1024', { device: 'mq=on,vectors=6,rx_queue_size=1024,tx_queue_size=1024' }],
    ['status=off,host_mtu=1400', { device: 'mq=on,vectors=6,status=off,host_mtu=1400' }],
  ])(
    '%s',
    async (_name, options) => {
      await withGuest(options, works);
    },
    HANG,
  );
});

describe('guest memory', () => {
  it.concurrent.each<readonly [string, readonly string[]]>([
    ['beyond 4 GiB: two regions', ['-m', '5G', ...memfd('m', '5G'), '-numa', 'node,memdev=m']],
    [
      'of two nodes',
      ['-m', '256M', ...memfd('a', '128M'), ...memfd('b', '128M'), '-numa', 'node,memdev=a', '-numa', 'node,memdev=b'],
    ],
    [
      'in a file',
      [
        ['-m', '256M', '-object', `memory-backend-file,id=m,size=256M,share=on,mem-path=${ramFile}`],
        ['-numa', 'node,memdev=m'],
      ].flat(),
    ],
  ])(
    '%s',
    async (_name, memory) => {
      await withGuest({ cpus: 2, memory }, works);
    },
    HANG,
  );
});

describe('what QEMU asks for in vain', () => {
  it(
    'iommu_platform=on: QEMU refuses, and says why',
    async () => {
      await withGuest({ device: 'mq=on,vectors=6,iommu_platform=on' }, async (guest) => {
        expect((await guest.ended).message).toContain('iommu_platform=true is not supported by the device');
      });
    },
    HANG,
  );

  it(
    'more queue pairs than there are: the front end is dropped with a line that says so',
    async () => {
      await withGuest({ queues: 3 }, async (guest) => {
        expect(await guest.ready).not.toBe('');
        expect(warnings).toContainEqual(expect.stringContaining('there is no ring 5: this device has 2 queue pairs'));
      });
    },
    HANG,
  );
});
