/**
 * A PCI bus behind a host bridge: configuration mechanism #1 (PCI 3.0 §3.2.2.3.2), ECAM (PCI Express 5.0 §7.2.2), and the
 * memory that base address registers name.
 *
 * There is one bus, number 0. What no function answers reads as all ones, and writes to it go nowhere: a master abort.
 */
import { ConfigSpace, CONFIG_SPACE_SIZE } from './configSpace.js';
import type { AddressSpace } from './platform.js';
import { allOnes, byteOf, withByte } from './registers.js';

/** Ports of configuration mechanism #1: the machine gives all of them, and all memory that nothing else has, to the bus. */
export const CONFIG_PORTS = { first: 0xcf8, last: 0xcff } as const;
/** Bytes of ECAM that one bus takes: 4096 for each of 32 × 8 functions. */
export const ECAM_SIZE = 1 << 20;

const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;
const CONFIG_ENABLE = 0x8000_0000;
/** Bits 30 … 24 are reserved, and bits 1 and 0 always zero. */
const CONFIG_ADDRESS_BITS = 0x80ff_fffc;

/** A function on the bus. Accesses have 1 … 4 bytes and lie within the space or the register's memory. */
export interface PciFunction {
  readonly config: ConfigSpace;
  readConfig(offset: number, length: number): number;
  writeConfig(offset: number, length: number, value: number): void | Promise<void>;
  readBar(bar: number, offset: number, length: number): number;
  writeBar(bar: number, offset: number, length: number, value: number): void | Promise<void>;
}

/** The host bridge itself: nothing but its identity, by which operating systems know that mechanism #1 works. */
class HostBridge implements PciFunction {
  /** QEMU's generic host bridge. */
  readonly config = new ConfigSpace({
    vendor: 0x1b36,
    device: 0x0008,
    revision: 0,
    classCode: 0x06_0000,
    subsystemVendor: 0x1af4,
    subsystem: 0x1100,
    interruptPin: 0,
  });

  readConfig(offset: number, length: number): number {
    return this.config.read(offset, length);
  }

  writeConfig(offset: number, length: number, value: number): void {
    this.config.write(offset, length, value);
  }

  readBar(_bar: number, _offset: number, length: number): number {
    return allOnes(length);
  }

  writeBar(): void {}
}

export class PciBus {
  /** By device number; each device has function 0 only. */
  private readonly functions = new Map<number, PciFunction>([[0, new HostBridge()]]);
  /** Accesses to memory that no function has. */
  unclaimedAccesses = 0;
  private configAddress = 0;

  /** @param ecam guest physical address of bus 0's ECAM_SIZE bytes; `undefined`: there is none */
  constructor(private readonly ecam: number | undefined = undefined) {}

  /** Plugs a function in as device `number` (1 … 31), function 0. */
  add(number: number, pciFunction: PciFunction): void {
    if (number < 1 || number > 31 || this.functions.has(number)) throw new RangeError(`no free PCI slot ${number}`);
    this.functions.set(number, pciFunction);
  }

  /**
   * Places all base address registers in [start, end), as firmware does. Software may move them.
   * @returns the first free address behind them
   * @throws {RangeError} when they don't fit
   */
  assignBars(start: number, end: number): number {
    let next = start;
    for (const { config } of this.functions.values()) {
      for (const [bar, size] of config.bars) {
        const address = Math.ceil(next / size) * size;
        if (address + size > end)
          throw new RangeError(`PCI memory 0x${start.toString(16)} … 0x${end.toString(16)} is full`);
        config.placeBar(bar, address);
        next = address + size;
      }
    }
    return next;
  }

  /** @param length 1, 2 or 4 bytes */
  read(space: AddressSpace, address: number, length: number): number {
    if (space === 'io') return this.readPort(address, length);
    const offset = this.ecamOffset(address, length);
    if (offset >= 0) return this.readConfig(offset >> 12, offset & 0xfff, length);
    for (const pciFunction of this.functions.values()) {
      const place = pciFunction.config.locate(address, length);
      if (place !== undefined) return pciFunction.readBar(place.bar, place.offset, length);
    }
    this.unclaimedAccesses++;
    return allOnes(length);
  }

  /** A promise resolves when the write has taken effect: the vCPU waits for it, the others run on. It never rejects. */
  write(space: AddressSpace, address: number, length: number, value: number): void | Promise<void> {
    if (space === 'io') return this.writePort(address, length, value);
    const offset = this.ecamOffset(address, length);
    if (offset >= 0) return this.writeConfig(offset >> 12, offset & 0xfff, length, value);
    for (const pciFunction of this.functions.values()) {
      const place = pciFunction.config.locate(address, length);
      if (place !== undefined) return pciFunction.writeBar(place.bar, place.offset, length, value);
    }
    this.unclaimedAccesses++;
  }

  private readPort(port: number, length: number): number {
    if (port >= CONFIG_DATA && port + length <= CONFIG_DATA + 4) {
      if ((this.configAddress & CONFIG_ENABLE) === 0) return allOnes(length);
      return this.readConfig(this.configAddress >>> 8, (this.configAddress & 0xfc) + port - CONFIG_DATA, length);
    }
    if (port < CONFIG_ADDRESS || port + length > CONFIG_DATA) return allOnes(length);
    let value = 0;
    for (let n = 0; n < length; n++) value = withByte(value, n, byteOf(this.configAddress, port - CONFIG_ADDRESS + n));
    return value;
  }

  private writePort(port: number, length: number, value: number): void | Promise<void> {
    // "Anytime a host bridge sees a full DWORD I/O write […] to CONFIG_ADDRESS": other widths mean other devices' ports.
    if (port === CONFIG_ADDRESS && length === 4) this.configAddress = (value & CONFIG_ADDRESS_BITS) >>> 0;
    if (port < CONFIG_DATA || port + length > CONFIG_DATA + 4 || (this.configAddress & CONFIG_ENABLE) === 0) return;
    const offset = (this.configAddress & 0xfc) + port - CONFIG_DATA;
    return this.writeConfig(this.configAddress >>> 8, offset, length, value);
  }

  /** Offset in ECAM of an access that doesn't cross a 4-byte boundary; -1: it is no such access. */
  private ecamOffset(address: number, length: number): number {
    if (this.ecam === undefined || address < this.ecam || address >= this.ecam + ECAM_SIZE) return -1;
    return (address & 3) + length <= 4 ? address - this.ecam : -1;
  }

  /** @param routing bus, device and function number: 8, 5 and 3 bits */
  private functionAt(routing: number): PciFunction | undefined {
    return (routing & 0xff07) === 0 ? this.functions.get((routing >> 3) & 0x1f) : undefined;
  }

  /** Functions have 256 bytes: conventional PCI, without extended capabilities. */
  private readConfig(routing: number, offset: number, length: number): number {
    const pciFunction = this.functionAt(routing & 0xffff);
    if (pciFunction === undefined) return allOnes(length);
    return offset < CONFIG_SPACE_SIZE ? pciFunction.readConfig(offset, length) : 0;
  }

  private writeConfig(routing: number, offset: number, length: number, value: number): void | Promise<void> {
    if (offset >= CONFIG_SPACE_SIZE) return;
    return this.functionAt(routing & 0xffff)?.writeConfig(offset, length, value);
  }
}
