/** Queues, their notifications and their interrupts behind the PCI transport by clause (virtio 1.2 §2.6, §4.1.4, §4.1.5), over a data plane that records. */
import { describe, expect, it } from 'vitest';
import { VIRTIO_F_RING_RESET, VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ } from '../../../device/features.js';
import { addon } from '../../../src/native/addon.js';
import { Harness, place } from './harness.js';
import * as pci from './pciDriver.js';
import { until } from '../../until.js';

/** Whether an eventfd is signalled; clears it. */
const signalled = (fd: number): boolean => addon.eventfdDrain(fd) === 0;

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

describe('§2.6.1 queue reset', () => {
  it('S8 stops the queue, brings its state back to defaults, and observes the new size', async () => {
    await using harness = await Harness.open();
    const { driver, bus, dataPlane } = harness;
    await harness.bringUp();
    dataPlane.nextAvailIdx = 9;
    await driver.setCommon(pci.QUEUE_SELECT, 2, 1);
    const done = bus.writeMemory(driver.addressOf(pci.CFG_COMMON) + pci.QUEUE_RESET, 2, 1);
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
    'B3 B4 without doorbells the write is told to what serves the queue, or else signals it: %s',
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
          dataPlane.kicksRefused = length === 4;
          void bus.writeMemory(driver.notifyAddress(queue), length, queue);
          expect([dataPlane.kicks.pop(), signalled(kickFd)]).toEqual([queue, dataPlane.kicksRefused]);
        }
        void bus.writeMemory(driver.notifyAddress(queue) + 2, 2, queue);
        expect([dataPlane.kicks, signalled(kickFd)]).toEqual([[], false]);
      }
      expect(platform.counts.doorbellExits).toBe(10);
      void bus.writeMemory(driver.notifyAddress(5), 2, 5);
      expect([dataPlane.kicks, platform.counts.doorbellExits]).toEqual([[], 10]);
      expect(bus.readMemory(driver.notifyAddress(0), 4)).toBe(0);
    },
  );
});

describe('§4.1.4.5 ISR and INTx', () => {
  it('P9 without MSI-X a used buffer sets the queue bit and asserts the line; reading clears both', async () => {
    await using harness = await Harness.open();
    const { driver, dataPlane, platform } = harness;
    await harness.bringUp([0, 1], { msix: false });
    addon.eventfdSignal(dataPlane.running.get(1)!.callFd);
    await until(() => platform.asserted);
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
    void bus.writeMemory(driver.addressOf(pci.CFG_COMMON) + pci.DEVICE_STATUS, 1, 0);
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
