/** x86's ports to PCI's configuration space (PCI 3.0 §3.2.2.3.2). */
import { describe, expect, it } from 'vitest';
import { ConfigPorts } from '../../../arch/x86_64/configPorts.js';
import { PciBus } from '../../../device/pci/bus.js';
import { Harness } from '../../device/pci/harness.js';
import { SLOT } from '../../device/pci/pciDriver.js';

const address = (slot: number, offset: number): number => (0x8000_0000 | (slot << 11) | (offset & 0xfc)) >>> 0;

describe('PCI 3.0 §3.2.2.3.2 configuration mechanism #1', () => {
  it('a full dword write to CONFIG_ADDRESS is kept, narrower ones are none of it', () => {
    const ports = new ConfigPorts(new PciBus());
    void ports.write(0xcf8, 4, 0x8000_1844);
    expect(ports.read(0xcf8, 4)).toBe(0x8000_1844);
    void ports.write(0xcfb, 1, 0x01);
    void ports.write(0xcf8, 2, 0xffff);
    expect(ports.read(0xcf8, 4)).toBe(0x8000_1844);
    expect([ports.read(0xcf8, 1), ports.read(0xcfa, 2), ports.read(0xcfb, 1)]).toEqual([0x44, 0x8000, 0x80]);
  });

  it('reserved bits and the two lowest read as zero', () => {
    const ports = new ConfigPorts(new PciBus());
    void ports.write(0xcf8, 4, 0xffff_ffff);
    expect(ports.read(0xcf8, 4)).toBe(0x80ff_fffc);
  });

  it('the host bridge is at 00:00.0, and reads the same in all widths', () => {
    const ports = new ConfigPorts(new PciBus());
    void ports.write(0xcf8, 4, address(0, 0));
    const id = ports.read(0xcfc, 4);
    expect([ports.read(0xcfc, 2), ports.read(0xcfe, 2)]).toEqual([id & 0xffff, id >>> 16]);
    expect([0, 1, 2, 3].map((n) => ports.read(0xcfc + n, 1))).toEqual([0, 1, 2, 3].map((n) => (id >>> (8 * n)) & 0xff));
    void ports.write(0xcf8, 4, address(0, 8));
    expect(ports.read(0xcfc, 4) >>> 8).toBe(0x06_0000);
  });

  it('without the enable bit, and for devices, functions and buses that are not there, reads are all ones', async () => {
    await using harness = await Harness.open();
    const { ports } = harness;
    for (const where of [
      address(SLOT, 0) & 0x7fff_ffff,
      address(5, 0),
      address(SLOT, 0) + 0x100,
      address(SLOT, 0) + 0x1_0000,
    ]) {
      void ports.write(0xcf8, 4, where);
      expect([ports.read(0xcfc, 4), ports.read(0xcfc, 2), ports.read(0xcfc, 1)]).toEqual([0xffff_ffff, 0xffff, 0xff]);
      await ports.write(0xcfc, 4, 0);
    }
    expect(harness.driver.config(0, 4)).toBe(0x1041_1af4);
  });

  it('an access that crosses the end of CONFIG_DATA reaches nothing', () => {
    const ports = new ConfigPorts(new PciBus());
    void ports.write(0xcf8, 4, address(0, 0));
    expect([ports.read(0xcfe, 4), ports.read(0xcff, 2), ports.read(0xcfa, 4)]).toEqual([
      0xffff_ffff, 0xffff, 0xffff_ffff,
    ]);
    void ports.write(0xcf8, 4, address(0, 0x3c));
    void ports.write(0xcfa, 4, 0x1234_5678);
    expect(ports.read(0xcfc, 1)).toBe(0);
  });
});
