/**
 * A thread's io_uring(7) as TypeScript sees it: entries are written to the exchange and submitted together, completions
 * come back there. Offsets are those of `struct io_uring_sqe` and `struct io_uring_cqe`, in 32-bit words.
 */
import type { Addon } from '../../src/native/addon.js';

/** Entries that one system call submits at most; a full exchange is submitted early. */
const ENTRIES = 256;
const SQE_WORDS = 16;
/** Words of a completion. */
export const CQE_WORDS = 4;

const OP_POLL_ADD = 6;
const OP_ASYNC_CANCEL = 14;
const EBUSY = 16;

export class UringRing {
  /** [user data low, high, result, flags] of each completion that the last `enter` fetched. */
  readonly completions: Int32Array;
  /** Entries that wait to be submitted. */
  private staged = 0;
  private readonly entries: Int32Array;
  private readonly calls: Uint32Array;
  private readonly region: number;

  /** @throws {Error} with `code`, where the kernel has no io_uring for us */
  constructor(
    private readonly addon: Addon,
    capacity: number,
  ) {
    const completionsAt = ENTRIES * SQE_WORDS * 4;
    const callsAt = completionsAt + capacity * CQE_WORDS * 4;
    const { region, buffer } = addon.createRegion(callsAt + 4);
    this.region = region;
    this.entries = new Int32Array(buffer, 0, ENTRIES * SQE_WORDS);
    this.completions = new Int32Array(buffer, completionsAt, capacity * CQE_WORDS);
    this.calls = new Uint32Array(buffer, callsAt, 1);
    try {
      addon.uringCreate(region, ENTRIES, capacity);
    } catch (error) {
      addon.unmapRegion(region);
      throw error;
    }
  }

  /** System calls so far. */
  get systemCalls(): number {
    return this.calls[0]!;
  }

  /** Reports each new readiness of `fd` by a completion with this user data, until cancelled. */
  poll(fd: number, events: number, low: number, high: number): void {
    const at = this.entry(OP_POLL_ADD, fd, low, high);
    this.entries[at + 7] = events;
  }

  /** Cancels the poll with this user data, which completes once more. If there is none, this completes instead, with user data 0. */
  cancel(low: number, high: number): void {
    const at = this.entry(OP_ASYNC_CANCEL, -1, 0, 0);
    this.entries[at + 4] = low;
    this.entries[at + 5] = high;
  }

  /** Begins an entry. Returns its place. */
  private entry(opcode: number, fd: number, low: number, high: number): number {
    if (this.staged === ENTRIES) this.submit();
    const at = SQE_WORDS * this.staged++;
    const { entries } = this;
    entries[at] = opcode;
    entries[at + 1] = fd;
    entries[at + 8] = low;
    entries[at + 9] = high;
    return at;
  }

  private submit(): void {
    const result = this.addon.uringSubmit(this.staged);
    if (result < 0) throw ringError(result);
    this.staged = 0;
  }

  /** Submits, and waits for `least` completions, at most `timeout` ms (-1: for ever). Returns their number. */
  enter(least: number, timeout: number): number {
    const count = this.addon.uringEnter(this.staged, least, timeout);
    // The kernel's ring is full: it empties while completions are fetched, and takes the rest the next time.
    if (count === -EBUSY) return this.addon.uringEnter(0, 0, 0);
    if (count < 0) throw ringError(count);
    this.staged = 0;
    return count;
  }

  end(): void {
    if (this.staged > 0) this.submit();
    this.addon.uringClose();
    this.addon.unmapRegion(this.region);
  }
}

/** A ring that fails has lost completions (EBADR) or was misused: the worker ends, and its successor watches everything anew. */
function ringError(result: number): Error {
  return new Error(`the io_uring failed with errno ${-result}; its worker can't go on with it`);
}
