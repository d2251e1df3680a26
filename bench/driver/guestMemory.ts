/**
 * The memory of the guest that the driver plays: one memfd. The back end is shown one region, or several with holes
 * between them; the driver's threads map the whole file and name every byte by its offset in it.
 */
import { addon } from '../../src/native/addon.js';

/** What another thread needs to map the same memory and to know its guest addresses. */
export interface GuestMemoryShape {
  readonly fd: number;
  /** Bytes, a multiple of `regionSize`. */
  readonly size: number;
  /** Bytes of each region. */
  readonly regionSize: number;
  /** Bytes of guest address space left free after each region. */
  readonly gap: number;
  /** Guest physical address of offset 0. */
  readonly guestBase: number;
}

/** One region, as the back end is told of it. */
export interface GuestRegion {
  readonly guestAddress: number;
  readonly userAddress: number;
  readonly size: number;
  readonly fileOffset: number;
}

/** The driver's address space as vhost-user speaks of it; made up, for nobody but the two sides of the socket uses it. */
const USER_BASE = 0x7e00_0000_0000;
const PAGE = 4096;
const TWO_32 = 2 ** 32;

export function guestAddress(shape: GuestMemoryShape, offset: number): number {
  return shape.guestBase + offset + Math.floor(offset / shape.regionSize) * shape.gap;
}

export function userAddress(offset: number): number {
  return USER_BASE + offset;
}

export function guestRegions(shape: GuestMemoryShape): GuestRegion[] {
  return Array.from({ length: shape.size / shape.regionSize }, (_, n) => ({
    guestAddress: guestAddress(shape, n * shape.regionSize),
    userAddress: userAddress(n * shape.regionSize),
    size: shape.regionSize,
    fileOffset: n * shape.regionSize,
  }));
}

/** Says what lies where, before the memory exists. Nothing straddles the border of two regions. */
export class MemoryPlan {
  private end = 0;

  /** @param regionSize bytes, a multiple of 4096; infinite for a single region of whatever size is needed */
  constructor(private readonly regionSize: number) {}

  /**
   * @returns the offset of `bytes` bytes
   * @throws {RangeError} if no region holds so many
   */
  place(bytes: number, alignment: number): number {
    if (bytes > this.regionSize) {
      throw new RangeError(`a region of ${this.regionSize} bytes is too small for a structure of ${bytes} bytes`);
    }
    let offset = roundUp(this.end, alignment);
    if (offset % this.regionSize > this.regionSize - bytes) offset = roundUp(offset, this.regionSize);
    this.end = offset + bytes;
    return offset;
  }

  /** Makes the memory. The caller closes `fd`. */
  create(gap: number, guestBase: number): GuestMemoryShape {
    const regionSize = Number.isFinite(this.regionSize) ? this.regionSize : roundUp(this.end, PAGE);
    const size = roundUp(this.end, regionSize);
    return { fd: addon.createMemory('slipway-driver', size), size, regionSize, gap, guestBase };
  }
}

/** This thread's mapping of guest memory. */
export class MappedMemory {
  readonly region: number;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  /** The same bytes; a `Buffer` for its native comparison. */
  readonly bytes: Buffer;

  constructor(readonly shape: GuestMemoryShape) {
    const { region, buffer } = addon.mapRegion(shape.fd, 0, shape.size);
    this.region = region;
    this.u8 = new Uint8Array(buffer);
    this.u16 = new Uint16Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.bytes = Buffer.from(buffer);
  }

  /** Writes the guest address of `offset` as a 64-bit little-endian number at word index `word`. */
  putAddress(word: number, offset: number): void {
    const address = guestAddress(this.shape, offset);
    this.u32[word] = address;
    this.u32[word + 1] = address / TWO_32;
  }

  unmap(): void {
    addon.unmapRegion(this.region);
  }
}

function roundUp(value: number, multiple: number): number {
  return Number.isFinite(multiple) ? Math.ceil(value / multiple) * multiple : value;
}
