/**
 * Guest memory as the front end describes it: where each region lies in the guest, in the front end's own address space
 * and in a file. A table never changes: a request makes a new one, which takes the old one's place once the data plane
 * has it.
 */
import type { FdInfo } from '../../src/native/addon.js';
import type { MemoryRegion } from '../dataPlane.js';
import { MAX_WINDOWS } from '../guestMemory.js';
import { VhostUserRequestError } from './errors.js';
import { MAX_MEM_SLOTS } from './messages.js';
import type { RegionDescription } from './messages.js';

/** Physical addresses have at most 52 bits on x86-64; so all guest addresses are exact as JavaScript numbers. */
const GUEST_ADDRESS_LIMIT = 1n << 52n;
const USER_ADDRESS_LIMIT = 1n << 64n;
/** The strictest alignment of a ring's parts (virtio 1.2 §2.7): what is aligned in the guest must be so in a mapping. Pages the protocol doesn't ask for. */
const ALIGNMENT = 16n;
const WINDOW_SIZE = 2 ** 32;

export interface VhostMemoryRegion extends MemoryRegion {
  /** Where the front end sees it; addresses of rings are given so. */
  readonly userAddress: bigint;
}

export class MemoryTable {
  static readonly EMPTY = new MemoryTable([]);

  private constructor(readonly regions: readonly VhostMemoryRegion[]) {}

  /** @throws {VhostUserRequestError} if regions overlap, or are too many or too large together. */
  static of(regions: readonly VhostMemoryRegion[]): MemoryTable {
    if (regions.length > MAX_MEM_SLOTS) throw new VhostUserRequestError(`more than ${MAX_MEM_SLOTS} memory regions`);
    const windows = regions.reduce((sum, region) => sum + Math.ceil(region.size / WINDOW_SIZE), 0);
    if (windows > MAX_WINDOWS) {
      throw new VhostUserRequestError(`more than ${(MAX_WINDOWS * WINDOW_SIZE) / 2 ** 30} GiB of guest memory`);
    }
    checkDisjoint(regions, (region) => BigInt(region.guestAddress), 'guest');
    checkDisjoint(regions, (region) => region.userAddress, 'user');
    return new MemoryTable(regions);
  }

  /** The regions of either, unchecked: a list of files to close, not a table to use. */
  static union(a: MemoryTable, b: MemoryTable): MemoryTable {
    return new MemoryTable([...new Set([...a.regions, ...b.regions])]);
  }

  /** A table with one more region. Throws as `of` does. */
  with(region: VhostMemoryRegion): MemoryTable {
    return MemoryTable.of([...this.regions, region]);
  }

  /**
   * A table with a region less: "identified by its guest address, user address and size. The mmap offset is ignored."
   * @throws {VhostUserRequestError} if there is no such region.
   */
  without(description: RegionDescription): MemoryTable {
    const gone = this.regions.find(
      (region) =>
        BigInt(region.guestAddress) === description.guestAddress &&
        BigInt(region.size) === description.size &&
        region.userAddress === description.userAddress,
    );
    if (gone === undefined) {
      throw new VhostUserRequestError(
        `there is no region at guest address ${hex(description.guestAddress)} of that size`,
      );
    }
    return new MemoryTable(this.regions.filter((region) => region !== gone));
  }

  /** The guest physical address of `size` bytes at `userAddress`; `undefined` unless they all lie in one region. */
  translate(userAddress: bigint, size: number): number | undefined {
    for (const region of this.regions) {
      const offset = userAddress - region.userAddress;
      if (offset >= 0n && offset + BigInt(size) <= BigInt(region.size)) return region.guestAddress + Number(offset);
    }
    return undefined;
  }
}

/**
 * A region that may be mapped: checked against the file that came with it.
 * @throws {VhostUserRequestError}
 */
export function checkedRegion(description: RegionDescription, fd: number, file: FdInfo): VhostMemoryRegion {
  const { guestAddress, size, userAddress, fileOffset } = description;
  const what = `region at guest address ${hex(guestAddress)}`;
  if (size === 0n) throw new VhostUserRequestError(`${what} is empty`);
  if (guestAddress + size > GUEST_ADDRESS_LIMIT) throw new VhostUserRequestError(`${what} ends beyond 2^52`);
  if (userAddress + size > USER_ADDRESS_LIMIT)
    throw new VhostUserRequestError(`${what} wraps in the user address space`);
  if (((guestAddress | fileOffset) & (ALIGNMENT - 1n)) !== 0n) {
    throw new VhostUserRequestError(`${what} is not aligned to ${ALIGNMENT} bytes`);
  }
  if (file.kind !== 'file') throw new VhostUserRequestError(`${what} comes with a descriptor that is no file`);
  if (fileOffset + size > BigInt(file.size)) {
    throw new VhostUserRequestError(`${what} needs ${fileOffset + size} bytes of a file that has ${file.size}`);
  }
  return { guestAddress: Number(guestAddress), size: Number(size), userAddress, fd, fileOffset: Number(fileOffset) };
}

function checkDisjoint(
  regions: readonly VhostMemoryRegion[],
  start: (region: VhostMemoryRegion) => bigint,
  space: string,
): void {
  const sorted = regions.map((region) => ({ start: start(region), end: start(region) + BigInt(region.size) }));
  sorted.sort((a, b) => (a.start < b.start ? -1 : 1));
  for (const [n, region] of sorted.entries()) {
    if (n > 0 && region.start < sorted[n - 1]!.end) {
      throw new VhostUserRequestError(`memory regions overlap at ${space} address ${hex(region.start)}`);
    }
  }
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}
