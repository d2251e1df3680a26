/** The warm-up in this thread, with either engine: it does the worker's work, and leaves nothing of it. */
import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { addon } from '../../../src/native/addon.js';
import { DEFAULT_ADDRESSES } from '../../../workers/nat/addresses.js';
import { DEFAULT_TCP_TIMES, DEFAULT_UDP_TIMES } from '../../../workers/nat/settings.js';
import { PollWorker } from '../../../workers/pollWorker.js';
import { createPoolMemory } from '../../../workers/poolMemory.js';
import { warmUp } from '../../../workers/warmUp/warmUp.js';
import { ENGINES } from '../engine/engines.js';
import type { EngineName } from '../../../workers/engine/engine.js';

/** So long that only what the test wants ends it. */
const FOR_EVER = 60_000;
const nothing = (): boolean => false;

class Fixture implements Disposable {
  readonly fds = [addon.epollCreate(), addon.eventfdCreate()] as const;
  readonly memory = createPoolMemory({ workers: 1, devices: 1, pairs: 1, flows: 16 }, 7);
  readonly worker: PollWorker;

  constructor(engine: EngineName) {
    this.worker = new PollWorker(addon, {
      worker: 0,
      memory: this.memory,
      engine,
      epoll: this.fds[0],
      wakeFds: [this.fds[1]],
      addresses: DEFAULT_ADDRESSES,
      allowHostLoopback: false,
      times: DEFAULT_TCP_TIMES,
      udpTimes: DEFAULT_UDP_TIMES,
      resolver: new Int32Array(1),
      peekOffset: addon.probePeekOffset(),
      mostReceiveBuffer: 0,
      seed: 7,
    });
  }

  [Symbol.dispose](): void {
    this.worker.engine.end();
    for (const fd of this.fds) addon.close(fd);
  }
}

/** Digests of all of its shared memory. */
function everything({ memory }: Fixture): string[] {
  const shared = [memory.workerWords, memory.queues, memory.net, memory.directory];
  const perWorker = [memory.shards, memory.held, memory.counters, memory.outstanding, memory.handoff].flat();
  return [...shared, ...perWorker].map((buffer) => createHash('sha1').update(new Uint8Array(buffer)).digest('hex'));
}

const openFiles = (): number => readdirSync('/proc/self/fd').length;

describe.each(ENGINES)('warmUp, %s', (engine) => {
  it('takes connections to their end, small and large', () => {
    using fixture = new Fixture(engine);
    const limits = { milliseconds: FOR_EVER, connections: 100 };
    expect(warmUp(addon, fixture.worker, nothing, nothing, limits)).toBeGreaterThanOrEqual(100);
  });

  it("leaves the worker's memory, counters and descriptors as they were", () => {
    using fixture = new Fixture(engine);
    const [before, files] = [everything(fixture), openFiles()];
    warmUp(addon, fixture.worker, nothing, nothing, { milliseconds: FOR_EVER, connections: 50 });
    expect(everything(fixture)).toEqual(before);
    expect(openFiles()).toBe(files);
  });

  it('leaves the engine to the worker: it is woken, and counts for it', () => {
    using fixture = new Fixture(engine);
    const own = fixture.worker.engine;
    warmUp(addon, fixture.worker, nothing, nothing, { milliseconds: FOR_EVER, connections: 20 });
    own.wait(0);
    expect(own.wait(0)).toBe(0);
    own.signal(fixture.fds[1]);
    expect(own.wait(FOR_EVER)).toBe(1);
    expect(own.events[0]).toBe(-1);
    expect(fixture.worker.counters.some((count) => count > 0)).toBe(true);
  });

  it('handles control messages meanwhile, and ends when one ends the worker', () => {
    using fixture = new Fixture(engine);
    const { worker } = fixture;
    let handled = 0;
    const control = (): boolean => {
      worker.ended = ++handled === 30;
      return worker.ended;
    };
    warmUp(addon, worker, control, nothing, { milliseconds: FOR_EVER, connections: FOR_EVER });
    expect(handled).toBe(30);
  });
});
