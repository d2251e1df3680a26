/** A virtio-net PCI device on real workers: interrupts, resets, filters and queue resets, as its driver sees them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  PCI_DEVICE_FEATURES,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MQ,
} from '../../../device/features.js';
import { CONFIG, PciFront } from '../fronts.js';
import { CONTROL } from '../queueGuest.js';
import * as pci from './pciDriver.js';
import { until } from '../../until.js';

const OK = { ack: 0, used: 1, touched: false };
const FEATURES = PCI_DEVICE_FEATURES & ~VIRTIO_F_EVENT_IDX;
const OWN = '525400123456';
const FOREIGN = '020000000007';
const bytesOf = (mac: string): number[] => [...Buffer.from(mac, 'hex')];

describe.each([1, 2])('two pairs on %i workers', (workers) => {
  let front: PciFront;
  const elsewhere = workers === 1 ? [0] : [];

  beforeAll(async () => {
    front = await PciFront.create(workers);
  });

  afterAll(async () => {
    await front.close();
  });

  it("B1 a used buffer comes with the message of its queue's own vector", async () => {
    await using guest = await front.open({ features: FEATURES });
    expect(await guest.setPairs(2)).toEqual(OK);
    // Those for sent frames may come a moment later.
    const messages = async (count: number): Promise<number[]> => {
      const seen = new Set<number>();
      return until(() => {
        for (const message of guest.platform.messages.take()) seen.add(message.data);
        return seen.size >= count ? [...seen].toSorted((a, b) => a - b) : undefined;
      });
    };
    // Each queue that starts interrupts once, whatever there was before.
    expect(await messages(CONTROL + 1)).toEqual([0, 1, 2, 3, CONTROL].map((queue) => 0x40 + queue + 1));
    for (const pair of [0, 1]) {
      expect(await guest.askOn(pair)).toEqual([pair]);
      expect(await messages(2)).toEqual([0x40 + 2 * pair + 1, 0x40 + 2 * pair + 2]);
    }
  });

  it('P9 B4 without MSI-X it comes by the line and ISR', async () => {
    await using guest = await front.open({ features: FEATURES, msix: false });
    expect(await guest.askOn(0)).toEqual([0]);
    await until(() => guest.platform.asserted);
    expect([guest.driver.isr(), guest.platform.asserted]).toEqual([1, false]);
  });

  it('S2 after a reset nothing is used and nobody is interrupted; the next driver begins anew, ten times', async () => {
    await using guest = await front.open({ features: FEATURES });
    for (let n = 0; n < 10; n++) {
      expect(await guest.askOn(0)).toEqual([0]);
      await guest.driver.setStatus(0);
      guest.platform.messages.take();
      const used = guest.queues.map((queue) => queue.usedCount());
      guest.kickAll();
      await new Promise((resolve) => setTimeout(resolve, 5));
      expect([guest.driver.status, guest.queues.map((queue) => queue.usedCount())]).toEqual([0, used]);
      expect(guest.platform.messages.take()).toEqual([]);
      guest.renew();
      await guest.start([0, 1, 2, 3, CONTROL]);
    }
  });

  it('S1 before DRIVER_OK no buffer is used, however it is kicked', async () => {
    await using guest = await front.open({ features: FEATURES });
    await guest.driver.negotiate(FEATURES);
    guest.renew();
    await guest.describe(1);
    guest.offer(1);
    guest.kickAll();
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(guest.queues[1]!.usedCount()).toBe(0);
    await guest.driver.setStatus(15);
    await until(() => guest.queues[1]!.usedCount() === 1);
  });

  it("S7 a driver that breaks a ring's rules is told NEEDS_RESET; other queues go on; a reset cures it", async () => {
    await using guest = await front.open({ features: FEATURES });
    guest.platform.messages.take();
    guest.breakRing(3);
    await until(() => (guest.driver.status & 64) !== 0);
    expect(guest.warnings.at(-1)).toMatch(/queue 3 is stopped: the available index/);
    expect(guest.platform.messages.take().map(({ data }) => data)).toEqual([0x40]);
    expect(await guest.askOn(0)).toEqual([0]);
    guest.renew();
    await guest.start([0, 1, 2, 3, CONTROL]);
    expect([guest.driver.status, await guest.askOn(0)]).toEqual([15, [0]]);
  });

  it('S8 §2.6.1 a queue that was reset goes on from its beginning', async () => {
    await using guest = await front.open({ features: FEATURES });
    await guest.setPairs(2);
    for (let n = 0; n < 5; n++) {
      expect(await guest.askOn(1)).toEqual([1]);
      await guest.driver.setCommon(pci.QUEUE_SELECT, 2, 3);
      await guest.driver.setCommon(pci.QUEUE_RESET, 2, 1);
      expect(guest.driver.common(pci.QUEUE_RESET, 2)).toBe(0);
      guest.renew(3);
      await guest.describe(3);
    }
    expect(await guest.askOn(0)).toEqual([0]);
  });

  it("N11 frames to an address that is not the driver's are dropped until it says otherwise", async () => {
    await using guest = await front.open({ features: FEATURES });
    await guest.setPairs(2);
    const { net } = front.dataPlane;
    for (const pair of [0, 1]) {
      const { filtered } = net;
      expect([await guest.askOn(pair, FOREIGN), net.filtered]).toEqual([[], filtered + 1]);
      expect(await guest.askOn(pair, OWN)).toEqual([pair]);
      expect(await guest.command([1, 0, 1, 0, 0, 0, ...bytesOf(FOREIGN), 0, 0, 0, 0])).toEqual(OK);
      expect(await guest.askOn(pair, FOREIGN)).toEqual([pair]);
      expect(await guest.command([1, 0, 0, 0, 0, 0, 0, 0, 0, 0])).toEqual(OK);
    }
  });

  it('N10 promiscuous mode, on and off, from when the command is used', async () => {
    await using guest = await front.open({ features: FEATURES });
    await guest.setPairs(2);
    for (let n = 0; n < 50; n++) {
      expect([await guest.command([0, 0, 1]), await guest.askOn(1, FOREIGN)]).toEqual([OK, [1]]);
      expect([await guest.command([0, 0, 0]), await guest.askOn(1, FOREIGN)]).toEqual([OK, []]);
    }
  });

  it('§5.1.6.5.2 MAC_ADDR_SET changes the configuration before it is used, with its generation', async () => {
    await using guest = await front.open({ features: FEATURES });
    const generation = guest.driver.common(pci.CONFIG_GENERATION, 1);
    expect(await guest.command([1, 1, ...bytesOf(FOREIGN)])).toEqual(OK);
    expect([guest.driver.deviceConfig(0, 4), guest.driver.deviceConfig(4, 2)]).toEqual([2, 0x0700]);
    expect(guest.driver.common(pci.CONFIG_GENERATION, 1)).not.toBe(generation);
    expect([await guest.askOn(0, FOREIGN), await guest.askOn(0, OWN)]).toEqual([[0], []]);
  });

  it('N13 the announce bit is gone before the acknowledgement is used', async () => {
    await using guest = await front.open({ features: FEATURES });
    guest.platform.messages.take();
    expect(guest.device.announce()).toBe(true);
    expect(guest.platform.messages.take().map(({ data }) => data)).toEqual([0x40]);
    expect(guest.driver.deviceConfig(6, 2)).toBe(3);
    expect(await guest.command([3, 0], [2])).toEqual(OK);
    expect(guest.driver.deviceConfig(6, 2)).toBe(1);
  });

  it('N12 VLAN_ADD and VLAN_DEL', async () => {
    await using guest = await front.open({ features: FEATURES });
    const { net } = front.dataPlane;
    expect([await guest.command([2, 0, 7, 1]), net.hasVlan(0x107)]).toEqual([OK, true]);
    expect([await guest.command([2, 1, 7, 1]), net.hasVlan(0x107)]).toEqual([OK, false]);
  });

  it('§5.1.6.5.8 GUEST_OFFLOADS_SET', async () => {
    await using guest = await front.open({ features: FEATURES });
    const { net } = front.dataPlane;
    expect([await guest.command([5, 0, 2, 0, 0, 0, 0, 0, 0, 0]), net.offloads]).toEqual([OK, 2]);
    expect((await guest.command([5, 0, 0x80, 0, 0, 0, 0, 0, 0, 0])).ack).toBe(1);
    expect(net.offloads).toBe(2);
  });

  it('PCI 3.0 §6.2.2 queues that paused without bus mastering go on where they were', async () => {
    await using guest = await front.open({ features: FEATURES });
    await guest.setPairs(2);
    for (let n = 0; n < 10; n++) {
      expect(await guest.askOn(1)).toEqual([1]);
      await guest.driver.setConfig(4, 2, 2);
      await guest.driver.setConfig(4, 2, 6);
    }
  });

  it('N14 with CTRL_VQ and MQ only, nothing else is filtered', async () => {
    await using guest = await front.open({
      features: (1n << 32n) | (1n << 15n) | VIRTIO_NET_F_CTRL_VQ | VIRTIO_NET_F_MQ,
    });
    expect(await guest.askOn(0, FOREIGN)).toEqual([0]);
    expect(await guest.askOn(1)).toEqual(elsewhere);
    expect(CONFIG.pairs).toBe(2);
  });
});
