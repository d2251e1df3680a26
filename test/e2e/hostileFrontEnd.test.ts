/** Hostile front ends and hostile rings against a whole network, its workers included: nothing dies, nothing leaks. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addon } from '../../src/native/addon.js';
import { createLogger } from '../../src/log.js';
import { Network } from '../../src/network.js';
import type { ServedDevice } from '../../src/network.js';
import { ATTACKS, WRONG_SIZES, disarm, guest } from '../device/vhostUser/attacks.js';
import * as fe from '../device/vhostUser/frontEnd.js';
import { ENGINE } from '../engineUnderTest.js';
import { bringUp, obeyed, startRing } from '../device/vhostUser/harness.js';
import { fillAndBlock } from '../native/support.js';

const RING_SIZE = 256;
const folder = mkdtempSync(join(tmpdir(), 'slipway-hostile-'));
const path = join(folder, 'socket');
let network: Network;
let device: ServedDevice;

beforeAll(async () => {
  network = await Network.create({ engine: ENGINE, workers: 2, queues: 2, mtu: 65520, log: createLogger('silent') });
  device = await network.serve({ path });
});

afterAll(async () => {
  await device.close();
  await network.close();
  disarm();
  rmSync(folder, { recursive: true, force: true });
});

const deaths = (): number => network.stats().workers.reduce((sum, worker) => sum + worker.deaths, 0);

/** A front end that behaves is served as ever. */
async function behaves(): Promise<void> {
  const frontEnd = fe.FrontEnd.connect(path);
  await bringUp(frontEnd, guest);
  frontEnd.close();
}

describe.each([...ATTACKS, ...WRONG_SIZES])('$name', ({ request, payload, fds }) => {
  it('ends its connection and harms nobody', async () => {
    const frontEnd = fe.FrontEnd.connect(path);
    await bringUp(frontEnd, guest);
    frontEnd.send(request, payload, fds);
    await frontEnd.ended();
    frontEnd.close();
    await behaves();
    expect(deaths()).toBe(0);
  });
});

/** A descriptor, plausible in each field more often than not: pure noise is refused too early to get anywhere. */
const descriptor = fc.record({
  address: fc.oneof(
    fc.integer({ min: 0, max: fe.Guest.SIZE }).map((offset) => BigInt(guest.region.guestAddress + offset)),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  ),
  length: fc.oneof(fc.integer({ min: 0, max: 2048 }), fc.integer({ min: 0, max: 0xffff_ffff })),
  flags: fc.oneof(fc.integer({ min: 0, max: 7 }), fc.integer({ min: 0, max: 0xffff })),
  next: fc.oneof(fc.integer({ min: 0, max: RING_SIZE }), fc.integer({ min: 0, max: 0xffff })),
});

const noise = fc.record({
  descriptors: fc.array(descriptor, { minLength: 1, maxLength: RING_SIZE, size: 'max' }),
  heads: fc.array(fc.integer({ min: 0, max: RING_SIZE + 8 }), { minLength: 1, maxLength: 64, size: 'max' }),
  availIdx: fc.oneof(fc.integer({ min: 0, max: 64 }), fc.integer({ min: 0, max: 0xffff })),
  seed: fc.uint8Array({ minLength: 64, maxLength: 512, size: 'max' }),
});

describe('rings full of noise (virtio 1.2 §2.7)', () => {
  it('break their queue or are dropped, and the workers live on', async () => {
    const { region, buffer } = addon.mapRegion(guest.memory, 0, fe.Guest.SIZE);
    const view = new DataView(buffer);
    const attack = async (rings: Rings & { seed: Uint8Array }): Promise<void> => {
      const bytes = new Uint8Array(buffer);
      for (let n = 0; n < bytes.length; n++) bytes[n] = rings.seed[n % rings.seed.length]!;
      const frontEnd = fe.FrontEnd.connect(path);
      for (const ring of [0, 1]) fillRing(view, ring, rings);
      await bringUp(frontEnd, guest);
      startRing(frontEnd, guest, 1);
      await obeyed(frontEnd, fe.SET_VRING_ENABLE, fe.state(1, 1));
      addon.eventfdSignal(guest.kick);
      for (const ring of [0, 1]) await frontEnd.ask(fe.GET_VRING_BASE, fe.state(ring, 0));
      frontEnd.close();
      expect(deaths()).toBe(0);
    };
    await fc.assert(fc.asyncProperty(noise, attack), { numRuns: 150 });
    addon.unmapRegion(region);
    await behaves();
  }, 120_000);
});

describe('eventfds that a front end has filled, and made blocking after it handed them over', () => {
  it('keep neither a worker nor the control plane', async () => {
    const { region, buffer } = addon.mapRegion(guest.memory, 0, fe.Guest.SIZE);
    const rings = {
      descriptors: [{ address: BigInt(guest.region.guestAddress + 0x10000), length: 64, flags: 0, next: 0 }],
      heads: [0],
      availIdx: 1,
    };
    const call = addon.eventfdCreate();
    const err = addon.eventfdCreate();
    const frontEnd = fe.FrontEnd.connect(path);
    await bringUp(frontEnd, guest);
    new Uint8Array(buffer).fill(0);
    const view = new DataView(buffer);
    fillRing(view, 1, { ...rings, availIdx: 0 });
    startRing(frontEnd, guest, 1);
    frontEnd.send(fe.SET_VRING_CALL, fe.u64(1), [call]);
    frontEnd.send(fe.SET_VRING_ERR, fe.u64(1), [err]);
    await obeyed(frontEnd, fe.SET_VRING_ENABLE, fe.state(1, 1));
    for (const fd of [call, err]) {
      addon.eventfdDrain(fd);
      fillAndBlock(fd);
    }
    // One chain to give back: the interrupt for it can't be written.
    fillRing(view, 1, rings);
    addon.eventfdSignal(guest.kick);
    await behavesBeside(frontEnd);
    frontEnd.close();
    await behaves();
    expect(deaths()).toBe(0);
    for (const fd of [call, err]) addon.close(fd);
    addon.unmapRegion(region);
  });
});

/** Every ring can still be stopped, which all workers must obey; the one that was broken too. */
async function behavesBeside(frontEnd: fe.FrontEnd): Promise<void> {
  for (let n = 0; n < 20; n++) {
    await delay(50);
    await frontEnd.settled();
  }
  for (const ring of [0, 1]) await frontEnd.ask(fe.GET_VRING_BASE, fe.state(ring, 0));
}

interface Rings {
  readonly descriptors: readonly { address: bigint; length: number; flags: number; next: number }[];
  readonly heads: readonly number[];
  readonly availIdx: number;
}

function fillRing(view: DataView, ring: number, rings: Rings): void {
  const parts = new DataView(guest.ringAddress(ring).slice().buffer);
  const offsetOf = (at: number): number => Number(parts.getBigUint64(at, true) - guest.region.userAddress);
  // struct vhost_vring_addr: index, flags, descriptor table, used ring, available ring.
  const [desc, used, avail] = [offsetOf(8), offsetOf(16), offsetOf(24)];
  rings.descriptors.forEach(({ address, length, flags, next }, n) => {
    view.setBigUint64(desc + 16 * n, address, true);
    view.setUint32(desc + 16 * n + 8, length, true);
    view.setUint16(desc + 16 * n + 12, flags, true);
    view.setUint16(desc + 16 * n + 14, next, true);
  });
  view.setUint16(avail, 0, true);
  view.setUint16(avail + 2, rings.availIdx, true);
  rings.heads.forEach((head, n) => view.setUint16(avail + 4 + 2 * n, head, true));
  view.setUint32(used, 0, true);
}
