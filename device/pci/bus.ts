/**
 * A PCI bus behind a host bridge: configuration space, by ECAM too (PCI Express 5.0 §7.2.2), and the memory that base address
 * registers name.
 *
 * There is one bus, number 0. What no function answers reads as all ones, and writes to it go nowhere: a master abort.
 */
import { ConfigSpace, CONFIG_SPACE_SIZE } from './configSpace.js';
import { allOnes } from './registers.js';

/** Bytes of ECAM that one bus takes: 4096 for each of 32 × 8 functions. */
const ECAM_SIZE = 1 << 20;

/**
 * The bus as a machine reaches it: all memory that nothing else has is the bus's. Accesses have 1, 2 or 4 bytes. A write's
 * promise resolves when it has taken effect: the vCPU waits for it, the others run on. It never rejects.
 */
export interface PciAccess {
  /** @param routing bus, device and function number: 8, 5 and 3 bits */
  readConfig(routing: number, offset: number, length: number): number;
  writeConfig(routing: number, offset: number, length: number, value: number): void | Promise<void>;
  readMemory(address: number, length: number): number;
  writeMemory(address: number, length: number, value: number): void | Promise<void>;
}

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

export class PciBus implements PciAccess {
  /** By device number; each device has function 0 only. */
  private readonly functions = new Map<number, PciFunction>([[0, new HostBridge()]]);
  /** Accesses to memory that no function has. */
  unclaimedAccesses = 0;

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

  /** Functions have 256 bytes: conventional PCI, without extended capabilities. */
  readConfig(routing: number, offset: number, length: number): number {
    const pciFunction = this.functionAt(routing);
    if (pciFunction === undefined) return allOnes(length);
    return offset < CONFIG_SPACE_SIZE ? pciFunction.readConfig(offset, length) : 0;
  }

  writeConfig(routing: number, offset: number, length: number, value: number): void | Promise<void> {
    if (offset >= CONFIG_SPACE_SIZE) return;
    return this.functionAt(routing)?.writeConfig(offset, length, value);
  }

  readMemory(address: number, length: number): number {
    const offset = this.ecamOffset(address, length);
    if (offset >= 0) return this.readConfig(offset >> 12, offset & 0xfff, length);
    for (const pciFunction of this.functions.values()) {
      const place = pciFunction.config.locate(address, length);
      if (place !== undefined) return pciFunction.readBar(place.bar, place.offset, length);
    }
    this.unclaimedAccesses++;
    return allOnes(length);
  }

  writeMemory(address: number, length: number, value: number): void | Promise<void> {
    const offset = this.ecamOffset(address, length);
    if (offset >= 0) return this.writeConfig(offset >> 12, offset & 0xfff, length, value);
    for (const pciFunction of this.functions.values()) {
      const place = pciFunction.config.locate(address, length);
      if (place !== undefined) return pciFunction.writeBar(place.bar, place.offset, length, value);
    }
    this.unclaimedAccesses++;
  }

  /** Offset in ECAM of an access that doesn't cross a 4-byte boundary; -1: it is no such access. */
  private ecamOffset(address: number, length: number): number {
    if (this.ecam === undefined || address < this.ecam || address >= this.ecam + ECAM_SIZE) return -1;
    return (address & 3) + length <= 4 ? address - this.ecam : -1;
  }

  private functionAt(routing: number): PciFunction | undefined {
    return (routing & 0xff07) === 0 ? this.functions.get((routing >> 3) & 0x1f) : undefined;
  }
}
