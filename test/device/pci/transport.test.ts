/** The modern virtio-pci transport by clause (virtio 1.2 §2.1, §2.2, §2.6, §3.1, §4.1), over a data plane that records. */
import { describe, expect, it } from 'vitest';
import {
  PCI_DEVICE_FEATURES,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_MQ,
} from '../../../device/features.js';
import { addon } from '../../../src/native/addon.js';
import { until } from '../../native/support.js';
import { Harness, MAC, MEMORY, PCI_HOLE, place } from './harness.js';
import * as pci from './pciDriver.js';

/** Whether an eventfd is signalled; clears it. */
const signalled = (fd: number): boolean => addon.eventfdDrain(fd) === 0;

describe('§4.1.2 discovery', () => {
  it('P1 vendor 0x1AF4, device 0x1041, revision 1 or higher, subsystem 0x40 or higher, an Ethernet controller', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    expect([driver.config(0, 2), driver.config(2, 2)]).toEqual([0x1af4, 0x1041]);
    expect(driver.config(8, 1)).toBeGreaterThanOrEqual(1);
    expect(driver.config(0x2e, 2)).toBeGreaterThanOrEqual(0x40);
    expect([driver.config(9, 1), driver.config(0x0a, 2), driver.config(0x0e, 1)]).toEqual([0, 0x0200, 0]);
  });
});

describe('§4.1.4 capabilities', () => {
  it('P2 all five, in a list that ends, at dword offsets behind the header', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    expect([...driver.structures.keys()].toSorted((a, b) => a - b)).toEqual([1, 2, 3, 4, 5]);
    expect(driver.capabilities().every((at) => at >= 0x40 && at % 4 === 0)).toBe(true);
    expect(driver.config(6, 2) & 0x10).toBe(0x10);
  });

  it('§4.1.4.1 cap_len tells the size of each, bars exist, structures lie within them and do not overlap', async () => {
    await using harness = await Harness.open({ pairs: 64 });
    const { driver } = harness;
    const { structures } = driver;
    expect([1, 2, 3, 4, 5].map((type) => structures.get(type)!.size)).toEqual([16, 20, 16, 16, 20]);
    const inBar = [1, 2, 3, 4].map((type) => structures.get(type)!);
    for (const one of inBar) {
      expect([one.bar, one.offset + one.length <= 0x8000]).toEqual([0, true]);
      for (const other of inBar) {
        expect(
          one === other || one.offset + one.length <= other.offset || other.offset + other.length <= one.offset,
        ).toBe(true);
      }
    }
  });

  it('P8 §4.1.4.4.1 notify: multiplier a power of two, an address for each queue, aligned to 2 bytes, long enough for all', async () => {
    for (const pairs of [1, 4, 64]) {
      await using harness = await Harness.open({ pairs });
      const { driver } = harness;
      const { at, offset, length } = driver.structures.get(pci.CFG_NOTIFY)!;
      const multiplier = driver.config(at + 16, 4);
      expect([multiplier, offset % 2]).toEqual([4, 0]);
      const offs = new Set<number>();
      for (let queue = 0; queue < 2 * pairs + 1; queue++) {
        await driver.setCommon(pci.QUEUE_SELECT, 2, queue);
        const off = driver.common(pci.QUEUE_NOTIFY_OFF, 2);
        expect(length).toBeGreaterThanOrEqual(off * multiplier + 2);
        offs.add(off);
      }
      expect(offs.size).toBe(2 * pairs + 1);
    }
  });

  it('§4.1.4.3 the common configuration holds all fields up to queue_reset', async () => {
    await using harness = await Harness.open();
    expect(harness.driver.structures.get(pci.CFG_COMMON)!.length).toBeGreaterThanOrEqual(0x3c);
  });

  it('apart from the window of §4.1.4.9 they are read-only', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    for (const { at, size } of [1, 2, 3, 4].map((type) => driver.structures.get(type)!)) {
      for (let n = 0; n < size; n++) {
        const before = driver.config(at + n, 1);
        await driver.setConfig(at + n, 1, ~before & 0xff);
        expect(driver.config(at + n, 1)).toBe(before);
      }
    }
  });
});

describe('§4.1.3.1 accesses', () => {
  it('P3 64-bit fields are two halves, each by itself', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    for (const field of [pci.QUEUE_DESC, pci.QUEUE_DRIVER, pci.QUEUE_DEVICE]) {
      await driver.setCommon(field + 4, 4, 0x89ab_cdef);
      expect([driver.common(field, 4), driver.common(field + 4, 4)]).toEqual([0, 0x89ab_cdef]);
      await driver.setCommon(field, 4, 0x0123_4567);
      expect([driver.common(field, 4), driver.common(field + 4, 4)]).toEqual([0x0123_4567, 0x89ab_cdef]);
    }
  });

  it('narrower and misaligned ones get the bytes that they name', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    await driver.setCommon(pci.QUEUE_DESC, 4, 0x4433_2211);
    await driver.setCommon(pci.QUEUE_DESC + 1, 2, 0xbbaa);
    await driver.setCommon(pci.QUEUE_DESC + 7, 1, 0x99);
    expect(driver.common(pci.QUEUE_DESC, 4)).toBe(0x44bb_aa11);
    expect([driver.common(pci.QUEUE_DESC + 3, 2), driver.common(pci.QUEUE_DESC + 6, 2)]).toEqual([0x0044, 0x9900]);
    await driver.setCommon(pci.QUEUE_SELECT, 4, 0x0040_0001);
    expect([driver.common(pci.QUEUE_SELECT, 2), driver.common(pci.QUEUE_SIZE, 2)]).toEqual([1, 64]);
  });
});

describe('§2.2 features', () => {
  it('P4 §4.1.4.3.1 words beyond 1 read 0, on either side', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    expect(await driver.offeredFeatures()).toBe(PCI_DEVICE_FEATURES);
    await driver.acceptFeatures(PCI_DEVICE_FEATURES);
    for (const word of [2, 3, 31, 32, 0x8000_0000, 0xffff_ffff]) {
      await driver.setCommon(pci.DEVICE_FEATURE_SELECT, 4, word);
      await driver.setCommon(pci.DRIVER_FEATURE_SELECT, 4, word);
      await driver.setCommon(pci.DRIVER_FEATURE, 4, 0xffff_ffff);
      expect([driver.common(pci.DEVICE_FEATURE, 4), driver.common(pci.DRIVER_FEATURE, 4)]).toEqual([0, 0]);
    }
    await driver.setCommon(pci.DRIVER_FEATURE_SELECT, 4, 1);
    expect(driver.common(pci.DRIVER_FEATURE, 4)).toBe(Number(PCI_DEVICE_FEATURES >> 32n));
  });

  it('S3 §5.1.3.1 what is offered has all that it needs', async () => {
    await using harness = await Harness.open();
    expect(await harness.driver.negotiate(PCI_DEVICE_FEATURES)).toBe(true);
    expect(harness.warnings).toEqual([]);
  });

  const without = (feature: bigint): bigint => PCI_DEVICE_FEATURES & ~feature;
  it.each([
    ['§6.1 no VERSION_1', without(VIRTIO_F_VERSION_1), /VERSION_1/],
    ['a bit that was not offered', PCI_DEVICE_FEATURES | (1n << 33n), /not offered/],
    ['MQ without CTRL_VQ', VIRTIO_F_VERSION_1 | VIRTIO_NET_F_MQ, /MQ requires/],
    ['CTRL_RX without CTRL_VQ', VIRTIO_F_VERSION_1 | VIRTIO_NET_F_CTRL_RX, /CTRL_RX requires/],
    ['CTRL_MAC_ADDR without CTRL_VQ', VIRTIO_F_VERSION_1 | VIRTIO_NET_F_CTRL_MAC_ADDR, /CTRL_MAC_ADDR requires/],
    ['GUEST_TSO4 without GUEST_CSUM', without(VIRTIO_NET_F_GUEST_CSUM), /GUEST_TSO4 requires/],
    ['HOST_TSO6 without CSUM', VIRTIO_F_VERSION_1 | VIRTIO_NET_F_HOST_TSO6, /HOST_TSO6 requires/],
  ])('S4 §2.2.2 FEATURES_OK is refused: %s', async (_, features, reason) => {
    await using harness = await Harness.open();
    expect(await harness.driver.negotiate(features)).toBe(false);
    expect(harness.driver.status).toBe(3);
    expect(harness.warnings.at(-1)).toMatch(reason);
  });

  it.each([
    VIRTIO_F_VERSION_1,
    VIRTIO_F_VERSION_1 | VIRTIO_NET_F_CSUM,
    VIRTIO_F_VERSION_1 | VIRTIO_NET_F_CTRL_VQ | VIRTIO_NET_F_MQ,
    VIRTIO_F_VERSION_1 | VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_GUEST_TSO4,
  ])('§2.2.2 FEATURES_OK is taken: %i', async (features) => {
    await using harness = await Harness.open();
    expect(await harness.driver.negotiate(features)).toBe(true);
  });

  it('S4 the driver may try again after a refusal', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    await driver.negotiate(0n);
    await driver.acceptFeatures(VIRTIO_F_VERSION_1);
    await driver.setStatus(11);
    expect(driver.status).toBe(11);
  });

  it('§3.1.1 features are fixed once FEATURES_OK is set', async () => {
    await using harness = await Harness.open();
    const { driver, dataPlane } = harness;
    await driver.negotiate(VIRTIO_F_VERSION_1);
    await driver.acceptFeatures(PCI_DEVICE_FEATURES);
    await driver.setQueue(0, place(0));
    await driver.setStatus(15);
    expect(dataPlane.features).toBe(VIRTIO_F_VERSION_1);
  });

  it('S5 the same set is taken again after a reset, any number of times', async () => {
    await using harness = await Harness.open();
    for (let n = 0; n < 10; n++) {
      await harness.bringUp();
      expect([harness.driver.status, harness.dataPlane.running.size, harness.dataPlane.features]).toEqual([
        15,
        5,
        PCI_DEVICE_FEATURES,
      ]);
      await harness.driver.setStatus(0);
      expect([harness.driver.status, harness.dataPlane.running.size, harness.dataPlane.features]).toEqual([0, 0, 0n]);
    }
  });
});

describe('§2.5 and §5.1.4 device configuration', () => {
  it('S6 can be read before FEATURES_OK', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    expect([0, 1, 2, 3, 4, 5].map((n) => driver.deviceConfig(n, 1))).toEqual([...MAC]);
    expect([driver.deviceConfig(6, 2), driver.deviceConfig(10, 2)]).toEqual([1, 1500]);
  });

  it('N1 max_virtqueue_pairs is what there is; N2 mtu is what there is', async () => {
    for (const pairs of [1, 3, 64]) {
      await using harness = await Harness.open({ pairs });
      expect(harness.driver.deviceConfig(8, 2)).toBe(pairs);
      expect(harness.driver.common(pci.NUM_QUEUES, 2)).toBe(2 * pairs + 1);
      expect(harness.driver.deviceConfig(10, 2)).toBeGreaterThanOrEqual(68);
    }
  });

  it('§5.1.4 is read-only for the driver', async () => {
    await using harness = await Harness.open();
    const { driver, bus } = harness;
    for (let n = 0; n < 12; n++) void bus.write('memory', driver.addressOf(pci.CFG_DEVICE) + n, 1, 0xa5);
    expect([driver.deviceConfig(0, 4), driver.deviceConfig(8, 4)]).toEqual([0x0100_5452, 0x05dc_0002]);
  });

  it('P5 §4.1.4.3.1 config_generation changes with what was read', async () => {
    await using harness = await Harness.open();
    const { driver, device, dataPlane } = harness;
    await harness.bringUp();
    let generation = driver.common(pci.CONFIG_GENERATION, 1);
    for (const change of [
      () => device.setLink(false),
      () => device.setLink(true),
      () => dataPlane.net.setMac(Uint8Array.of(2, 0, 0, 0, 0, 1), 0),
      () => device.announce(),
    ]) {
      const before = driver.deviceConfig(0, 4);
      expect(driver.common(pci.CONFIG_GENERATION, 1)).toBe(generation);
      change();
      expect([before, driver.common(pci.CONFIG_GENERATION, 1)]).not.toEqual([before, generation]);
      generation = driver.common(pci.CONFIG_GENERATION, 1);
    }
    expect([driver.deviceConfig(0, 4), driver.deviceConfig(4, 2), driver.deviceConfig(6, 2)]).toEqual([2, 0x0100, 3]);
  });

  it('§5.1.4.1 a MAC address that the driver set is gone after a reset', async () => {
    await using harness = await Harness.open();
    await harness.bringUp();
    harness.dataPlane.net.setMac(Uint8Array.of(2, 0, 0, 0, 0, 1), 0);
    await harness.driver.setStatus(0);
    expect(harness.driver.deviceConfig(0, 4)).toBe(0x0100_5452);
  });

  it('N13 §5.1.2 a driver without GUEST_ANNOUNCE is not told to announce', async () => {
    await using harness = await Harness.open();
    expect(harness.device.announce()).toBe(false);
    await harness.bringUp([], { without: 1n << 21n });
    expect([harness.device.announce(), harness.driver.deviceConfig(6, 2)]).toEqual([false, 1]);
  });
});

describe('§4.1.4.3 queues', () => {
  it('P6 queue_size is a power of two, 0 for queues that are absent', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    for (const queue of [0, 1, 2, 3, 4, 5, 6, 0x100, 0xffff]) {
      await driver.setCommon(pci.QUEUE_SELECT, 2, queue);
      expect([queue, driver.common(pci.QUEUE_SIZE, 2)]).toEqual([queue, queue < 5 ? 256 : 0]);
    }
  });

  it('P6 of the sizes that a driver asks for only powers of two up to the maximum are taken', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    for (const size of [1, 2, 64, 128, 256]) {
      await driver.setCommon(pci.QUEUE_SIZE, 2, size);
      expect(driver.common(pci.QUEUE_SIZE, 2)).toBe(size);
    }
    for (const size of [0, 3, 100, 257, 512, 0x8000, 0xffff]) {
      await driver.setCommon(pci.QUEUE_SIZE, 2, size);
      expect(driver.common(pci.QUEUE_SIZE, 2)).toBe(256);
    }
  });

  it('absent ones take nothing and start nothing', async () => {
    await using harness = await Harness.open();
    const { driver, dataPlane } = harness;
    await driver.negotiate(VIRTIO_F_VERSION_1);
    await driver.setQueue(7, { ...place(0), vector: 1 });
    expect(
      [pci.QUEUE_SIZE, pci.QUEUE_ENABLE, pci.QUEUE_DESC, pci.QUEUE_NOTIFY_OFF].map((field) => driver.common(field, 2)),
    ).toEqual([0, 0, 0, 0]);
    expect(driver.common(pci.QUEUE_MSIX_VECTOR, 2)).toBe(0xffff);
    await driver.setStatus(15);
    expect([dataPlane.running.size, driver.status]).toEqual([0, 15]);
  });

  it('§5.1.2 without MQ the control queue is number 2, without CTRL_VQ there is none', async () => {
    await using harness = await Harness.open({ pairs: 3 });
    const { driver, dataPlane } = harness;
    await driver.negotiate(VIRTIO_F_VERSION_1 | VIRTIO_NET_F_CTRL_VQ);
    await driver.setQueue(2, place(2));
    await driver.setStatus(15);
    expect([...dataPlane.running.keys()]).toEqual([6]);
    await driver.setCommon(pci.QUEUE_SELECT, 2, 2);
    const address = driver.notifyAddress(driver.common(pci.QUEUE_NOTIFY_OFF, 2));
    expect(harness.platform.doorbells!.at.get(address)).toBe(dataPlane.running.get(6)!.kickFd);
    await driver.setCommon(pci.QUEUE_SELECT, 2, 3);
    expect(driver.common(pci.QUEUE_SIZE, 2)).toBe(0);
    await driver.negotiate(VIRTIO_F_VERSION_1);
    await driver.setCommon(pci.QUEUE_SELECT, 2, 2);
    expect(driver.common(pci.QUEUE_SIZE, 2)).toBe(0);
  });

  it('P7 queue_enable is 0 at first and after a reset, 0 is never taken, and what is enabled is fixed', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    await harness.bringUp();
    for (const queue of [0, 1, 2, 3, 4]) {
      await driver.setCommon(pci.QUEUE_SELECT, 2, queue);
      await driver.setCommon(pci.QUEUE_ENABLE, 2, 0);
      await driver.setCommon(pci.QUEUE_SIZE, 2, 16);
      await driver.setCommon(pci.QUEUE_DESC, 4, 0x1234_0000);
      expect([
        driver.common(pci.QUEUE_ENABLE, 2),
        driver.common(pci.QUEUE_SIZE, 2),
        driver.common(pci.QUEUE_DESC, 4),
      ]).toEqual([1, 64, place(queue).desc]);
    }
    await driver.setStatus(0);
    for (const queue of [0, 1, 2, 3, 4]) {
      await driver.setCommon(pci.QUEUE_SELECT, 2, queue);
      expect([
        driver.common(pci.QUEUE_ENABLE, 2),
        driver.common(pci.QUEUE_SIZE, 2),
        driver.common(pci.QUEUE_DESC, 4),
      ]).toEqual([0, 256, 0]);
    }
  });

  it('go to the data plane as the driver described them', async () => {
    await using harness = await Harness.open();
    const { dataPlane, platform } = harness;
    await harness.bringUp([0, 1, 4]);
    expect([...dataPlane.running.keys()]).toEqual([0, 1, 4]);
    const { size, descTable, availRing, usedRing, lastAvailIdx, callFd } = dataPlane.running.get(1)!;
    expect({ size, desc: descTable, driver: availRing, device: usedRing }).toEqual(place(1));
    expect([lastAvailIdx, callFd, dataPlane.enabled.get(1)]).toEqual([0, platform.messages.eventfd(2), true]);
  });
});

describe('§2.1 device status', () => {
  it('S1 no queue runs before DRIVER_OK', async () => {
    await using harness = await Harness.open();
    const { driver, dataPlane } = harness;
    await driver.negotiate(await driver.offeredFeatures());
    await driver.setQueue(0, place(0));
    await driver.setQueue(1, place(1));
    void harness.bus.write('memory', driver.notifyAddress(1), 2, 1);
    expect([dataPlane.running.size, harness.platform.messages.take()]).toEqual([0, []]);
    await driver.setStatus(15);
    expect(dataPlane.running.size).toBe(2);
  });

  it("§2.1.1 a driver can't clear bits; those it doesn't have stay unset", async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    await driver.negotiate(VIRTIO_F_VERSION_1);
    await driver.setStatus(1);
    expect(driver.status).toBe(11);
    await driver.setStatus(0x40 | 0x30 | 11);
    expect(driver.status).toBe(11);
    await driver.setStatus(128);
    expect(driver.status).toBe(128 | 11);
  });

  it('S2 §4.1.4.3.1 status reads 0 only once the reset is complete', async () => {
    await using harness = await Harness.open();
    const { driver, bus, dataPlane } = harness;
    await harness.bringUp();
    const done = bus.write('memory', driver.addressOf(pci.CFG_COMMON) + pci.DEVICE_STATUS, 1, 0);
    expect([driver.status, dataPlane.running.size]).toEqual([15, 5]);
    let seen = 0;
    while (driver.status !== 0) {
      seen = Math.max(seen, 5 - dataPlane.running.size);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect([dataPlane.running.size, seen]).toEqual([0, 5]);
    await done;
  });

  it("S2 other vCPUs' writes meanwhile neither undo nor delay it", async () => {
    await using harness = await Harness.open();
    const { driver, bus, dataPlane } = harness;
    await harness.bringUp();
    const common = driver.addressOf(pci.CFG_COMMON);
    const writes = [
      bus.write('memory', common + pci.DEVICE_STATUS, 1, 0),
      bus.write('memory', common + pci.DEVICE_STATUS, 1, 15),
      bus.write('memory', common + pci.QUEUE_ENABLE, 2, 1),
      bus.write('memory', common + pci.QUEUE_MSIX_VECTOR, 2, 3),
      bus.write('memory', common + pci.DEVICE_STATUS, 1, 0),
    ];
    await Promise.all(writes);
    expect([driver.status, dataPlane.running.size, driver.common(pci.QUEUE_ENABLE, 2)]).toEqual([0, 0, 0]);
    await harness.bringUp();
    expect(dataPlane.running.size).toBe(5);
  });

  it('a reset while DRIVER_OK is being obeyed ends in a device that is reset', async () => {
    await using harness = await Harness.open();
    const { driver, bus, dataPlane } = harness;
    await driver.negotiate(await driver.offeredFeatures());
    for (const queue of [0, 1, 2, 3, 4]) await driver.setQueue(queue, place(queue));
    const common = driver.addressOf(pci.CFG_COMMON);
    await Promise.all([
      bus.write('memory', common + pci.DEVICE_STATUS, 1, 15),
      bus.write('memory', common + pci.DEVICE_STATUS, 1, 0),
    ]);
    expect([driver.status, dataPlane.running.size, dataPlane.features]).toEqual([0, 0, 0n]);
  });

  it('S7 §2.1.2 NEEDS_RESET and a configuration interrupt when the data plane finds a queue broken; a reset cures it', async () => {
    await using harness = await Harness.open();
    const { driver, dataPlane, platform } = harness;
    await harness.bringUp();
    dataPlane.onQueueBroken(1, 'a rule');
    expect([driver.status, platform.messages.take().map(({ data }) => data), driver.isr()]).toEqual([
      15 | 64,
      [0x40],
      2,
    ]);
    expect(harness.warnings.at(-1)).toMatch(/queue 1 is stopped: a rule/);
    expect([...dataPlane.running.keys()]).toContain(0);
    await harness.bringUp();
    expect([driver.status, dataPlane.running.size]).toEqual([15, 5]);
  });

  it.each([
    ['descriptor area out of memory', { desc: MEMORY.guestAddress + MEMORY.size - 16 * 63 }, /descriptor area/],
    ['descriptor area not aligned', { desc: place(0).desc + 8 }, /not aligned to 16/],
    ['driver area not aligned', { driver: place(0).driver + 1 }, /not aligned to 2/],
    ['device area not aligned', { device: place(0).device + 2 }, /not aligned to 4/],
    ['device area below memory', { device: MEMORY.guestAddress - 4 }, /device area/],
    ['an address of 64 bits', { desc: 0xffff_ffff_0000_0000 }, /descriptor area/],
    ["in the device's own registers", { driver: PCI_HOLE }, /driver area/],
    ['no address at all', { desc: 0, driver: 0, device: 0 }, /descriptor area/],
  ])("S7 §2.7 a queue that can't be: %s", async (_, change, reason) => {
    await using harness = await Harness.open();
    const { driver, dataPlane, platform } = harness;
    await driver.enableMsix();
    await driver.negotiate(await driver.offeredFeatures());
    await driver.setCommon(pci.CONFIG_MSIX_VECTOR, 2, 0);
    await driver.setQueue(0, { ...place(0), ...change });
    await driver.setQueue(1, place(1));
    await driver.setStatus(15);
    expect([driver.status, [...dataPlane.running.keys()]]).toEqual([15 | 64, [1]]);
    expect(harness.warnings.at(-1)).toMatch(reason);
    expect(platform.messages.take().length).toBe(1);
    await harness.bringUp();
    expect(driver.status).toBe(15);
  });

  it('S7 §3.1.1 DRIVER_OK without FEATURES_OK starts nothing', async () => {
    await using harness = await Harness.open();
    const { driver, dataPlane } = harness;
    await driver.setQueue(0, place(0));
    await driver.setStatus(7);
    expect([driver.status, dataPlane.running.size]).toEqual([7 | 64, 0]);
    await harness.bringUp();
    expect(driver.status).toBe(15);
  });

  it.each(['setFeatures', 'startQueue', 'setCallFd'])(
    'a data plane that fails in %s is a device that needs a reset',
    async (call) => {
      await using harness = await Harness.open();
      const { driver, dataPlane } = harness;
      if (call === 'setCallFd') {
        await harness.bringUp();
        dataPlane.failNext = call;
        await driver.setCommon(pci.QUEUE_MSIX_VECTOR, 2, 0);
      } else {
        dataPlane.failNext = call;
        await harness.bringUp();
      }
      expect(driver.status).toBe(15 | 64);
      await harness.bringUp();
      expect([driver.status, dataPlane.running.size]).toEqual([15, 5]);
    },
  );

  it('a data plane that fails while it stops does not keep a reset from its end', async () => {
    await using harness = await Harness.open();
    const { driver, dataPlane } = harness;
    await harness.bringUp();
    dataPlane.failNext = 'stopQueue';
    await driver.setStatus(0);
    expect(driver.status).toBe(0);
  });
});

describe('PCI 3.0 §6.2.2 bus master', () => {
  it('queues pause while it is off, and go on where they were', async () => {
    await using harness = await Harness.open();
    const { driver, dataPlane } = harness;
    await harness.bringUp();
    dataPlane.nextAvailIdx = 77;
    await driver.setConfig(4, 2, 2);
    expect(dataPlane.running.size).toBe(0);
    await driver.setConfig(4, 2, 6);
    expect([dataPlane.running.size, dataPlane.running.get(1)!.lastAvailIdx, driver.status]).toEqual([5, 77, 15]);
    await driver.setStatus(0);
    await harness.bringUp();
    expect(dataPlane.running.get(1)!.lastAvailIdx).toBe(0);
  });
});

describe('§2.6.1 queue reset', () => {
  it('S8 stops the queue, brings its state back to defaults, and observes the new size', async () => {
    await using harness = await Harness.open();
    const { driver, bus, dataPlane } = harness;
    await harness.bringUp();
    dataPlane.nextAvailIdx = 9;
    await driver.setCommon(pci.QUEUE_SELECT, 2, 1);
    const done = bus.write('memory', driver.addressOf(pci.CFG_COMMON) + pci.QUEUE_RESET, 2, 1);
    expect([driver.common(pci.QUEUE_RESET, 2), dataPlane.running.has(1)]).toEqual([1, true]);
    await done;
    expect([
      driver.common(pci.QUEUE_RESET, 2),
      driver.common(pci.QUEUE_ENABLE, 2),
      driver.common(pci.QUEUE_SIZE, 2),
    ]).toEqual([0, 0, 256]);
    expect([...dataPlane.running.keys()]).toEqual([0, 2, 3, 4]);
    await driver.setQueue(1, { ...place(1), size: 128, vector: 4 });
    expect([dataPlane.running.get(1)!.size, dataPlane.running.get(1)!.lastAvailIdx]).toEqual([128, 0]);
    expect([driver.common(pci.QUEUE_SIZE, 2), driver.status]).toEqual([128, 15]);
  });

  it("is not there for a driver that hasn't negotiated it", async () => {
    await using harness = await Harness.open();
    const { driver, dataPlane } = harness;
    await harness.bringUp([0, 1], { without: VIRTIO_F_RING_RESET });
    await driver.setCommon(pci.QUEUE_SELECT, 2, 1);
    await driver.setCommon(pci.QUEUE_RESET, 2, 1);
    expect([driver.common(pci.QUEUE_RESET, 2), driver.common(pci.QUEUE_ENABLE, 2), dataPlane.running.size]).toEqual([
      0, 1, 2,
    ]);
  });
});

describe('§4.1.5.2 notifications', () => {
  it("with doorbells each queue's kick eventfd is bound to its own address", async () => {
    await using harness = await Harness.open();
    await harness.bringUp();
    const { driver, dataPlane, platform } = harness;
    for (const [queue, setup] of dataPlane.running) {
      expect(platform.doorbells!.at.get(driver.notifyAddress(queue))).toBe(setup.kickFd);
    }
  });

  it.each(['there are none', 'they are refused'])(
    'B3 B4 without doorbells the write itself signals it: %s',
    async (why) => {
      const refused = why === 'they are refused';
      await using harness = await Harness.open({ doorbells: refused });
      const { driver, bus, dataPlane, platform } = harness;
      if (platform.doorbells !== undefined) platform.doorbells.refuse = true;
      await driver.setConfig(4, 2, 0);
      await driver.setConfig(4, 2, 6);
      expect([platform.doorbells?.at.size ?? 0, harness.warnings.length]).toEqual([0, refused ? 5 : 0]);
      await harness.bringUp();
      for (const [queue, { kickFd }] of dataPlane.running) {
        for (const length of [2, 4]) {
          expect(signalled(kickFd)).toBe(false);
          void bus.write('memory', driver.notifyAddress(queue), length, queue);
          expect(signalled(kickFd)).toBe(true);
        }
        void bus.write('memory', driver.notifyAddress(queue) + 2, 2, queue);
        expect(signalled(kickFd)).toBe(false);
      }
      void bus.write('memory', driver.notifyAddress(5), 2, 5);
      expect(bus.read('memory', driver.notifyAddress(0), 4)).toBe(0);
    },
  );
});

describe('§4.1.4.5 ISR and INTx', () => {
  it('P9 without MSI-X a used buffer sets the queue bit and asserts the line; reading clears both', async () => {
    await using harness = await Harness.open();
    const { driver, dataPlane, platform } = harness;
    await harness.bringUp([0, 1], { msix: false });
    addon.eventfdSignal(dataPlane.running.get(1)!.callFd);
    await until(() => (platform.asserted ? true : undefined));
    expect(driver.config(6, 2) & 8).toBe(8);
    expect([driver.isr(), platform.asserted, driver.isr(), driver.config(6, 2) & 8]).toEqual([1, false, 0, 0]);
  });

  it('P9 a configuration change has bit 1', async () => {
    await using harness = await Harness.open();
    const { driver, device, platform } = harness;
    await harness.bringUp([0], { msix: false });
    device.setLink(false);
    expect([platform.levels, driver.isr(), platform.levels]).toEqual([[true, false], 2, [true, false]]);
    expect(driver.deviceConfig(6, 2)).toBe(0);
  });

  it('PCI 3.0 §6.2.2 INTx disable holds the line, not the status bit', async () => {
    await using harness = await Harness.open();
    const { driver, device, platform } = harness;
    await harness.bringUp([0], { msix: false });
    await driver.setConfig(4, 2, 0x0406);
    device.setLink(false);
    expect([platform.asserted, driver.config(6, 2) & 8]).toEqual([false, 8]);
    await driver.setConfig(4, 2, 0x0006);
    expect(platform.asserted).toBe(true);
    await driver.setConfig(4, 2, 0x0406);
    expect(platform.asserted).toBe(false);
  });

  it('B4 queues that run follow MSI-X on and off', async () => {
    await using harness = await Harness.open();
    const { driver, dataPlane, platform } = harness;
    await harness.bringUp([0, 1]);
    const call = (): number[] => [0, 1].map((queue) => dataPlane.running.get(queue)!.callFd);
    const vectors = call();
    expect(vectors).toEqual([1, 2].map((vector) => platform.messages.eventfd(vector)));
    await driver.setConfig(driver.msix + 2, 2, 0);
    expect(new Set(call()).size).toBe(1);
    expect(vectors).not.toContain(call()[0]);
    await driver.setConfig(driver.msix + 2, 2, 0x8000);
    expect(call()).toEqual(vectors);
  });

  it('S2 a signal that nobody has looked at before a reset is none after it', async () => {
    await using harness = await Harness.open();
    const { driver, bus, dataPlane, platform } = harness;
    await harness.bringUp([0], { msix: false });
    const { callFd } = dataPlane.running.get(0)!;
    await driver.setStatus(0);
    addon.eventfdSignal(callFd);
    void bus.write('memory', driver.addressOf(pci.CFG_COMMON) + pci.DEVICE_STATUS, 1, 0);
    await new Promise((resolve) => setTimeout(resolve, 1));
    expect([platform.levels, driver.isr()]).toEqual([[], 0]);
  });

  it('S2 a reset takes the line back, and a late signal with it', async () => {
    await using harness = await Harness.open();
    const { driver, device, dataPlane, platform } = harness;
    await harness.bringUp([0], { msix: false });
    device.setLink(false);
    addon.eventfdSignal(dataPlane.running.get(0)!.callFd);
    await driver.setStatus(0);
    await new Promise((resolve) => setImmediate(resolve));
    expect([platform.asserted, driver.isr()]).toEqual([false, 0]);
  });
});

describe('§4.1.4.9 access through configuration space', () => {
  /** Reads or writes by the window. */
  async function aim(driver: pci.PciDriver, bar: number, offset: number, length: number): Promise<number> {
    const { at } = driver.structures.get(pci.CFG_PCI)!;
    await driver.setConfig(at + 4, 1, bar);
    await driver.setConfig(at + 8, 4, offset);
    await driver.setConfig(at + 12, 4, length);
    return at + 16;
  }

  it('P2 reads and writes the BAR in 1, 2 and 4 bytes, with memory accesses off as well', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    await driver.setConfig(4, 2, 4);
    const common = driver.structures.get(pci.CFG_COMMON)!.offset;
    let data = await aim(driver, 0, common + pci.QUEUE_DESC, 4);
    await driver.setConfig(data, 4, 0x1234_5670);
    data = await aim(driver, 0, common + pci.QUEUE_DESC, 2);
    expect(driver.config(data, 4) & 0xffff).toBe(0x5670);
    data = await aim(driver, 0, common + pci.QUEUE_DESC + 3, 1);
    expect(driver.config(data, 1)).toBe(0x12);
    await driver.setConfig(data, 1, 0x99);
    data = await aim(driver, 0, common + pci.QUEUE_DESC, 4);
    expect(driver.config(data, 4)).toBe(0x9934_5670);
  });

  it('a write waits as the register itself does', async () => {
    await using harness = await Harness.open();
    const { driver, dataPlane } = harness;
    await harness.bringUp();
    const data = await aim(driver, 0, driver.structures.get(pci.CFG_COMMON)!.offset + pci.DEVICE_STATUS, 1);
    await driver.setConfig(data, 1, 0);
    expect([driver.status, dataPlane.running.size]).toEqual([0, 0]);
  });

  it.each([
    ['another BAR', 2, 0, 4],
    ['a length of 0', 0, 0x14, 0],
    ['a length of 3', 0, 0x14, 3],
    ['a length of 8', 0, 0x20, 8],
    ['a misaligned offset', 0, 0x15, 2],
    ['beyond the BAR', 0, 0x8000, 4],
    ['far beyond the BAR', 0, 0xffff_fffc, 4],
  ])('aimed at %s it does nothing', async (_, bar, offset, length) => {
    await using harness = await Harness.open();
    const { driver } = harness;
    await driver.setStatus(1);
    const data = await aim(driver, bar, offset, length);
    await driver.setConfig(data, 4, 0xa5a5_a5a5);
    expect([driver.config(data, 4), driver.status]).toEqual([0xa5a5_a5a5, 1]);
  });
});

it('gives back what it had when it is unplugged', async () => {
  const harness = await Harness.open();
  const { platform, dataPlane } = harness;
  await harness.bringUp();
  await harness[Symbol.asyncDispose]();
  expect([platform.doorbells!.at.size, platform.messages.routes.size, dataPlane.running.size]).toEqual([0, 0, 0]);
});
