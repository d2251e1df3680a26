/** Device status, reset and failure by clause (virtio 1.2 §2.1, §3.1), over a data plane that records. */
import { describe, expect, it } from 'vitest';
import { VIRTIO_F_VERSION_1 } from '../../../device/features.js';
import { Harness, MEMORY, PCI_HOLE, place } from './harness.js';
import * as pci from './pciDriver.js';

describe('§2.1 device status', () => {
  it('S1 no queue runs before DRIVER_OK', async () => {
    await using harness = await Harness.open();
    const { driver, dataPlane } = harness;
    await driver.negotiate(await driver.offeredFeatures());
    await driver.setQueue(0, place(0));
    await driver.setQueue(1, place(1));
    void harness.bus.writeMemory(driver.notifyAddress(1), 2, 1);
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
    const done = bus.writeMemory(driver.addressOf(pci.CFG_COMMON) + pci.DEVICE_STATUS, 1, 0);
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
      bus.writeMemory(common + pci.DEVICE_STATUS, 1, 0),
      bus.writeMemory(common + pci.DEVICE_STATUS, 1, 15),
      bus.writeMemory(common + pci.QUEUE_ENABLE, 2, 1),
      bus.writeMemory(common + pci.QUEUE_MSIX_VECTOR, 2, 3),
      bus.writeMemory(common + pci.DEVICE_STATUS, 1, 0),
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
      bus.writeMemory(common + pci.DEVICE_STATUS, 1, 15),
      bus.writeMemory(common + pci.DEVICE_STATUS, 1, 0),
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

it('gives back what it had when it is unplugged', async () => {
  const harness = await Harness.open();
  const { platform, dataPlane } = harness;
  await harness.bringUp();
  await harness[Symbol.asyncDispose]();
  expect([platform.doorbells!.at.size, platform.messages.routes.size, dataPlane.running.size]).toEqual([0, 0, 0]);
});
