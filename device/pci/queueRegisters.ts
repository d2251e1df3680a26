/** One virtqueue's registers in the common configuration (virtio 1.2 §4.1.4.3), and how it runs. */
import type { MemoryRegion, VirtqueueSetup } from '../dataPlane.js';
import { NO_VECTOR } from './interrupts.js';

const TWO_32 = 2 ** 32;

export class QueueRegisters {
  size: number;
  vector = NO_VECTOR;
  enabled = false;
  /** Low and high half of each part's guest physical address. */
  readonly desc: [number, number] = [0, 0];
  readonly driver: [number, number] = [0, 0];
  readonly device: [number, number] = [0, 0];
  /** The driver asked for a reset of this queue (RING_RESET) that isn't complete. */
  resetting = false;
  /** What runs in the data plane: its number there, and its call eventfd. */
  running: { readonly queue: number; callFd: number } | undefined;
  /** The data plane stopped it because the driver broke the rules. */
  broken = false;
  /** Where it goes on when it is started. */
  lastAvailIdx = 0;

  constructor(
    /** Entries at most: a power of two. */
    private readonly maxSize: number,
    /** eventfd of the driver's notifications. */
    readonly kickFd: number,
  ) {
    this.size = maxSize;
  }

  /** §4.1.4.3.2: a power of two; anything else, or more than there can be, is not taken. */
  setSize(size: number): void {
    const valid = size > 0 && size <= this.maxSize && (size & (size - 1)) === 0;
    if (valid && !this.enabled) this.size = size;
  }

  /** The state after a reset of the queue or the device (§2.6.1, §4.1.4.3.1). */
  reset(): void {
    this.size = this.maxSize;
    this.vector = NO_VECTOR;
    this.enabled = this.resetting = this.broken = false;
    for (const half of [this.desc, this.driver, this.device]) half.fill(0);
    this.lastAvailIdx = 0;
  }

  /**
   * The virtqueue that the driver described.
   * @returns what is wrong with it, in words, if it doesn't lie in memory, aligned (§2.7)
   */
  setup(memory: readonly MemoryRegion[], callFd: number): VirtqueueSetup | string {
    const descTable = addressOf(this.desc);
    const availRing = addressOf(this.driver);
    const usedRing = addressOf(this.device);
    const { size, kickFd, lastAvailIdx } = this;
    const fault =
      partFault(memory, 'descriptor area', descTable, 16 * size, 16) ??
      partFault(memory, 'driver area', availRing, 6 + 2 * size, 2) ??
      partFault(memory, 'device area', usedRing, 6 + 8 * size, 4);
    return fault ?? { size, descTable, availRing, usedRing, lastAvailIdx, kickFd, callFd };
  }
}

function addressOf([low, high]: readonly [number, number]): number {
  return high * TWO_32 + low;
}

function partFault(
  memory: readonly MemoryRegion[],
  part: string,
  address: number,
  size: number,
  alignment: number,
): string | undefined {
  const what = `its ${part} at 0x${address.toString(16)}`;
  if (address % alignment !== 0) return `${what} is not aligned to ${alignment} bytes`;
  const inside = memory.some(
    ({ guestAddress, size: bytes }) => address >= guestAddress && address + size <= guestAddress + bytes,
  );
  return inside ? undefined : `${what} (${size} bytes) does not lie in guest memory`;
}
