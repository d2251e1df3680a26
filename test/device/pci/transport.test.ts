/** The modern virtio-pci transport by clause (virtio 1.2 §2.1, §2.2, §2.6, §3.1, §4.1), over a data plane that records. */
import { describe, expect, it } from 'vitest';
import {
  PCI_DEVICE_FEATURES,
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
import { Harness, MAC, place } from './harness.js';
import * as pci from './pciDriver.js';

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
    expect(harness.platform.faults.refusedFeatures).toBe(1);
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
    for (let n = 0; n < 12; n++) void bus.writeMemory(driver.addressOf(pci.CFG_DEVICE) + n, 1, 0xa5);
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
