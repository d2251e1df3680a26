import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GuestServer } from '../../bench/crr/guestServer.js';
import { parseCrrRun } from '../../bench/crr/result.js';
import { bulkRunSchema } from '../../bench/guest/bulkRun.js';
import { compileTool } from '../../bench/native/tools.js';
import { Network } from '../../src/network.js';
import { VariantGuest } from './variantGuest.js';
import type { VariantOptions } from './variantGuest.js';

const folder = mkdtempSync(join(tmpdir(), 'slipway-variants-'));
const files = { '/bin/crr': compileTool('guest/crr.c'), '/bin/bulk': compileTool('guest/bulk.c') };
let server: GuestServer;
let network: Network;
beforeAll(async () => {
  server = await GuestServer.start();
  network = await Network.create({ workers: 2, queues: 2, allowHostLoopback: true });
});
afterAll(async () => {
  await network?.close();
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function works(guest: VariantGuest): Promise<void> {
  expect(await guest.ready).toBe('');
  const crr = await guest.run(`crr 10.0.2.2 ${server.crrPort} 2 50`);
  expect(parseCrrRun(crr.exitCode, crr.stdout, crr.stderr).errors).toEqual({});
  for (const direction of ['send', 'receive']) {
    const { stdout, stderr } = await guest.run(`bulk ${direction} 10.0.2.2 ${server.bulkPort} 8388608 2 0`);
    expect(stderr).toBe('');
    expect(bulkRunSchema.parse(JSON.parse(stdout)).equal).toBe(true);
  }
}

let number = 0;
async function tryVariant(options: Partial<VariantOptions>): Promise<void> {
  const path = join(folder, `s${++number}`);
  const device = await network.serve({ path });
  try {
    await using guest = await VariantGuest.start({ path, queues: 2, files, ...options });
    try {
      await works(guest);
    } catch (e) {
      console.log(guest.consoleTail.slice(-5).join('\n'));
      throw e;
    }
  } finally {
    await device.close();
  }
}

describe('variants', () => {
  it.concurrent.each<[string, Partial<VariantOptions>]>([
    ['no MSI-X', { device: 'mq=on,vectors=0' }],
    ['mq=off', { queues: 1, device: 'mq=off' }],
    ['event_idx=off,indirect_desc=off', { device: 'mq=on,vectors=6,event_idx=off,indirect_desc=off' }],
    ['mrg_rxbuf=off', { device: 'mq=on,vectors=6,mrg_rxbuf=off' }],
    ['mrg_rxbuf=off no guest tso', { device: 'mq=on,vectors=6,mrg_rxbuf=off,guest_tso4=off,guest_tso6=off' }],
    ['csum=off', { device: 'mq=on,vectors=6,csum=off' }],
    ['guest_csum=off', { device: 'mq=on,vectors=6,guest_csum=off' }],
    [
      'csum=off,guest_csum=off',
      { device: 'mq=on,vectors=6,csum=off,guest_csum=off,host_tso4=off,host_tso6=off,guest_tso4=off,guest_tso6=off' },
    ],
    ['host_tso4=off', { device: 'mq=on,vectors=6,host_tso4=off' }],
    ['packed=on', { device: 'mq=on,vectors=6,packed=on' }],
    ['disable-modern', { device: 'mq=on,vectors=6,disable-modern=on,disable-legacy=off' }],
    ['disable-modern mrg off', { device: 'mq=on,vectors=6,disable-modern=on,disable-legacy=off,mrg_rxbuf=off' }],
    ['1024', { device: 'mq=on,vectors=6,rx_queue_size=1024,tx_queue_size=1024' }],
    [
      'ctrl_vq=off',
      {
        device:
          'vectors=6,ctrl_vq=off,ctrl_rx=off,ctrl_vlan=off,ctrl_rx_extra=off,ctrl_mac_addr=off,ctrl_guest_offloads=off,guest_announce=off',
      },
    ],
    ['iommu_platform', { device: 'mq=on,vectors=6,iommu_platform=on' }],
    ['status=off', { device: 'mq=on,vectors=6,status=off,host_mtu=1400' }],
    [
      '5G',
      {
        memory: [
          '-m',
          '5G',
          '-object',
          'memory-backend-memfd,id=memory,size=5G,share=on',
          '-numa',
          'node,memdev=memory',
        ],
      },
    ],
    [
      'mem file',
      {
        memory: [
          '-m',
          '256M',
          '-object',
          `memory-backend-file,id=memory,size=256M,share=on,mem-path=/tmp/compat-ram-${process.pid}`,
          '-numa',
          'node,memdev=memory',
        ],
      },
    ],
    [
      'two nodes',
      {
        cpus: 2,
        memory: [
          '-m',
          '256M',
          '-object',
          'memory-backend-memfd,id=m0,size=128M,share=on',
          '-object',
          'memory-backend-memfd,id=m1,size=128M,share=on',
          '-numa',
          'node,memdev=m0',
          '-numa',
          'node,memdev=m1',
        ],
      },
    ],
    ['pc machine', { more: ['-machine', 'pc'] }],
    ['3 queues asked of 2', { queues: 3 }],
  ])(
    '%s',
    async (_name, options) => {
      await tryVariant(options);
    },
    150_000,
  );
});
