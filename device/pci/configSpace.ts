/** The configuration space of one PCI function: a type 0 header, base address registers, capabilities (PCI 3.0 §6.1, §6.2, §6.7). */
import { byteOf, readBytes } from './registers.js';

export const CONFIG_SPACE_SIZE = 256;

/** Offsets in a type 0 header. */
const VENDOR_ID = 0x00;
const DEVICE_ID = 0x02;
const COMMAND = 0x04;
const STATUS = 0x06;
const REVISION_ID = 0x08;
const CLASS_CODE = 0x09;
const CACHE_LINE_SIZE = 0x0c;
const BASE_ADDRESS = 0x10;
const SUBSYSTEM_VENDOR_ID = 0x2c;
const SUBSYSTEM_ID = 0x2e;
const CAPABILITIES_POINTER = 0x34;
const INTERRUPT_LINE = 0x3c;
const INTERRUPT_PIN = 0x3d;
const FIRST_CAPABILITY = 0x40;

const COMMAND_MEMORY = 0x0002;
const COMMAND_BUS_MASTER = 0x0004;
const COMMAND_INTX_DISABLE = 0x0400;
const STATUS_INTERRUPT = 0x08;
const STATUS_CAPABILITIES = 0x10;
/** Low bits of a base address register: 64 bits wide, anywhere in memory, not prefetchable. */
const BAR_MEMORY_64 = 0x4;
const TWO_32 = 2 ** 32;
/** Physical addresses have at most 52 bits on x86-64 and on aarch64. */
const ADDRESS_LIMIT = 2 ** 52;

export interface PciIdentity {
  readonly vendor: number;
  readonly device: number;
  readonly revision: number;
  /** 24 bits: base class, sub-class, programming interface. */
  readonly classCode: number;
  readonly subsystemVendor: number;
  readonly subsystem: number;
  /** 0: none; 1: INTA. */
  readonly interruptPin: number;
}

export class ConfigSpace {
  readonly bytes = new Uint8Array(CONFIG_SPACE_SIZE);
  /** Bits that software can write. */
  private readonly mask = new Uint8Array(CONFIG_SPACE_SIZE);
  private readonly barSizes = new Map<number, number>();
  private nextCapability = FIRST_CAPABILITY;
  /** Where the pointer to the next capability goes. */
  private lastPointer = CAPABILITIES_POINTER;

  constructor(identity: PciIdentity) {
    this.put16(VENDOR_ID, identity.vendor);
    this.put16(DEVICE_ID, identity.device);
    this.bytes[REVISION_ID] = identity.revision;
    for (let n = 0; n < 3; n++) this.bytes[CLASS_CODE + n] = byteOf(identity.classCode, n);
    this.put16(SUBSYSTEM_VENDOR_ID, identity.subsystemVendor);
    this.put16(SUBSYSTEM_ID, identity.subsystem);
    this.bytes[INTERRUPT_PIN] = identity.interruptPin;
    this.mask[CACHE_LINE_SIZE] = 0xff;
    this.mask[INTERRUPT_LINE] = 0xff;
    const command = COMMAND_MEMORY | COMMAND_BUS_MASTER | COMMAND_INTX_DISABLE;
    this.mask[COMMAND] = byteOf(command, 0);
    this.mask[COMMAND + 1] = byteOf(command, 1);
  }

  /** Makes base address registers `index` and `index + 1` one of 64 bits, for `size` bytes of memory: a power of two, at least 4096. */
  addMemoryBar(index: number, size: number): void {
    const at = BASE_ADDRESS + 4 * index;
    this.bytes[at] = BAR_MEMORY_64;
    // §6.2.5.1: the bits below the size are hardwired, so that writing all ones tells the size.
    for (let n = 0; n < 4; n++) this.mask[at + n] = byteOf(-size, n);
    this.mask.fill(0xff, at + 4, at + 8);
    this.barSizes.set(index, size);
  }

  /**
   * Appends a capability.
   * @param body what follows its first two bytes
   * @param writable the bits of `body` that software can write; none if left out
   * @returns its offset
   */
  addCapability(id: number, body: Uint8Array, writable?: Uint8Array): number {
    const at = this.nextCapability;
    this.bytes[at] = id;
    this.bytes.set(body, at + 2);
    if (writable !== undefined) this.mask.set(writable, at + 2);
    this.bytes[this.lastPointer] = at;
    this.bytes[STATUS] = this.bytes[STATUS]! | STATUS_CAPABILITIES;
    this.lastPointer = at + 1;
    this.nextCapability = (at + 2 + body.length + 3) & ~3;
    return at;
  }

  read(offset: number, length: number): number {
    return readBytes(this.bytes, offset, length);
  }

  write(offset: number, length: number, value: number): void {
    for (let n = 0; n < length && offset + n < CONFIG_SPACE_SIZE; n++) {
      const mask = this.mask[offset + n]!;
      this.bytes[offset + n] = (this.bytes[offset + n]! & ~mask) | (byteOf(value, n) & mask);
    }
  }

  get busMaster(): boolean {
    return (this.read(COMMAND, 2) & COMMAND_BUS_MASTER) !== 0;
  }

  get intxDisabled(): boolean {
    return (this.read(COMMAND, 2) & COMMAND_INTX_DISABLE) !== 0;
  }

  /** Which line of the interrupt controller INTx leads to: written by firmware, read by drivers (§6.2.4). */
  set interruptLine(line: number) {
    this.bytes[INTERRUPT_LINE] = line;
  }

  /** The Interrupt Status bit: INTx is wanted, whether it is disabled or not (§6.2.3). */
  set interruptStatus(pending: boolean) {
    const rest = this.bytes[STATUS]! & ~STATUS_INTERRUPT;
    this.bytes[STATUS] = pending ? rest | STATUS_INTERRUPT : rest;
  }

  /** Bytes of each base address register's memory. */
  get bars(): ReadonlyMap<number, number> {
    return this.barSizes;
  }

  /** Puts a base address register's memory somewhere, as firmware does. */
  placeBar(index: number, address: number): void {
    this.write(BASE_ADDRESS + 4 * index, 4, address % TWO_32);
    this.write(BASE_ADDRESS + 4 * index + 4, 4, Math.floor(address / TWO_32));
  }

  /** Where software placed it; `undefined` while memory accesses are off, or it lies nowhere. */
  barAddress(index: number): number | undefined {
    if ((this.read(COMMAND, 2) & COMMAND_MEMORY) === 0) return undefined;
    const at = BASE_ADDRESS + 4 * index;
    const low = (this.read(at, 4) & ~0xf) >>> 0;
    const address = this.read(at + 4, 4) * TWO_32 + low;
    // 0 is where a register stands that nobody has set.
    return address === 0 || address >= ADDRESS_LIMIT ? undefined : address;
  }

  /** The base address register whose memory holds this many bytes from `address`, and where in it they begin. */
  locate(address: number, length: number): { readonly bar: number; readonly offset: number } | undefined {
    for (const [bar, size] of this.barSizes) {
      const base = this.barAddress(bar);
      if (base !== undefined && address >= base && address + length <= base + size)
        return { bar, offset: address - base };
    }
    return undefined;
  }

  private put16(at: number, value: number): void {
    this.bytes[at] = byteOf(value, 0);
    this.bytes[at + 1] = byteOf(value, 1);
  }
}
