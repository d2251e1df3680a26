/** The engine on io_uring(7): readiness by multishot polls, and one system call per cycle for all that can wait until then. */
import type { Addon } from '../../src/native/addon.js';
import { C, type Counters } from '../counters.js';
import { CONNECT_FAILED, EPOLLERR, EPOLLIN, EPOLLOUT, EPOLLRDHUP, EVENT_WORDS, type Engine } from './engine.js';
import { SocketCalls } from './socketCalls.js';
import { UringRing } from './uringRing.js';

const SOCKET_EVENTS = EPOLLIN | EPOLLOUT | EPOLLRDHUP;
/** More completions of this operation will come. */
const CQE_F_MORE = 1 << 1;
const CQE_WORDS = 4;

/**
 * What is watched, by descriptor: token, generation, serial number of the poll (0: none), and the last batch that holds an
 * operation on the descriptor. A poll's user data are the descriptor and the serial number, so that completions of earlier ones are known.
 */
const WATCH_WORDS = 4;
const TOKEN = 0;
const GENERATION = 1;
const SERIAL = 2;
const BATCH = 3;
const FIRST_DESCRIPTORS = 1024;
const MAX_SERIAL = 0x3fffffff;

const OPS = new Set((process.env['URING_OPS'] ?? '').split(','));
const USE_CLOSE = OPS.has('close');
const USE_DISCARD = OPS.has('discard');
const USE_SIGNAL = OPS.has('signal');
const USE_CONNECT = OPS.has('connect');

export class UringEngine extends SocketCalls implements Engine {
  private readonly ring: UringRing;
  private watches = new Int32Array(WATCH_WORDS * FIRST_DESCRIPTORS);
  private lastSerial = 0;
  /** Polls being cancelled, each of which completes once more. */
  private cancelled = 0;
  /** System calls of the ring that are counted already. */
  private counted = 0;

  /** @throws {Error} with `code`, where the kernel has no io_uring for us */
  constructor(
    addon: Addon,
    counters: Counters,
    readonly events: Int32Array,
    readonly clock: Int32Array,
  ) {
    super(addon, counters);
    this.ring = new UringRing(addon, events.length / EVENT_WORDS);
  }

  wait(timeout: number): number {
    // Nobody waits for the completions of cancelled polls: the wait is for one more than those.
    const count = this.ring.enter(timeout === 0 ? 0 : 1 + this.cancelled, timeout);
    this.cancelled = 0;
    this.counters[C.waitCalls]! += (this.ring.systemCalls - this.counted) >>> 0;
    this.counted = this.ring.systemCalls;
    let events = 0;
    for (let n = 0; n < count; n++) if (this.completed(CQE_WORDS * n, EVENT_WORDS * events)) events++;
    return events;
  }

  /** Turns a completion into an event. False for those that are none. */
  private completed(at: number, event: number): boolean {
    const { completions } = this.ring;
    const fd = completions[at]!;
    const serial = completions[at + 1]!;
    const result = completions[at + 2]!;
    const w = WATCH_WORDS * fd;
    const failed = serial < 0;
    if (this.watches[w + SERIAL] !== (failed ? -serial : serial)) return false;
    if (!failed && (completions[at + 3]! & CQE_F_MORE) === 0) this.poll(fd, this.watches[w + TOKEN]!);
    if (!failed && result < 0) return false;
    this.events[event] = this.watches[w + TOKEN]!;
    this.events[event + 1] = this.watches[w + GENERATION]!;
    this.events[event + 2] = failed ? EPOLLERR | CONNECT_FAILED : result;
    return true;
  }

  watchSocket(fd: number, token: number, generation: number): number {
    return this.watch(fd, token, generation);
  }

  watchEventfd(fd: number, token: number, generation: number): number {
    return this.watch(fd, token, generation);
  }

  private watch(fd: number, token: number, generation: number): number {
    if (WATCH_WORDS * fd >= this.watches.length) this.grow(fd);
    const w = WATCH_WORDS * fd;
    this.watches[w + TOKEN] = token;
    this.watches[w + GENERATION] = generation;
    this.poll(fd, token);
    return 0;
  }

  private poll(fd: number, token: number): void {
    this.lastSerial = (this.lastSerial % MAX_SERIAL) + 1;
    this.watches[WATCH_WORDS * fd + SERIAL] = this.lastSerial;
    this.counters[C.ringOperations]!++;
    this.ring.poll(fd, token < 0 ? EPOLLIN : SOCKET_EVENTS, fd, this.lastSerial);
  }

  private grow(fd: number): void {
    const watches = new Int32Array(WATCH_WORDS * 2 * (fd + 1));
    watches.set(this.watches);
    this.watches = watches;
  }

  unwatch(fd: number): number {
    this.settle(fd);
    const w = WATCH_WORDS * fd;
    const serial = this.watches[w + SERIAL];
    if (serial === undefined || serial === 0) return 0;
    this.watches[w + SERIAL] = 0;
    this.cancelled++;
    this.counters[C.ringOperations]!++;
    this.ring.cancel(fd, serial);
    return 0;
  }

  /** Has done what waits to be done on the descriptor, before a plain call on it. */
  private settle(fd: number): void {
    if (USE_DISCARD && this.watches[WATCH_WORDS * fd + BATCH] === this.ring.batch) this.ring.submit();
  }

  override signal(fd: number): number {
    if (!USE_SIGNAL) return super.signal(fd);
    this.counters[C.ringOperations]!++;
    this.ring.signal(fd);
    return 0;
  }

  override connect(fd: number, address: number, port: number): number {
    if (!USE_CONNECT) return super.connect(fd, address, port);
    this.counters[C.ringOperations]!++;
    this.ring.connect(fd, address, port, fd, -((this.lastSerial % MAX_SERIAL) + 1));
    return 0;
  }

  override peek(fd: number, first: number, count: number): number {
    this.settle(fd);
    return super.peek(fd, first, count);
  }

  override setPeekOffset(fd: number, offset: number): number {
    this.settle(fd);
    return super.setPeekOffset(fd, offset);
  }

  override discard(fd: number, length: number): number {
    if (!USE_DISCARD) return super.discard(fd, length);
    this.counters[C.ringOperations]!++;
    this.watches[WATCH_WORDS * fd + BATCH] = this.ring.batch;
    this.ring.discard(fd, length);
    return 0;
  }

  override close(fd: number): number {
    if (!USE_CLOSE) {
      this.unwatch(fd);
      return super.close(fd);
    }
    const w = WATCH_WORDS * fd;
    const serial = this.watches[w + SERIAL] ?? 0;
    if (serial !== 0) {
      this.watches[w + SERIAL] = 0;
      this.cancelled++;
      this.counters[C.ringOperations]!++;
      if (USE_CONNECT) this.ring.cancel(fd, -serial);
      this.ring.cancel(fd, serial);
    }
    this.counters[C.ringOperations]!++;
    this.ring.close(fd);
    return 0;
  }

  override abort(fd: number): number {
    this.unwatch(fd);
    return super.abort(fd);
  }

  end(): void {
    this.ring.end();
  }
}
