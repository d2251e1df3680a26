/** What a thread of the pool runs: one poll worker, until it is told to end. */
import { addon } from '../src/native/addon.js';
import { Control } from './control.js';
import type { EngineName } from './engine/engine.js';
import type { NatSettings } from './nat/settings.js';
import { PollWorker } from './pollWorker.js';
import { THREAD, WORKER_WORDS } from './poolMemory.js';
import type { PoolMemory } from './poolMemory.js';
import type { DeviceSnapshot } from './snapshot.js';
import { restoreDevice } from './snapshot.js';
import { warmUp } from './warmUp/warmUp.js';

export interface WorkerTask {
  readonly worker: number;
  readonly memory: PoolMemory;
  readonly nat: NatSettings;
  readonly engine: EngineName;
  readonly epoll: number;
  readonly eventFd: number;
  readonly wakeFds: readonly number[];
  /** The CPU to run on; -1: any. */
  readonly cpu: number;
  /** Set when a predecessor died: the devices as they stand. */
  readonly takeOver: readonly DeviceSnapshot[] | undefined;
}

/** Piscina's entry: runs until the worker is told to stop. Rejects when the worker throws. */
export default function run(task: WorkerTask): void {
  if (task.cpu >= 0) addon.setAffinity([task.cpu]);
  Atomics.store(new Int32Array(task.memory.workerWords), task.worker * WORKER_WORDS + THREAD, addon.threadId());
  const worker = new PollWorker(addon, { ...task.nat, ...task });
  const control = new Control(worker, task.memory, task.worker, task.eventFd);
  const handle = (): boolean => control.handle();
  const pending = (): boolean => control.pending;
  try {
    if (task.takeOver === undefined) warmUp(addon, worker, handle, pending);
    else {
      for (const device of task.takeOver) restoreDevice(worker, device, control.broken);
      worker.queuesChanged();
      worker.takeOver();
    }
    while (!worker.ended) worker.cycle(handle, pending, control.broken);
  } finally {
    // Flows and packets that were staged for other workers are nowhere else any more.
    worker.handoff.flush();
    worker.engine.end();
    for (const device of worker.devices) device?.memory.clear();
  }
}
