/** What a thread has only once, whichever worker runs in it: the addon's scratch, and an engine over it. */
import type { Addon } from '../src/native/addon.js';
import type { Counters } from './counters.js';
import { IOVECS } from './deviceView.js';
import { EVENT_WORDS, type EngineName } from './engine/engine.js';
import { EpollEngine } from './engine/epollEngine.js';
import { UringEngine } from './engine/uringEngine.js';

const MAX_EVENTS = 512;
/** Bytes in flight that a kernel without SO_PEEK_OFF may have to read past: the largest window of RFC 7323. */
const DISCARD_BYTES = 1 << 30;

export class WorkerThread {
  /** Scratch of [region, offset, length] triples. */
  readonly iovecs = new Uint32Array(new SharedArrayBuffer(12 * IOVECS));
  /** See `Addon.bindScratch`. */
  readonly clock = new Int32Array(new SharedArrayBuffer(12));
  readonly engine: EpollEngine | UringEngine;
  /** A region that takes bytes nobody wants, as long as the largest window; -1 where SO_PEEK_OFF does without. */
  readonly discardRegion: number;

  /** @param counters where the engine counts */
  constructor(
    readonly addon: Addon,
    { engine, epoll, peekOffset }: { engine: EngineName; epoll: number; peekOffset: boolean },
    counters: Counters,
  ) {
    const events = new Int32Array(new SharedArrayBuffer(4 * EVENT_WORDS * MAX_EVENTS));
    const { iovecs, clock } = this;
    addon.bindScratch(iovecs, events, clock);
    addon.readClock();
    this.engine =
      engine === 'uring'
        ? new UringEngine(addon, counters, events, clock)
        : new EpollEngine(addon, counters, events, clock, epoll);
    this.discardRegion = peekOffset ? -1 : addon.createRegion(DISCARD_BYTES).region;
  }
}
