/**
 * The engine on io_uring(7): readiness by multishot polls, which are armed, cancelled and waited for by one system call per
 * cycle. All else is plain calls: the NAT needs the results of send and peek at once, shutdown(2) would go to a thread of
 * the kernel's, and connect, close, discards and eventfds were measured to gain nothing or too little in a ring.
 */
import type { Addon } from '../../src/native/addon.js';
import { C, type Counters } from '../counters.js';
import { EPOLLIN, EPOLLOUT, EPOLLRDHUP, EVENT_WORDS, type Engine } from './engine.js';
import { SocketCalls } from './socketCalls.js';
import { CQE_WORDS, UringRing } from './uringRing.js';

const SOCKET_EVENTS = EPOLLIN | EPOLLOUT | EPOLLRDHUP;
const INPUT_EVENTS = EPOLLIN;
/** More completions of this poll will come. */
const CQE_F_MORE = 1 << 1;
const ENOMEM = 12;

/**
 * What is watched, by descriptor: token, generation, serial number of its poll (0: none), events. A poll's user data are
 * descriptor and serial number, so that completions of earlier polls of the same descriptor, or number, are known.
 */
const WATCH_WORDS = 4;
const TOKEN = 0;
const GENERATION = 1;
const SERIAL = 2;
const EVENTS = 3;
const FIRST_DESCRIPTORS = 1024;
const MAX_SERIAL = 0x7fffffff;

export class UringEngine extends SocketCalls implements Engine {
  private readonly ring: UringRing;
  private watches = new Int32Array(WATCH_WORDS * FIRST_DESCRIPTORS);
  private lastSerial = 0;
  /** Polls being cancelled, each of which completes once more. */
  private cancelled = 0;
  /** System calls of the ring that are counted already. */
  private counted = 0;

  /**
   * @param addon with its scratch bound to `clock`
   * @throws {Error} with `code`, where the kernel has no io_uring for us
   */
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

  /** Turns a completion into an event. False for those of polls that were cancelled. */
  private completed(at: number, event: number): boolean {
    const { completions } = this.ring;
    const fd = completions[at]!;
    const result = completions[at + 2]!;
    const w = WATCH_WORDS * fd;
    const serial = completions[at + 1]!;
    if (serial === 0 || this.watches[w + SERIAL] !== serial) return false;
    if ((completions[at + 3]! & CQE_F_MORE) === 0) this.ended(fd, result);
    if (result < 0) return false;
    this.events[event] = this.watches[w + TOKEN]!;
    this.events[event + 1] = this.watches[w + GENERATION]!;
    this.events[event + 2] = result;
    return true;
  }

  /** A poll ended by itself: it begins anew if the kernel was but short of memory. Other failures say that this is no descriptor to watch. */
  private ended(fd: number, result: number): void {
    if (result >= 0 || result === -ENOMEM) this.poll(fd);
    else this.watches[WATCH_WORDS * fd + SERIAL] = 0;
  }

  watchSocket(fd: number, token: number, generation: number): number {
    return this.watch(fd, token, generation, SOCKET_EVENTS);
  }

  watchDatagrams(fd: number, token: number, generation: number): number {
    return this.watch(fd, token, generation, INPUT_EVENTS);
  }

  watchEventfd(fd: number, token: number, generation: number): number {
    return this.watch(fd, token, generation, INPUT_EVENTS);
  }

  private watch(fd: number, token: number, generation: number, events: number): number {
    if (WATCH_WORDS * fd >= this.watches.length) this.grow(fd);
    const w = WATCH_WORDS * fd;
    this.watches[w + TOKEN] = token;
    this.watches[w + GENERATION] = generation;
    this.watches[w + EVENTS] = events;
    this.poll(fd);
    return 0;
  }

  private poll(fd: number): void {
    const w = WATCH_WORDS * fd;
    this.lastSerial = (this.lastSerial % MAX_SERIAL) + 1;
    this.watches[w + SERIAL] = this.lastSerial;
    this.counters[C.ringOperations]!++;
    this.ring.poll(fd, this.watches[w + EVENTS]!, fd, this.lastSerial);
  }

  private grow(fd: number): void {
    const watches = new Int32Array(WATCH_WORDS * 2 * (fd + 1));
    watches.set(this.watches);
    this.watches = watches;
  }

  unwatch(fd: number): number {
    const w = WATCH_WORDS * fd;
    const serial = this.watches[w + SERIAL] ?? 0;
    if (serial === 0) return 0;
    this.watches[w + SERIAL] = 0;
    this.cancelled++;
    this.counters[C.ringOperations]!++;
    this.ring.cancel(fd, serial);
    return 0;
  }

  /** The poll keeps the file open: the peer learns of the end when the next `wait` has cancelled it. */
  override close(fd: number): number {
    this.unwatch(fd);
    return super.close(fd);
  }

  override abort(fd: number): number {
    this.unwatch(fd);
    return super.abort(fd);
  }

  end(): void {
    this.ring.end();
  }
}
