/**
 * The pool's shared memory: docs/architecture.md says who may write what. Made once by the main thread, handed to each worker
 * with its task; what a worker needs to go on where its predecessor stopped is all in here.
 */
import { NET_STATE_WORDS, NetState } from '../device/netState.js';
import { QUEUE_STATE_WORDS } from '../device/virtqueue.js';
import { COUNTER_NAMES } from './counters.js';
import { FLOW_WORDS } from './flow.js';
import { HeldChains } from './heldChains.js';
import { Directory } from './shared/directory.js';
import { SpscRing } from './shared/spscRing.js';
import { STAGE_BYTES } from './stageTimer.js';

/** Messages of the control and event rings. */
export const CONTROL_CAPACITY = 256;
export const CONTROL_WORDS = 32;
export const EVENT_CAPACITY = 1024;
export const EVENT_WORDS = 8;
/** Messages of a handoff ring; see handoff.ts for how they are shared out. */
export const HANDOFF_CAPACITY = 2048;
export const HANDOFF_WORDS = FLOW_WORDS + 8;
/** Chains that one worker's flows may hold. */
const HELD_ENTRIES = 4096;

/** Words of `workerWords`, one block of WORKER_WORDS per worker. */
export const WORKER_WORDS = 16;
/** 1 while the worker waits in the kernel, or is about to: who has a message for it signals its wake eventfd. */
export const SLEEPING = 0;
/** Cycles done, modulo 2^32. */
export const HEARTBEAT = 1;
/** Free records of the shard. */
export const FREE_RECORDS = 2;
/** 1: the worker is to end, whatever else waits for it. Written by the main thread. */
export const STOP = 3;
/** The worker's thread, for `Addon.interruptThread`; 0: none yet. */
export const THREAD = 4;

export interface PoolDimensions {
  readonly workers: number;
  /** Devices at most. */
  readonly devices: number;
  /** Queue pairs per device at most. */
  readonly pairs: number;
  /** Flows per worker at most. */
  readonly flows: number;
  /** Time the stages of packets' ways. Default false. */
  readonly timing?: boolean;
}

export interface PoolMemory extends PoolDimensions {
  readonly seed: number;
  readonly workerWords: SharedArrayBuffer;
  /** QUEUE_STATE_WORDS per queue: device by device, 2 × pairs + 1 each. */
  readonly queues: SharedArrayBuffer;
  /** NET_STATE_WORDS per device. */
  readonly net: SharedArrayBuffer;
  readonly directory: SharedArrayBuffer;
  /** Per worker. */
  readonly shards: readonly SharedArrayBuffer[];
  readonly held: readonly SharedArrayBuffer[];
  readonly counters: readonly SharedArrayBuffer[];
  /** Packets that it handed to each other worker and that aren't back. */
  readonly outstanding: readonly SharedArrayBuffer[];
  /** Histograms; see stageTimer.ts. None unless `timing` is on. */
  readonly stages: readonly SharedArrayBuffer[];
  readonly control: readonly SharedArrayBuffer[];
  readonly events: readonly SharedArrayBuffer[];
  /** From worker a to worker b: number a × workers + b. */
  readonly handoff: readonly SharedArrayBuffer[];
}

/** Room behind what one thread writes often, bytes: a cache line, for buffers aren't aligned to any. */
const APART = 64;

const times = (count: number, bytes: number): SharedArrayBuffer[] =>
  Array.from({ length: count }, () => new SharedArrayBuffer(bytes));

export function createPoolMemory(dimensions: PoolDimensions, seed: number): PoolMemory {
  const { workers, devices, pairs, flows, timing = false } = dimensions;
  return {
    workers,
    devices,
    pairs,
    flows,
    seed,
    workerWords: new SharedArrayBuffer(4 * WORKER_WORDS * workers),
    queues: new SharedArrayBuffer(4 * QUEUE_STATE_WORDS * devices * (2 * pairs + 1)),
    net: new SharedArrayBuffer(4 * NET_STATE_WORDS * devices),
    directory: new SharedArrayBuffer(workers > 1 ? Directory.bytes(2 * flows * workers) : Directory.bytes(8)),
    shards: times(workers, 4 * FLOW_WORDS * flows),
    held: times(workers, 4 * HeldChains.words(HELD_ENTRIES)),
    counters: times(workers, 8 * COUNTER_NAMES.length + APART),
    outstanding: times(workers, 4 * workers + APART),
    stages: timing ? times(workers, STAGE_BYTES) : [],
    control: times(workers, SpscRing.bytes(CONTROL_CAPACITY, CONTROL_WORDS)),
    events: times(workers, SpscRing.bytes(EVENT_CAPACITY, EVENT_WORDS)),
    handoff: times(workers * workers, SpscRing.bytes(HANDOFF_CAPACITY, HANDOFF_WORDS)),
  };
}

/** The words of one queue's state. */
export function queueState(memory: PoolMemory, device: number, queue: number): Int32Array {
  const number = device * (2 * memory.pairs + 1) + queue;
  return new Int32Array(memory.queues, 4 * QUEUE_STATE_WORDS * number, QUEUE_STATE_WORDS);
}

/** What a device's control queue changes. */
export function netState(memory: PoolMemory, device: number): NetState {
  return new NetState(new Int32Array(memory.net, 4 * NET_STATE_WORDS * device, NET_STATE_WORDS));
}
