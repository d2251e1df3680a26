/** Both engines, for tests that hold for either. */
import { addon } from '../../../src/native/addon.js';
import { COUNTER_NAMES } from '../../../workers/counters.js';
import { probeUring } from '../../../workers/engine/chooseEngine.js';
import { type Engine, type EngineName, EVENT_WORDS } from '../../../workers/engine/engine.js';
import { EpollEngine } from '../../../workers/engine/epollEngine.js';
import { UringEngine } from '../../../workers/engine/uringEngine.js';
import { bindScratch } from '../../native/support.js';

/** Engines that this kernel has. */
export const ENGINES: readonly EngineName[] = probeUring() === undefined ? ['epoll', 'uring'] : ['epoll'];

export interface Event {
  readonly token: number;
  readonly generation: number;
  readonly bits: number;
}

/** Bytes of the region that iovecs of tests point to. */
const REGION_BYTES = 65_536;

/** An engine with scratch of its own; one at a time. */
export class EngineUnderTest {
  readonly engine: Engine;
  readonly counters = new Float64Array(COUNTER_NAMES.length);
  private readonly region = addon.createRegion(REGION_BYTES);
  private readonly epoll = addon.epollCreate();
  private readonly iovecs: Uint32Array;

  /** @param capacity events of one wait */
  constructor(name: EngineName, capacity = 512) {
    const { iovecs, events, clock } = bindScratch(capacity);
    this.iovecs = iovecs;
    this.engine =
      name === 'uring'
        ? new UringEngine(addon, this.counters, events, clock)
        : new EpollEngine(addon, this.counters, events, clock, this.epoll);
    if (events.length !== EVENT_WORDS * capacity) throw new Error('the scratch has another size');
  }

  /** Events of one wait. */
  wait(timeout: number): Event[] {
    const { events } = this.engine;
    const count = this.engine.wait(timeout);
    return Array.from({ length: count }, (_, n) => ({
      token: events[EVENT_WORDS * n]!,
      generation: events[EVENT_WORDS * n + 1]!,
      bits: events[EVENT_WORDS * n + 2]!,
    }));
  }

  /** Sends text on a socket. */
  send(fd: number, text: string): number {
    new TextEncoder().encodeInto(text, new Uint8Array(this.region.buffer));
    this.iovecs.set([this.region.region, 0, text.length]);
    return this.engine.send(fd, 0, 1);
  }

  /** Peeks at up to `length` bytes: text, or -errno. */
  peek(fd: number, length: number): string | number {
    this.iovecs.set([this.region.region, 0, length]);
    const bytes = this.engine.peek(fd, 0, 1);
    return bytes < 0 ? bytes : Buffer.from(this.region.buffer, 0, bytes).toString('latin1');
  }

  end(): void {
    this.engine.end();
    addon.close(this.epoll);
    addon.unmapRegion(this.region.region);
  }
}
