/**
 * Guest memory as one thread sees it: windows of at most 4 GiB, each a mapping of this thread's own.
 *
 * An address is translated once, where it enters (a descriptor); from there on memory is named by (window, offset).
 * An address that lies in no window is a fault of the guest, counted by whoever asked.
 */
import type { Addon } from '../src/native/addon.js';

/** The most windows a device's memory may have. */
export const MAX_WINDOWS = 256;

/** A mapping to make: the wire form of a `MemoryRegion`, at most 4 GiB long. */
export interface MemoryWindow {
  readonly guestAddress: number;
  readonly size: number;
  readonly fd: number;
  readonly fileOffset: number;
}

export class GuestMemory {
  /** Number of windows in use. */
  count = 0;
  /** Guest physical address of each window's first byte. */
  readonly start = new Float64Array(MAX_WINDOWS);
  /** Bytes in each window. */
  readonly size = new Float64Array(MAX_WINDOWS);
  /** The addon's name of each window's mapping. */
  readonly region = new Int32Array(MAX_WINDOWS);
  readonly u8: Uint8Array[] = [];
  readonly u16: Uint16Array[] = [];
  readonly u32: Uint32Array[] = [];
  private last = 0;
  private readonly byRegion: Uint8Array[] = [];

  constructor(private readonly addon: Addon) {}

  /** Maps one more window. Throws what `mapRegion` throws. */
  map(window: MemoryWindow): void {
    const { region, buffer } = this.addon.mapRegion(window.fd, window.fileOffset, window.size);
    const n = this.count++;
    this.start[n] = window.guestAddress;
    this.size[n] = window.size;
    this.region[n] = region;
    this.u8[n] = new Uint8Array(buffer);
    this.byRegion[region] = this.u8[n]!;
    this.u16[n] = new Uint16Array(buffer, 0, Math.floor(window.size / 2));
    this.u32[n] = new Uint32Array(buffer, 0, Math.floor(window.size / 4));
  }

  /** Unmaps everything: the views' buffers are detached, a stale view reads nothing. */
  clear(): void {
    for (let n = 0; n < this.count; n++) this.addon.unmapRegion(this.region[n]!);
    this.count = 0;
    this.last = 0;
    this.u8.length = 0;
    this.byRegion.length = 0;
    this.u16.length = 0;
    this.u32.length = 0;
  }

  /** The window that holds the byte at `address`, or -1. */
  find(address: number): number {
    const last = this.last;
    if (last < this.count) {
      const inside = address - this.start[last]!;
      if (inside >= 0 && inside < this.size[last]!) return last;
    }
    for (let n = 0; n < this.count; n++) {
      const inside = address - this.start[n]!;
      if (inside >= 0 && inside < this.size[n]!) {
        this.last = n;
        return n;
      }
    }
    return -1;
  }

  /** The window that holds all `length` bytes from `address`, or -1. */
  findSpan(address: number, length: number): number {
    const n = this.find(address);
    return n >= 0 && length <= this.size[n]! - (address - this.start[n]!) ? n : -1;
  }

  /** The bytes of the window whose mapping the addon calls `region`. */
  bytesOf(region: number): Uint8Array {
    return this.byRegion[region]!;
  }

  /** Whether a file shrank under one of the windows. */
  faulted(): boolean {
    for (let n = 0; n < this.count; n++) if (this.addon.regionFaulted(this.region[n]!)) return true;
    return false;
  }
}
