/** A device's set-up in one worker: what its successor starts from. */
import type { GuestMemory, MemoryWindow } from '../device/guestMemory.js';
import type { VirtqueueSetup } from '../device/dataPlane.js';
import type { QueueView } from './deviceView.js';
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

/**
 * Builds the device in a worker that takes over; its queues resume where they stood.
 * @param broken is told of queues that can't
 */
export function restoreDevice(
  worker: PollWorker,
  snapshot: DeviceSnapshot,
  broken: (queue: QueueView) => void = () => undefined,
): void {
  const view = worker.attach(snapshot.device, snapshot.pairs, snapshot.mtu);
  view.setFeatures(...snapshot.features);
  for (const window of snapshot.windows) mapIfThere(view.memory, window);
  for (const { index, setup, enabled } of snapshot.queues) {
    const queue = view.queues[index]!;
    queue.kickFd = setup.kickFd;
    queue.callFd = setup.callFd;
    if (!view.start(queue, setup)) {
      if (queue.mine) broken(queue);
      continue;
    }
    queue.enabled = enabled;
    worker.watchKick(queue);
  }
}

/** Its owner may have cut the file off meanwhile: that is no reason to keep other devices waiting. */
function mapIfThere(memory: GuestMemory, window: MemoryWindow): void {
  try {
    memory.map(window);
  } catch {
    // What lies there is out of reach: rings break, chains are given back.
  }
}
