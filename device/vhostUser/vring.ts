/** What a front end has told about one ring, and the checks that make a virtqueue of it. */
import type { VirtqueueSetup } from '../dataPlane.js';
import { VhostUserRequestError } from './errors.js';
import type { MemoryTable } from './memoryTable.js';
import type { VringAddresses } from './messages.js';

/** virtio 1.2 §2.7: "Queue Size […] maximum of 32768", a power of two. */
const MAX_QUEUE_SIZE = 32768;
/** Setup value of a descriptor that isn't there: the queue is polled, or no notification is wanted. */
export const NO_FD = -1;

export class Vring {
  /** Entries; 0 until told. */
  size = 0;
  addresses: VringAddresses | undefined;
  /** Next available index, 0 … 65535. */
  base = 0;
  /** eventfd, `NO_FD` for polling, `undefined` until told: a ring starts once it is told (vhost-user, "Ring states"). */
  kick: number | undefined;
  call = NO_FD;
  err = NO_FD;
  /** `undefined` until told. */
  enabled: boolean | undefined;
  /** The queue that this ring runs as in the data plane. */
  running: { readonly queue: number; readonly setup: VirtqueueSetup } | undefined;
  /** The data plane has stopped it because the driver broke the rules; it stays so until the front end stops it or kicks it off anew. */
  broken = false;

  constructor(readonly index: number) {}

  /** Everything has been told that a ring needs to start. */
  get complete(): boolean {
    return this.size > 0 && this.addresses !== undefined && this.kick !== undefined;
  }

  /**
   * The virtqueue that this ring is in `memory`. Call it for a complete ring only.
   * @throws {VhostUserRequestError} if a part lies outside memory or isn't aligned.
   */
  setup(memory: MemoryTable): VirtqueueSetup {
    const { descTable, availRing, usedRing } = this.addresses!;
    const { size } = this;
    return {
      size,
      // virtio 1.2 §2.7: alignment and size of each part; the event fields are counted whether they are used or not.
      descTable: this.locate(memory, 'descriptor table', descTable, 16 * size, 16),
      availRing: this.locate(memory, 'available ring', availRing, 6 + 2 * size, 2),
      usedRing: this.locate(memory, 'used ring', usedRing, 6 + 8 * size, 4),
      lastAvailIdx: this.base,
      kickFd: this.kick ?? NO_FD,
      callFd: this.call,
    };
  }

  private locate(memory: MemoryTable, part: string, userAddress: bigint, size: number, alignment: number): number {
    const guestAddress = memory.translate(userAddress, size);
    const what = `the ${part} of ring ${this.index} at user address 0x${userAddress.toString(16)}`;
    if (guestAddress === undefined) {
      throw new VhostUserRequestError(`${what} (${size} bytes) does not lie in one region of guest memory`);
    }
    if (guestAddress % alignment !== 0) throw new VhostUserRequestError(`${what} is not aligned to ${alignment} bytes`);
    return guestAddress;
  }
}

/** @throws {VhostUserRequestError} */
export function checkedQueueSize(size: number): number {
  if (size === 0 || size > MAX_QUEUE_SIZE || (size & (size - 1)) !== 0) {
    throw new VhostUserRequestError(`queue size ${size} is no power of two from 1 to ${MAX_QUEUE_SIZE}`);
  }
  return size;
}

/** Whether two set-ups place a ring at the same addresses. */
export function samePlace(a: VirtqueueSetup, b: VirtqueueSetup): boolean {
  return a.descTable === b.descTable && a.availRing === b.availRing && a.usedRing === b.usedRing;
}
