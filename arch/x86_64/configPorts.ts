/** The ports by which x86 reaches PCI's configuration space: configuration mechanism #1 (PCI 3.0 §3.2.2.3.2). */
import type { PciAccess } from '../../device/pci/bus.js';
import { allOnes, byteOf, withByte } from '../../device/pci/registers.js';

const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;
const CONFIG_ENABLE = 0x8000_0000;
/** Bits 30 … 24 are reserved, and bits 1 and 0 always zero. */
const CONFIG_ADDRESS_BITS = 0x80ff_fffc;

/** Takes all ports that nothing else has: others read as all ones, and writes to them go nowhere. */
export class ConfigPorts {
  private address = 0;

  constructor(private readonly pci: Pick<PciAccess, 'readConfig' | 'writeConfig'>) {}

  /** @param length 1, 2 or 4 bytes */
  read(port: number, length: number): number {
    if (port >= CONFIG_DATA && port + length <= CONFIG_DATA + 4) {
      if ((this.address & CONFIG_ENABLE) === 0) return allOnes(length);
      return this.pci.readConfig(this.routing, this.offset(port), length);
    }
    if (port < CONFIG_ADDRESS || port + length > CONFIG_DATA) return allOnes(length);
    let value = 0;
    for (let n = 0; n < length; n++) value = withByte(value, n, byteOf(this.address, port - CONFIG_ADDRESS + n));
    return value;
  }

  /** A promise resolves when the write has taken effect. */
  write(port: number, length: number, value: number): void | Promise<void> {
    // "Anytime a host bridge sees a full DWORD I/O write […] to CONFIG_ADDRESS": other widths mean other devices' ports.
    if (port === CONFIG_ADDRESS && length === 4) this.address = (value & CONFIG_ADDRESS_BITS) >>> 0;
    if (port < CONFIG_DATA || port + length > CONFIG_DATA + 4 || (this.address & CONFIG_ENABLE) === 0) return;
    return this.pci.writeConfig(this.routing, this.offset(port), length, value);
  }

  private get routing(): number {
    return (this.address >>> 8) & 0xffff;
  }

  private offset(port: number): number {
    return (this.address & 0xfc) + port - CONFIG_DATA;
  }
}
