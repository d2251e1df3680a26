/**
 * A thread's io_uring(7) as TypeScript sees it: entries are written to the exchange and submitted together, completions
 * come back there. Offsets are those of `struct io_uring_sqe` and `struct io_uring_cqe`, in 32-bit words.
 */
import type { Addon } from '../../src/native/addon.js';

/** Entries that one system call submits at most; a full exchange is submitted early. */
const ENTRIES = 256;
const SQE_WORDS = 16;
const CQE_WORDS = 4;

const OP_POLL_ADD = 6;
const OP_ASYNC_CANCEL = 14;
const OP_CONNECT = 16;
const OP_CLOSE = 19;
const OP_WRITE = 23;
const OP_RECV = 27;

const IO_LINK = 1 << 2;
const CQE_SKIP_SUCCESS = 1 << 6;
const AF_INET = 2;
const SOCKADDR_BYTES = 16;
const EBUSY = 16;

/** High word of the user data of operations whose completion, a failure, says nothing. */
const UNHEARD = -0x80000000;

export class UringRing {
  /** [user data low, high, result, flags] of each completion that the last `enter` fetched. */
  readonly completions: Int32Array;
  /** Counts submissions: entries of the batch of now aren't submitted yet. */
  batch = 1;
  /** Entries that wait to be submitted. */
  private staged = 0;
  private readonly entries: Int32Array;
  private readonly calls: Uint32Array;
  /** Addresses that entries point to: one sockaddr_in for each, then the eventfd's 1. */
  private readonly addresses: DataView;
  private readonly region: number;
  private readonly addressesAt: number;

  /** @throws {Error} with `code`, where the kernel has no io_uring for us */
  constructor(
    private readonly addon: Addon,
    capacity: number,
  ) {
    const completionsAt = ENTRIES * SQE_WORDS * 4;
    const callsAt = completionsAt + capacity * CQE_WORDS * 4;
    this.addressesAt = callsAt + 8;
    const oneAt = this.addressesAt + ENTRIES * SOCKADDR_BYTES;
    const { region, buffer } = addon.createRegion(oneAt + 8);
    this.region = region;
    this.entries = new Int32Array(buffer, 0, ENTRIES * SQE_WORDS);
    this.completions = new Int32Array(buffer, completionsAt, capacity * CQE_WORDS);
    this.calls = new Uint32Array(buffer, callsAt, 1);
    this.addresses = new DataView(buffer, this.addressesAt);
    this.addresses.setBigUint64(ENTRIES * SOCKADDR_BYTES, 1n, true);
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

  /** Cancels the operation with this user data, which completes then. */
  cancel(low: number, high: number): void {
    const at = this.entry(OP_ASYNC_CANCEL | (CQE_SKIP_SUCCESS << 8), -1, 0, UNHEARD);
    this.entries[at + 4] = low;
    this.entries[at + 5] = high;
  }

  close(fd: number): void {
    this.entry(OP_CLOSE | (CQE_SKIP_SUCCESS << 8), fd, 0, UNHEARD);
  }

  /** Takes `length` bytes off a socket's receive queue unread. */
  discard(fd: number, length: number): void {
    const at = this.entry(OP_RECV | (CQE_SKIP_SUCCESS << 8), fd, 0, UNHEARD);
    this.entries[at + 6] = length;
  }

  /** Adds 1 to an eventfd. */
  signal(fd: number): void {
    const at = this.entry(OP_WRITE | (CQE_SKIP_SUCCESS << 8), fd, 0, UNHEARD);
    this.entries[at + 4] = this.addressesAt + ENTRIES * SOCKADDR_BYTES;
    this.entries[at + 5] = this.region;
    this.entries[at + 6] = 8;
  }

  /** Connects, and only then goes on with the next entry; completes only if that fails. */
  connect(fd: number, address: number, port: number, low: number, high: number): void {
    const at = this.entry(OP_CONNECT | ((IO_LINK | CQE_SKIP_SUCCESS) << 8), fd, low, high);
    const place = (at / SQE_WORDS) * SOCKADDR_BYTES;
    this.addresses.setUint16(place, AF_INET, true);
    this.addresses.setUint16(place + 2, port);
    this.addresses.setUint32(place + 4, address);
    this.entries[at + 2] = SOCKADDR_BYTES;
    this.entries[at + 3] = 0;
    this.entries[at + 4] = this.addressesAt + place;
    this.entries[at + 5] = this.region;
  }

  /** Begins an entry: `operation` is opcode | flags << 8. Returns its place. */
  private entry(operation: number, fd: number, low: number, high: number): number {
    if (this.staged === ENTRIES) this.submit();
    const at = SQE_WORDS * this.staged++;
    const { entries } = this;
    entries[at] = operation;
    entries[at + 1] = fd;
    entries[at + 8] = low;
    entries[at + 9] = high;
    return at;
  }

  /** Has the kernel do what is staged, now. */
  submit(): void {
    const result = this.addon.uringSubmit(this.staged);
    if (result < 0) throw ringError(result);
    this.staged = 0;
    this.batch++;
  }

  /** Submits, and waits for `least` completions, at most `timeout` ms (-1: for ever). Returns their number. */
  enter(least: number, timeout: number): number {
    let count = this.addon.uringEnter(this.staged, least, timeout);
    // The kernel's ring is full: it empties while completions are fetched, and takes the rest the next time.
    if (count === -EBUSY) return this.addon.uringEnter(0, 0, 0);
    if (count < 0) throw ringError(count);
    this.staged = 0;
    this.batch++;
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
