/** The bus and a function's configuration space (PCI 3.0 §6.1, §6.2; PCI Express 5.0 §7.2.2). */
import { describe, expect, it } from 'vitest';
import { ECAM, Harness, PCI_HOLE } from './harness.js';
import { CFG_COMMON, PciDriver, SLOT } from './pciDriver.js';

describe('PCI Express 5.0 §7.2.2 ECAM', () => {
  it('shows the same registers as any other way to configuration space', async () => {
    await using harness = await Harness.open();
    const { bus, driver } = harness;
    for (let offset = 0; offset < 256; offset += 4) {
      expect(bus.readMemory(ECAM + (SLOT << 15) + offset, 4)).toBe(driver.config(offset, 4));
    }
    await bus.writeMemory(ECAM + (SLOT << 15) + 0x3c, 1, 11);
    expect(driver.config(0x3c, 1)).toBe(11);
  });

  it('there are no extended capabilities, and no functions but the ones on the bus', async () => {
    await using harness = await Harness.open();
    const { bus } = harness;
    expect(bus.readMemory(ECAM + (SLOT << 15) + 0x100, 4)).toBe(0);
    expect(bus.readMemory(ECAM + (SLOT << 15) + 0x1000, 4)).toBe(0xffff_ffff);
    expect(bus.readMemory(ECAM + (9 << 15), 2)).toBe(0xffff);
  });

  it('an access that crosses a dword reaches nothing', async () => {
    await using harness = await Harness.open();
    expect(harness.bus.readMemory(ECAM + (SLOT << 15) + 2, 4)).toBe(0xffff_ffff);
  });
});

describe('PCI 3.0 §6.2.5.1 base address registers', () => {
  it('all ones tell the size: 32 KiB, 64 bits, not prefetchable', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    await driver.setConfig(4, 2, 0);
    await driver.setConfig(0x10, 4, 0xffff_ffff);
    await driver.setConfig(0x14, 4, 0xffff_ffff);
    expect([driver.config(0x10, 4), driver.config(0x14, 4)]).toEqual([0xffff_8004, 0xffff_ffff]);
    for (const other of [0x18, 0x1c, 0x20, 0x24, 0x30]) {
      await driver.setConfig(other, 4, 0xffff_ffff);
      expect(driver.config(other, 4)).toBe(0);
    }
  });

  it('firmware placed it; the guest may move it, doorbells and all', async () => {
    await using harness = await Harness.open();
    const { driver, bus, platform } = harness;
    expect(driver.bar(0)).toBe(PCI_HOLE);
    const before = driver.notifyAddress(0);
    expect(platform.doorbells!.at.size).toBe(5);
    for (const moved of [0xe000_0000, 0x7f_fff8_0000]) {
      await driver.setConfig(4, 2, 0);
      expect(platform.doorbells!.at.size).toBe(0);
      await driver.setConfig(0x10, 4, moved % 2 ** 32);
      await driver.setConfig(0x14, 4, Math.floor(moved / 2 ** 32));
      await driver.setConfig(4, 2, 6);
      expect(driver.common(0x12, 2)).toBe(5);
      expect(bus.readMemory(PCI_HOLE + 0x12, 2)).toBe(0xffff);
      expect([...platform.doorbells!.at.keys()]).toEqual([0, 1, 2, 3, 4].map((queue) => driver.notifyAddress(queue)));
      expect(driver.notifyAddress(0)).not.toBe(before);
    }
  });

  it('byte by byte, too', async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    for (const [n, byte] of [0xff, 0x80, 0x11, 0xe0].entries()) await driver.setConfig(0x10 + n, 1, byte);
    await driver.setConfig(0x14, 4, 0);
    expect(driver.bar(0)).toBe(0xe011_8000);
    expect(driver.common(0x12, 2)).toBe(5);
  });

  it('§6.2.2 without Memory Space, or at address 0, nothing answers', async () => {
    await using harness = await Harness.open();
    const { driver, bus } = harness;
    await driver.setConfig(4, 2, 4);
    expect(bus.readMemory(PCI_HOLE + 0x12, 2)).toBe(0xffff);
    await driver.setConfig(4, 2, 6);
    await driver.setConfig(0x10, 4, 0);
    await driver.setConfig(0x14, 4, 0);
    expect(bus.readMemory(0x12, 2)).toBe(0xffff);
  });

  it("an access that straddles its end is nobody's", async () => {
    await using harness = await Harness.open();
    expect(harness.bus.readMemory(PCI_HOLE + 0x7ffe, 4)).toBe(0xffff_ffff);
    expect(harness.bus.readMemory(PCI_HOLE - 2, 4)).toBe(0xffff_ffff);
  });

  it('firmware says when there is no room', async () => {
    await using harness = await Harness.open();
    expect(() => harness.bus.assignBars(0xe000_1000, 0xe000_8000)).toThrow(/full/);
    expect(harness.bus.assignBars(0xe000_1000, 0xe001_0000)).toBe(0xe001_0000);
  });
});

describe('PCI 3.0 §6.1 type 0 header', () => {
  it("identity and reserved registers are read-only; cache line size and interrupt line are the guest's", async () => {
    await using harness = await Harness.open();
    const { driver } = harness;
    const changed: number[] = [];
    for (let offset = 0; offset < 0x40; offset++) {
      const before = driver.config(offset, 1);
      await driver.setConfig(offset, 1, ~before & 0xff);
      if (driver.config(offset, 1) !== before) changed.push(offset);
      await driver.setConfig(offset, 1, before);
    }
    expect(changed).toEqual([4, 5, 0x0c, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x3c]);
    await driver.setConfig(0x3c, 1, 10);
    await driver.setConfig(0x0c, 1, 16);
    expect([driver.config(0x3c, 1), driver.config(0x3d, 1), driver.config(0x0c, 1)]).toEqual([10, 1, 16]);
  });

  it('§6.2.2 of the command register only what the function has: memory, bus master, INTx disable', async () => {
    await using harness = await Harness.open();
    await harness.driver.setConfig(4, 2, 0xffff);
    expect(harness.driver.config(4, 2)).toBe(0x0406);
  });
});

it('two functions, each with its own registers and place', async () => {
  await using one = await Harness.open();
  await using other = await Harness.open();
  one.bus.add(SLOT + 1, other.device);
  const driver = new PciDriver(one.bus, SLOT + 1);
  await driver.setConfig(0x10, 4, 0xe000_0000);
  await driver.setConfig(0x14, 4, 0);
  await driver.setStatus(1);
  expect([driver.status, one.driver.status]).toEqual([1, 0]);
  expect(driver.addressOf(CFG_COMMON)).not.toBe(one.driver.addressOf(CFG_COMMON));
  expect(() => one.bus.add(SLOT, other.device)).toThrow(/slot/);
});
