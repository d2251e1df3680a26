/**
 * Makes V8 compile the way of packets before there are any: a guest's first connections took twice as long as later ones. A
 * worker of its own, over memory of its own, serves a guest that lives in this thread, by sockets that lead nowhere; of the
 * real worker it borrows the engine, while that watches nothing else. What it leaves is compiled code.
 */
import { DEVICE_FEATURES } from '../../device/features.js';
import type { Addon } from '../../src/native/addon.js';
import { IOVECS } from '../deviceView.js';
import { PollWorker } from '../pollWorker.js';
import { type PoolMemory, createPoolMemory } from '../poolMemory.js';
import { restoreDevice } from '../snapshot.js';
import { ScratchGuest } from './scratchGuest.js';
import { ScratchRings } from './scratchRings.js';
import { SocketPairs } from './socketPairs.js';

/** It ends after so many milliseconds, or connections; more were measured to gain nothing. */
const LIMITS = { milliseconds: 250, connections: 4_000 };
const FLOWS = 64;
/** At a time. */
const CONNECTIONS = 8;
const FEATURES = [Number(BigInt.asIntN(32, DEVICE_FEATURES)), Number(DEVICE_FEATURES >> 32n)] as const;

/**
 * Runs until it has enough, a device's queues run, or the worker is to end.
 * @param worker a new one
 * @param control handles the worker's control messages, as its cycles do
 * @returns the number of connections; something went wrong, and it ended early, where that is 0
 */
export function warmUp(
  addon: Addon,
  worker: PollWorker,
  control: () => boolean,
  controlPending: () => boolean,
  limits = LIMITS,
): number {
  const { thread } = worker;
  forgetIntactBuffers(addon);
  const sockets = new SocketPairs(addon, thread.iovecs, IOVECS - 1);
  const { fd, windows } = ScratchRings.windows(addon);
  // One eventfd is all: kicks, interrupts, and the wake-up of a worker that never sleeps.
  const eventFd = addon.eventfdCreate();
  const settings = scratchSettings(worker, eventFd);
  thread.engine.redirect(sockets.addon, new Float64Array(settings.memory.counters[0]!));
  const scratch = new PollWorker(addon, settings, thread);
  try {
    const { mtu } = settings.addresses;
    const queues = ScratchRings.queues([eventFd, eventFd], eventFd);
    restoreDevice(scratch, { device: 0, pairs: 1, mtu, features: FEATURES, windows, queues });
    scratch.queuesChanged();
    const guest = new ScratchGuest(new ScratchRings(scratch.devices[0]!.memory), CONNECTIONS);
    const broken = (): void => guest.fail();
    const { clock } = thread;
    const start = clock[0]!;
    while (((clock[0]! - start) | 0) < limits.milliseconds && guest.connections < limits.connections) {
      if (guest.failed || worker.serving || worker.ended) break;
      guest.run();
      sockets.answer();
      addon.eventfdSignal(eventFd);
      scratch.cycle(control, controlPending, broken);
    }
    return guest.connections;
  } finally {
    scratch.dropFlows(0);
    thread.engine.unwatch(eventFd);
    thread.engine.redirect(addon, worker.counters);
    scratch.devices[0]?.memory.clear();
    sockets.close();
    addon.close(eventFd);
    addon.close(fd);
    // So that the worker's list of queues is made where the scratch worker's was: to V8, only then they are of a kind.
    worker.queuesChanged();
  }
}

/**
 * Code that V8 compiles while no ArrayBuffer was ever detached relies on that, and is thrown away, all at once, when the first
 * guest's memory is unmapped: it had better not rely on it from the start.
 */
function forgetIntactBuffers(addon: Addon): void {
  addon.unmapRegion(addon.createRegion(1).region);
}

/** As the worker's, to V8 too: objects that come to a thread by message are made otherwise than by a literal. */
function scratchSettings(worker: PollWorker, eventFd: number): PollWorker['settings'] {
  const { memory } = worker.settings;
  // Two stand for any number of workers: what one alone never does must be compiled where there are several.
  const workers = Math.min(memory.workers, 2);
  const dimensions = { workers, devices: 1, pairs: 1, flows: FLOWS, timing: memory.stages.length > 0 };
  const scratch: PoolMemory = structuredClone(createPoolMemory(dimensions, memory.seed));
  const wakeFds = Array.from({ length: workers }, () => eventFd);
  return { ...worker.settings, memory: scratch, worker: 0, wakeFds };
}
