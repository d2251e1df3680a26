/**
 * What one worker has obeyed, as its answers tell: what its successor starts from. Another worker may have obeyed more
 * by the time that one dies, or less.
 */
import type { MemoryWindow } from '../device/guestMemory.js';
import type { VirtqueueSetup } from '../device/dataPlane.js';
import {
  ARGUMENTS,
  CONTROL_ATTACH,
  CONTROL_CALL_FD,
  CONTROL_ENABLE_QUEUE,
  CONTROL_FEATURES,
  CONTROL_MAP,
  CONTROL_START_QUEUE,
  CONTROL_STOP_QUEUE,
  CONTROL_UNMAP,
  DEVICE_OF,
  KIND,
  QUEUE_OF,
  getNumber,
} from './messages.js';
import type { DeviceSnapshot, QueueSnapshot } from './snapshot.js';

interface Device {
  readonly pairs: number;
  readonly mtu: number;
  features: readonly [low: number, high: number];
  windows: MemoryWindow[];
  readonly queues: Map<number, QueueSnapshot>;
}

export class Obeyed {
  private readonly devices = new Map<number, Device>();

  /** @param words a control message that the worker answered with status 0 */
  note(words: readonly number[]): void {
    const number = words[DEVICE_OF]!;
    const args = Int32Array.from(words.slice(ARGUMENTS));
    if (words[KIND] === CONTROL_ATTACH) {
      this.devices.set(number, { pairs: args[0]!, mtu: args[1]!, features: [0, 0], windows: [], queues: new Map() });
      return;
    }
    const device = this.devices.get(number);
    if (device !== undefined) noteDevice(device, words[KIND]!, words[QUEUE_OF]!, args);
  }

  /** The worker stopped a queue by itself. */
  queueBroken(device: number, queue: number): void {
    this.devices.get(device)?.queues.delete(queue);
  }

  snapshot(): DeviceSnapshot[] {
    return [...this.devices].map(([device, { queues, windows, ...rest }]) => {
      return { device, ...rest, windows: [...windows], queues: [...queues.values()] };
    });
  }
}

function noteDevice(device: Device, kind: number, index: number, args: Int32Array): void {
  const { queues } = device;
  const queue = queues.get(index);
  if (kind === CONTROL_FEATURES) device.features = [args[0]!, args[1]!];
  else if (kind === CONTROL_MAP) device.windows.push(windowOf(args));
  else if (kind === CONTROL_UNMAP) device.windows = [];
  else if (kind === CONTROL_START_QUEUE) queues.set(index, { index, setup: setupOf(args), enabled: false });
  else if (kind === CONTROL_STOP_QUEUE) queues.delete(index);
  else if (queue === undefined) return;
  else if (kind === CONTROL_ENABLE_QUEUE) queues.set(index, { ...queue, enabled: args[0] !== 0 });
  else if (kind === CONTROL_CALL_FD) queues.set(index, { ...queue, setup: { ...queue.setup, callFd: args[0]! } });
}

function windowOf(args: Int32Array): MemoryWindow {
  return {
    fd: args[0]!,
    guestAddress: getNumber(args, 1),
    size: getNumber(args, 3),
    fileOffset: getNumber(args, 5),
  };
}

function setupOf(args: Int32Array): VirtqueueSetup {
  return {
    size: args[0]!,
    lastAvailIdx: args[1]!,
    kickFd: args[2]!,
    callFd: args[3]!,
    descTable: getNumber(args, 4),
    availRing: getNumber(args, 6),
    usedRing: getNumber(args, 8),
  };
}
