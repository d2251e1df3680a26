/**
 * Tells when all other workers have begun a new cycle: what they did before they could see a change is then published, and
 * what they do from then on obeys it.
 */
import type { Engine } from './engine/engine.js';
import { HEARTBEAT, type PoolMemory, WORKER_WORDS } from './poolMemory.js';

export class CycleBarrier {
  private readonly words: Int32Array;
  /** Each worker's heartbeat when the barrier was raised. */
  private readonly raised: Int32Array;

  /**
   * @param worker the one that asks
   * @param wakeFds the workers' wake eventfds
   */
  constructor(
    private readonly worker: number,
    memory: Pick<PoolMemory, 'workers' | 'workerWords'>,
    private readonly engine: Pick<Engine, 'signal'>,
    private readonly wakeFds: readonly number[],
  ) {
    this.words = new Int32Array(memory.workerWords);
    this.raised = new Int32Array(memory.workers);
  }

  /** Call it once the change can be seen. Wakes the workers that sleep. */
  raise(): void {
    for (let other = 0; other < this.raised.length; other++) {
      this.raised[other] = this.heartbeat(other);
      if (other !== this.worker) this.engine.signal(this.wakeFds[other]!);
    }
  }

  /** Whether all others have begun a cycle since `raise`. */
  get passed(): boolean {
    for (let other = 0; other < this.raised.length; other++) {
      if (other !== this.worker && this.raised[other] === this.heartbeat(other)) return false;
    }
    return true;
  }

  private heartbeat(worker: number): number {
    return Atomics.load(this.words, worker * WORKER_WORDS + HEARTBEAT);
  }
}
