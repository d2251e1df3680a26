/** A device's set-up in one worker: what its successor starts from. */
import type { MemoryWindow } from '../device/guestMemory.js';
import type { VirtqueueSetup } from '../device/dataPlane.js';
import type { PollWorker } from './pollWorker.js';

export interface QueueSnapshot {
  readonly index: number;
  readonly setup: VirtqueueSetup;
  readonly enabled: boolean;
}

export interface DeviceSnapshot {
  readonly device: number;
  readonly pairs: number;
  readonly mtu: number;
  /** Feature words. */
  readonly features: readonly [low: number, high: number];
  readonly windows: readonly MemoryWindow[];
  readonly queues: readonly QueueSnapshot[];
}

/** Builds the device in a worker that takes over; its queues resume where they stood. */
export function restoreDevice(worker: PollWorker, snapshot: DeviceSnapshot): void {
  const view = worker.attach(snapshot.device, snapshot.pairs, snapshot.mtu);
  view.setFeatures(...snapshot.features);
  for (const window of snapshot.windows) view.memory.map(window);
  for (const { index, setup, enabled } of snapshot.queues) {
    const queue = view.queues[index]!;
    queue.kickFd = setup.kickFd;
    queue.callFd = setup.callFd;
    if (!view.start(queue, setup)) continue;
    queue.enabled = enabled;
    worker.watchKick(queue);
  }
}
