/**
 * MSI-X (PCI 3.0 §6.8.2): the capability, the table of messages and the pending bits.
 *
 * A vector is connected to the interrupt controller while MSI-X is enabled, neither the function nor the vector is
 * masked, and the function may write to memory (a message is a write to memory: §6.8.3). Else its signals wait in its
 * eventfd: they are its pending bit.
 */
import type { ConfigSpace } from './configSpace.js';
import type { MessageInterrupts } from './platform.js';
import { byteOf, readBytes, withByte } from './registers.js';

const CAP_ID_MSIX = 0x11;
const ENTRY_SIZE = 16;
const ENTRY_ADDRESS_LOW = 0;
const ENTRY_ADDRESS_HIGH = 4;
const ENTRY_DATA = 8;
const ENTRY_CONTROL = 12;
const CONTROL_MASK = 1;
/** §6.8.2: "a maximum of 2048 MSI-X vectors". */
const MAX_VECTORS = 2048;
/** High byte of Message Control. */
const ENABLE = 0x80;
const FUNCTION_MASK = 0x40;

/** Where the table and the pending bits lie. */
export interface MsixPlace {
  readonly bar: number;
  readonly tableOffset: number;
  readonly pendingOffset: number;
}

export class Msix {
  private readonly table: Uint8Array;
  /** The vectors that are connected. */
  private readonly connected: boolean[];
  private readonly control: number;

  constructor(
    private readonly config: ConfigSpace,
    private readonly interrupts: MessageInterrupts,
    readonly vectors: number,
    place: MsixPlace,
    private readonly warn: (message: string) => void,
  ) {
    if (vectors < 1 || vectors > MAX_VECTORS) throw new RangeError(`${vectors} MSI-X vectors`);
    this.table = new Uint8Array(ENTRY_SIZE * vectors);
    this.connected = Array.from({ length: vectors }, () => false);
    // §6.8.2.9: vectors are masked after reset.
    for (let vector = 0; vector < vectors; vector++) this.table[ENTRY_SIZE * vector + ENTRY_CONTROL] = CONTROL_MASK;
    const body = new Uint8Array(10);
    const view = new DataView(body.buffer);
    view.setUint16(0, vectors - 1, true);
    view.setUint32(2, place.tableOffset | place.bar, true);
    view.setUint32(6, place.pendingOffset | place.bar, true);
    this.control = config.addCapability(CAP_ID_MSIX, body, Uint8Array.of(0, ENABLE | FUNCTION_MASK)) + 3;
  }

  get enabled(): boolean {
    return (this.config.bytes[this.control]! & ENABLE) !== 0;
  }

  /** Bytes of the table. */
  get tableSize(): number {
    return this.table.length;
  }

  /** Bytes of the pending bits: whole quadwords (§6.8.2). */
  get pendingSize(): number {
    return 8 * Math.ceil(this.vectors / 64);
  }

  readTable(offset: number, length: number): number {
    return readBytes(this.table, offset, length);
  }

  writeTable(offset: number, length: number, value: number): void {
    let moved = false;
    for (let n = 0; n < length && offset + n < this.table.length; n++) {
      const at = offset + n;
      const byte = byteOf(value, n) & entryMask(at % ENTRY_SIZE);
      if (at % ENTRY_SIZE < ENTRY_CONTROL && byte !== this.table[at]) moved = true;
      this.table[at] = byte;
    }
    for (const vector of new Set([offset, offset + length - 1].map((at) => Math.floor(at / ENTRY_SIZE)))) {
      // Remapped while running: the way to the old message is cut first.
      if (moved) this.disconnect(vector);
      this.settle(vector);
    }
  }

  readPending(offset: number, length: number): number {
    let value = 0;
    for (let n = 0; n < length; n++) value = withByte(value, n, this.pendingByte(offset + n));
    return value;
  }

  /** Connects and disconnects vectors as the function's configuration says now. */
  update(): void {
    for (let vector = 0; vector < this.vectors; vector++) this.settle(vector);
  }

  /** Disconnects all vectors: the device is unplugged. */
  close(): void {
    for (let vector = 0; vector < this.vectors; vector++) this.disconnect(vector);
  }

  private pendingByte(at: number): number {
    let byte = 0;
    for (let bit = 0; bit < 8; bit++) {
      const vector = 8 * at + bit;
      if (vector >= this.vectors || this.connected[vector]) continue;
      if (this.interrupts.pending(vector)) byte |= 1 << bit;
    }
    return byte;
  }

  /** Whether a vector's messages may go out. */
  private open(vector: number): boolean {
    const control = this.config.bytes[this.control]!;
    if ((control & (ENABLE | FUNCTION_MASK)) !== ENABLE || !this.config.busMaster) return false;
    return (this.table[ENTRY_SIZE * vector + ENTRY_CONTROL]! & CONTROL_MASK) === 0;
  }

  private settle(vector: number): void {
    if (vector >= this.vectors || this.connected[vector] === this.open(vector)) return;
    if (this.connected[vector]) this.disconnect(vector);
    else this.connect(vector);
  }

  /** A message that the interrupt controller doesn't take leaves its vector disconnected: the guest's own fault. */
  private connect(vector: number): void {
    const at = ENTRY_SIZE * vector;
    const low = BigInt(readBytes(this.table, at + ENTRY_ADDRESS_LOW, 4));
    const high = BigInt(readBytes(this.table, at + ENTRY_ADDRESS_HIGH, 4));
    try {
      this.interrupts.connect(vector, (high << 32n) | low, readBytes(this.table, at + ENTRY_DATA, 4));
      this.connected[vector] = true;
    } catch (error) {
      this.warn(`MSI-X vector ${vector} can't be routed as the guest asks: ${String(error)}`);
    }
  }

  private disconnect(vector: number): void {
    if (vector >= this.vectors || !this.connected[vector]) return;
    this.connected[vector] = false;
    this.interrupts.disconnect(vector);
  }
}

/** Bits of an entry's byte that are there: addresses are DWORD-aligned, of Vector Control only the mask bit (§6.8.2.7-9). */
function entryMask(at: number): number {
  if (at === ENTRY_ADDRESS_LOW) return 0xfc;
  if (at < ENTRY_CONTROL) return 0xff;
  return at === ENTRY_CONTROL ? CONTROL_MASK : 0;
}
