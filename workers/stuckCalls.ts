/**
 * Calls workers back from the one system call that a front end can make last for ever: the write to a call eventfd that
 * it has filled and, after we had made it non-blocking, made blocking again. The kernel knows no write to an eventfd that
 * can't wait (RWF_NOWAIT is refused), and a look before each would cost a call and leave a gap; so the main thread looks
 * whether workers move, and interrupts the one that doesn't.
 */
import type { Addon } from '../src/native/addon.js';
import { HEARTBEAT, SLEEPING, THREAD, WORKER_WORDS } from './poolMemory.js';

/** Between two looks, ms: the write ends after one to two of these. */
const LOOK_MS = 250;

export class StuckCalls {
  private readonly beats: Int32Array;
  private readonly timer: NodeJS.Timeout;

  /** @param words the workers' words, of `workers` workers */
  constructor(
    private readonly addon: Addon,
    private readonly words: Int32Array,
    private readonly workers: number,
  ) {
    this.beats = new Int32Array(workers).fill(-1);
    this.timer = setInterval(() => this.look(), LOOK_MS).unref();
  }

  close(): void {
    clearInterval(this.timer);
  }

  /** A worker that is awake and hasn't begun a new cycle since the last look is interrupted: it does no harm if it was busy. */
  private look(): void {
    for (let worker = 0; worker < this.workers; worker++) {
      const at = worker * WORKER_WORDS;
      const beat = Atomics.load(this.words, at + HEARTBEAT);
      const asleep = Atomics.load(this.words, at + SLEEPING) === 1;
      const thread = Atomics.load(this.words, at + THREAD);
      if (!asleep && beat === this.beats[worker] && thread !== 0) this.addon.interruptThread(thread);
      this.beats[worker] = beat;
    }
  }
}
