/** The device's side of a split virtqueue, for tests: slow, plain, and strict about every rule that binds the driver. */
import type { MemoryRegion, VirtqueueSetup } from '../../../device/dataPlane.js';
import { addon } from '../../../src/native/addon.js';

/** Guest memory as the device sees it. */
export class ModelMemory {
  private readonly maps: { readonly region: MemoryRegion; readonly id: number; readonly bytes: Uint8Array }[];

  constructor(regions: readonly MemoryRegion[]) {
    this.maps = regions.map((region) => {
      const { region: id, buffer } = addon.mapRegion(region.fd, region.fileOffset, region.size);
      return { region, id, bytes: new Uint8Array(buffer) };
    });
  }

  /** @throws {Error} for an address range that doesn't lie in one region */
  at(address: number, length: number): Uint8Array {
    for (const { region, bytes } of this.maps) {
      const offset = address - region.guestAddress;
      if (offset >= 0 && offset + length <= region.size) return bytes.subarray(offset, offset + length);
    }
    throw new Error(`driver error: ${length} bytes at ${address} are not in guest memory`);
  }

  unmap(): void {
    for (const { id } of this.maps) addon.unmapRegion(id);
  }
}

export interface Chain {
  readonly head: number;
  readonly readable: Uint8Array[];
  readonly writable: Uint8Array[];
  readonly indirect: boolean;
}

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

export class ModelQueue {
  private lastAvail = 0;
  private used = 0;
  private signalled = 0;

  constructor(
    private readonly memory: ModelMemory,
    readonly setup: VirtqueueSetup,
    private readonly eventIdx: boolean,
  ) {}

  private words(address: number, count: number): Uint16Array {
    const bytes = this.memory.at(address, 2 * count);
    return new Uint16Array(bytes.buffer, bytes.byteOffset, count);
  }

  available(): number {
    return (Atomics.load(this.words(this.setup.availRing, 2), 1) - this.lastAvail) & 0xffff;
  }

  /** The next chain; `undefined` if there is none. */
  take(): Chain | undefined {
    const { size, availRing } = this.setup;
    const waiting = this.available();
    if (waiting === 0) return undefined;
    if (waiting > size) throw new Error(`driver error: ${waiting} chains available in a queue of ${size}`);
    const head = this.words(availRing, 2 + size)[2 + (this.lastAvail % size)];
    this.lastAvail = (this.lastAvail + 1) & 0xffff;
    return this.walk(head);
  }

  private walk(head: number): Chain {
    const { size, descTable } = this.setup;
    const chain: Chain = { head, readable: [], writable: [], indirect: false };
    let table = this.memory.at(descTable, 16 * size);
    let limit = size;
    let index = head;
    let indirect = false;
    for (let steps = 0; ; steps++) {
      if (steps > limit || index >= limit) throw new Error(`driver error: descriptor ${index} of ${limit}`);
      const view = new DataView(table.buffer, table.byteOffset + 16 * index, 16);
      const address = Number(view.getBigUint64(0, true));
      const length = view.getUint32(8, true);
      const flags = view.getUint16(12, true);
      if (flags & INDIRECT) {
        if (indirect || flags & (NEXT | WRITE)) throw new Error('driver error: indirect descriptor with other flags');
        if (length === 0 || length % 16 !== 0) throw new Error('driver error: length of an indirect table');
        indirect = true;
        table = this.memory.at(address, length);
        limit = length / 16;
        index = 0;
        continue;
      }
      const bytes = this.memory.at(address, length);
      if (flags & WRITE) chain.writable.push(bytes);
      else if (chain.writable.length > 0) throw new Error('driver error: a readable buffer behind a writable one');
      else chain.readable.push(bytes);
      if ((flags & NEXT) === 0) return { ...chain, indirect };
      index = view.getUint16(14, true);
    }
  }

  /** Writes a used element; the driver sees it at `publish`. */
  use(head: number, written: number): void {
    const { size, usedRing } = this.setup;
    const bytes = this.memory.at(usedRing + 4 + 8 * (this.used % size), 8);
    new Uint32Array(bytes.buffer, bytes.byteOffset, 2).set([head, written]);
    this.used = (this.used + 1) & 0xffff;
  }

  /** Publishes, and interrupts if the driver asked for it. Returns whether it did. */
  publish(): boolean {
    const { size, availRing, usedRing, callFd } = this.setup;
    const before = this.signalled;
    if (this.used === before) return false;
    Atomics.store(this.words(usedRing, 2), 1, this.used);
    this.signalled = this.used;
    const avail = this.words(availRing, 3 + size);
    const wanted = this.eventIdx
      ? ((this.used - Atomics.load(avail, 2 + size) - 1) & 0xffff) < ((this.used - before) & 0xffff)
      : (Atomics.load(avail, 0) & 1) === 0;
    if (wanted && callFd >= 0) addon.eventfdSignal(callFd);
    return wanted;
  }

  /** Asks for kicks, or for none; with EVENT_IDX for one at the next chain or at one 32,768 further. */
  wantKicks(wanted: boolean): void {
    const { size, usedRing } = this.setup;
    if (this.eventIdx) {
      Atomics.store(this.words(usedRing + 4 + 8 * size, 1), 0, (this.lastAvail + (wanted ? 0 : 0x8000)) & 0xffff);
    } else {
      Atomics.store(this.words(usedRing, 1), 0, wanted ? 0 : 1);
    }
  }
}
