/** A virtqueue that the main thread serves: for devices on which nothing is in a hurry, unlike the data plane's queues. */
import type { Addon, FdWatcher } from '../src/native/addon.js';
import type { VirtqueueSetup } from './dataPlane.js';
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC } from './features.js';
import type { GuestMemory } from './guestMemory.js';
import {
  BROKEN_PLACE,
  BROKEN_REASONS,
  MAX_IOVECS,
  QUEUE_LAST_AVAIL,
  QUEUE_PUBLISHED,
  QUEUE_STATE_WORDS,
  QUEUE_USED,
  Virtqueue,
} from './virtqueue.js';

/** Bytes of the longest chain that is taken; one may name all of memory a thousand times. */
const MAX_CHAIN = 1 << 20;

export class ServedQueue {
  private readonly state = new Int32Array(QUEUE_STATE_WORDS);
  private readonly iovecs = new Uint32Array(3 * MAX_IOVECS);
  private readonly queue: Virtqueue;
  private watcher: FdWatcher | undefined;
  private again: NodeJS.Immediate | undefined;
  private callFd = -1;
  private head = 0;

  /**
   * @param serve takes chains by `next` and ends them by `complete`, as many as it has a use for; called when there may be some
   * @param broke is told why the queue stopped when the driver broke the rules
   */
  constructor(
    private readonly addon: Addon,
    private readonly memory: GuestMemory,
    private readonly serve: (queue: ServedQueue) => void,
    private readonly broke: (reason: string) => void,
  ) {
    this.queue = new Virtqueue(memory, this.iovecs, this.state);
  }

  start(setup: VirtqueueSetup, features: bigint): void {
    const eventIdx = (features & VIRTIO_F_EVENT_IDX) !== 0n;
    const indirect = (features & VIRTIO_F_INDIRECT_DESC) !== 0n;
    this.state.fill(0);
    this.state[QUEUE_LAST_AVAIL] = setup.lastAvailIdx;
    if (!this.queue.place({ ...setup, eventIdx, indirect })) {
      this.broke(BROKEN_REASONS[BROKEN_PLACE]);
      return;
    }
    this.state[QUEUE_USED] = this.state[QUEUE_PUBLISHED] = this.queue.usedIndexInRing();
    this.callFd = setup.callFd;
    this.watcher = this.addon.watch(setup.kickFd, { readable: true }, () => {
      if (this.addon.eventfdDrain(setup.kickFd) === 0) this.run();
    });
    this.run();
  }

  /** Returns the next available index. */
  stop(): number {
    this.watcher?.close();
    this.watcher = undefined;
    clearImmediate(this.again);
    this.again = undefined;
    return this.state[QUEUE_LAST_AVAIL]!;
  }

  setCallFd(callFd: number): void {
    this.callFd = callFd;
    // What was used while there was none may still be waited for.
    if (callFd >= 0 && this.watcher !== undefined) this.addon.eventfdSignal(callFd);
  }

  /** Serves what waits, if it runs; what comes meanwhile has to wait for others' turn, for a guest may add more for ever. */
  run(): void {
    if (this.watcher === undefined) return;
    const { queue } = this;
    queue.poll();
    this.serve(this);
    const more = queue.waiting() === 0 && queue.enableNotifications() > 0;
    if (queue.publish() && this.callFd >= 0) this.addon.eventfdSignal(this.callFd);
    if (queue.broken !== 0) this.stopBroken();
    else if (more) this.again ??= setImmediate(() => this.runAgain());
  }

  /** Goes to the next chain that waits; chains that break a rule are given back. False: there is none. */
  next(): boolean {
    const { queue } = this;
    while (queue.waiting() > 0) {
      const head = queue.headAt(0);
      if (head < 0) return false;
      this.head = head;
      const valid = queue.walk(head, 0) && queue.readableBytes <= MAX_CHAIN && queue.writableBytes <= MAX_CHAIN;
      if (valid) return true;
      this.complete(0);
    }
    return false;
  }

  /** What the driver wrote into the chain, a copy. */
  read(): Buffer {
    const { queue, memory, iovecs } = this;
    const bytes = Buffer.allocUnsafe(queue.readableBytes);
    let at = 0;
    for (let n = 0; n < queue.readable; n++) {
      const offset = iovecs[3 * n + 1]!;
      const length = iovecs[3 * n + 2]!;
      bytes.set(memory.bytesOf(iovecs[3 * n]!).subarray(offset, offset + length), at);
      at += length;
    }
    return bytes;
  }

  /** Puts as many of these bytes into the chain as it takes. Returns how many. */
  write(bytes: Uint8Array): number {
    const { queue, memory, iovecs } = this;
    let at = 0;
    for (let n = queue.readable; n < queue.count && at < bytes.length; n++) {
      const offset = iovecs[3 * n + 1]!;
      const piece = bytes.subarray(at, at + iovecs[3 * n + 2]!);
      memory.bytesOf(iovecs[3 * n]!).set(piece, offset);
      at += piece.length;
    }
    return at;
  }

  /** Gives the chain back with `written` bytes in it. */
  complete(written: number): void {
    this.queue.take(1);
    this.queue.pushUsed(this.head, written);
  }

  private runAgain(): void {
    this.again = undefined;
    this.run();
  }

  private stopBroken(): void {
    this.stop();
    this.broke(BROKEN_REASONS[this.queue.broken]!);
  }
}
