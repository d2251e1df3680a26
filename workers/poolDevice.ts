/** A device's data plane, as a front drives it: each call is told to all workers, and done when all have obeyed. */
import { getSystemErrorName } from 'node:util';
import type { DeviceConfig, DeviceDataPlane, MemoryRegion, VirtqueueSetup } from '../device/dataPlane.js';
import type { MemoryWindow } from '../device/guestMemory.js';
import { MAX_WINDOWS } from '../device/guestMemory.js';
import type { NetState } from '../device/netState.js';
import { QUEUE_CHAINS, QUEUE_INTERRUPTS, QUEUE_KICKS } from '../device/virtqueue.js';
import {
  type Answer,
  CONTROL_ATTACH,
  CONTROL_CALL_FD,
  CONTROL_DROP_FLOWS,
  CONTROL_ENABLE_QUEUE,
  CONTROL_FEATURES,
  CONTROL_MAP,
  CONTROL_START_QUEUE,
  CONTROL_STOP_QUEUE,
  CONTROL_UNMAP,
  putNumber,
} from './messages.js';
import { type PoolMemory, netState, queueState } from './poolMemory.js';

const FOUR_GIB = 4294967296;

interface RunningQueue {
  setup: VirtqueueSetup;
  enabled: boolean;
}

export interface QueueCounts {
  /** Chains that the driver has been shown as used. */
  readonly chains: number;
  /** Notifications by the driver (doorbells) that reached the worker; several may have come as one. */
  readonly kicks: number;
  /** Notifications of the driver: signals of the queue's call eventfd. */
  readonly interrupts: number;
}

/** The kernel refused to map guest memory. */
export class MemoryMapError extends Error {
  override readonly name = 'MemoryMapError';

  /** @param code the errno's name */
  constructor(
    message: string,
    readonly code: string,
  ) {
    super(message);
  }
}

/** What a device needs of the pool around it. */
export interface DeviceHost {
  readonly memory: PoolMemory;
  /** The worker that serves a queue pair. */
  workerOf(pair: number): number;
  /** Sends a worker a message and awaits its answer. */
  request(worker: number, kind: number, device: number, queue: number, ...args: number[]): Promise<Answer>;
  /** Sends all workers the same message; their answers, by worker. */
  requestAll(kind: number, device: number, queue: number, ...args: number[]): Promise<Answer[]>;
  /** Tells a worker of a driver's notification. Returns false when it can't be told now. */
  kick(worker: number, device: number, queue: number): boolean;
  /** Frees a device's place; the device has been reset. */
  detach(device: PoolDevice): void;
}

export class PoolDevice implements DeviceDataPlane {
  onQueueBroken: (index: number, reason: string) => void = () => undefined;
  readonly net: NetState;
  /** How often a queue was stopped since the driver broke the rules. */
  brokenQueues = 0;
  private readonly running = new Map<number, RunningQueue>();
  /** What all workers have mapped. */
  private regions: readonly MemoryRegion[] = [];

  constructor(
    private readonly pool: DeviceHost,
    readonly number: number,
    private readonly config: DeviceConfig,
  ) {
    this.net = netState(pool.memory, number);
    this.net.reset(config.mac);
  }

  get pairs(): number {
    return this.config.pairs;
  }

  /** Makes the workers know the device. */
  async announce(): Promise<void> {
    await this.all(CONTROL_ATTACH, 0, this.config.pairs, this.config.mtu);
  }

  async setFeatures(features: bigint): Promise<void> {
    const words = [Number(BigInt.asIntN(32, features)), Number(BigInt.asIntN(32, features >> 32n))];
    await this.all(CONTROL_FEATURES, 0, ...words);
  }

  async setMemory(regions: readonly MemoryRegion[]): Promise<void> {
    const queues = [...this.running].map(([index, { setup, enabled }]) => ({ index, setup, enabled }));
    const stopped: (VirtqueueSetup & { index: number; enabled: boolean })[] = [];
    for (const { index, setup, enabled } of queues) {
      stopped.push({ ...setup, index, enabled, lastAvailIdx: await this.stopQueue(index) });
    }
    try {
      await this.replaceMemory(regions);
    } finally {
      for (const { index, enabled, ...setup } of stopped) await this.resume(index, setup, enabled);
    }
  }

  /** Where the new regions can't be mapped, the old ones are mapped again. */
  private async replaceMemory(regions: readonly MemoryRegion[]): Promise<void> {
    const old = this.regions;
    this.regions = [];
    try {
      await this.mapAll(regions);
    } catch (error) {
      // It worked before. If it doesn't now, there is no memory, and queues that ran are told to be broken.
      await this.mapAll(old).catch(() => undefined);
      throw error;
    }
  }

  private async mapAll(regions: readonly MemoryRegion[]): Promise<void> {
    await this.all(CONTROL_UNMAP, 0);
    const windows = regions.flatMap(windowsOf);
    if (windows.length > MAX_WINDOWS) throw new MemoryMapError(`more than ${MAX_WINDOWS} windows of memory`, 'E2BIG');
    for (const window of windows) await this.map(window);
    this.regions = regions;
  }

  private async map(window: MemoryWindow): Promise<void> {
    const words = new Int32Array(7);
    words[0] = window.fd;
    putNumber(words, 1, window.guestAddress);
    putNumber(words, 3, window.size);
    putNumber(words, 5, window.fileOffset);
    const answers = await this.all(CONTROL_MAP, 0, ...words);
    const refused = answers.find(({ status }) => status !== 0);
    if (refused === undefined) return;
    await this.all(CONTROL_UNMAP, 0);
    const where = `0x${window.guestAddress.toString(16)}`;
    const code = getSystemErrorName(-refused.status);
    throw new MemoryMapError(`guest memory at ${where} can't be mapped (${code})`, code);
  }

  private async resume(index: number, setup: VirtqueueSetup, enabled: boolean): Promise<void> {
    try {
      await this.startQueue(index, setup);
      await this.setQueueEnabled(index, enabled);
    } catch (error) {
      this.broke(index, (error as Error).message);
    }
  }

  /** The workers that only walk its chains come first: a packet may be handed to them as soon as the queue's own worker begins. */
  async startQueue(index: number, setup: VirtqueueSetup): Promise<void> {
    const words = startWords(setup);
    const owner = this.ownerOf(index);
    const others = [...Array(this.pool.memory.workers).keys()].filter((worker) => worker !== owner);
    const tell = (worker: number): Promise<Answer> =>
      this.pool.request(worker, CONTROL_START_QUEUE, this.number, index, ...words);
    const answers = [...(await Promise.all(others.map(tell))), await tell(owner)];
    this.running.set(index, { setup, enabled: false });
    if (answers.every(({ status }) => status === 0)) return;
    await this.stopQueue(index);
    throw new RangeError(`the rings of queue ${index} don't lie in guest memory, or aren't aligned (virtio 1.2 §2.7)`);
  }

  async stopQueue(index: number): Promise<number> {
    const answers = await this.all(CONTROL_STOP_QUEUE, index);
    this.running.delete(index);
    return answers[this.ownerOf(index)]!.value;
  }

  async setQueueEnabled(index: number, enabled: boolean): Promise<void> {
    const queue = this.running.get(index);
    if (queue !== undefined) queue.enabled = enabled;
    await this.all(CONTROL_ENABLE_QUEUE, index, enabled ? 1 : 0);
  }

  async setCallFd(index: number, callFd: number): Promise<void> {
    const queue = this.running.get(index);
    if (queue !== undefined) queue.setup = { ...queue.setup, callFd };
    await this.all(CONTROL_CALL_FD, index, callFd);
  }

  kick(index: number): boolean {
    return this.pool.kick(this.ownerOf(index), this.number, index);
  }

  async reset(): Promise<void> {
    for (const index of this.running.keys()) await this.stopQueue(index);
    await this.all(CONTROL_DROP_FLOWS, 0);
    await this.mapAll([]);
    await this.setFeatures(0n);
  }

  /** Resets the device and gives its place back. */
  async detach(): Promise<void> {
    await this.reset();
    this.pool.detach(this);
  }

  /** A worker found that the driver broke the rules. */
  broke(index: number, reason: string): void {
    this.running.delete(index);
    this.brokenQueues++;
    this.onQueueBroken(index, reason);
  }

  /** What went through each queue so far, modulo 2^32; the control queue is the last. */
  queues(): QueueCounts[] {
    return Array.from({ length: 2 * this.pairs + 1 }, (_, queue) => {
      const state = queueState(this.pool.memory, this.number, queue);
      const count = (place: number): number => state[place]! >>> 0;
      return { chains: count(QUEUE_CHAINS), kicks: count(QUEUE_KICKS), interrupts: count(QUEUE_INTERRUPTS) };
    });
  }

  private ownerOf(index: number): number {
    return this.pool.workerOf(index === 2 * this.pairs ? 0 : index >> 1);
  }

  private all(kind: number, queue: number, ...args: number[]): Promise<Answer[]> {
    return this.pool.requestAll(kind, this.number, queue, ...args);
  }
}

/** A region in pieces that an ArrayBuffer can hold. */
function windowsOf({ guestAddress, size, fd, fileOffset }: MemoryRegion): MemoryWindow[] {
  const windows: MemoryWindow[] = [];
  for (let at = 0; at < size; at += FOUR_GIB) {
    const piece = Math.min(FOUR_GIB, size - at);
    windows.push({ guestAddress: guestAddress + at, size: piece, fd, fileOffset: fileOffset + at });
  }
  return windows;
}

function startWords(setup: VirtqueueSetup): Int32Array {
  const words = new Int32Array(10);
  words[0] = setup.size;
  words[1] = setup.lastAvailIdx;
  words[2] = setup.kickFd;
  words[3] = setup.callFd;
  putNumber(words, 4, setup.descTable);
  putNumber(words, 6, setup.availRing);
  putNumber(words, 8, setup.usedRing);
  return words;
}
