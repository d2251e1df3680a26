/**
 * The pool of poll workers, seen from the main thread: starts them, talks to them through rings, and replaces those that
 * die by successors that go on where they stopped.
 */
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Piscina } from 'piscina';
import type { DeviceConfig } from '../device/dataPlane.js';
import { BROKEN_REASONS } from '../device/virtqueue.js';
import { addon } from '../src/native/addon.js';
import { SlipwayError, UsageError } from '../src/errors.js';
import { packageRoot } from '../src/packageRoot.js';
import { type CounterName, readCounters } from './counters.js';
import type { EngineName } from './engine/engine.js';
import { FD, FLOW_WORDS, FREE, STATE } from './flow.js';
import { movingSockets } from './handoff.js';
import { type HostKernel, askHostKernel } from './hostKernel.js';
import type { WorkerTask } from './main.js';
import {
  ARGUMENTS,
  type Answer,
  CONTROL_PING,
  CONTROL_THROW,
  DEVICE_OF,
  EVENT_DONE,
  KIND,
  QUEUE_OF,
  TICKET,
} from './messages.js';
import type { NatSettings } from './nat/settings.js';
import { type DeviceHost, PoolDevice } from './poolDevice.js';
import {
  FREE_RECORDS,
  HEARTBEAT,
  type PoolDimensions,
  type PoolMemory,
  SLEEPING,
  STOP,
  WORKER_WORDS,
  createPoolMemory,
} from './poolMemory.js';
import { type StageTimes, reportStages } from './stageReport.js';
import type { StageName } from './stageTimer.js';
import { StuckCalls } from './stuckCalls.js';
import { WorkerEnd } from './workerEnd.js';

/** A worker that dies so often within a minute isn't started again: it would die for ever. */
const MAX_DEATHS_PER_MINUTE = 20;
/** How long a successor waits after one that didn't even start, ms; twice as long after each. */
const RETRY_MS = 20;
const MAX_RETRY_MS = 3_000;

export interface PoolOptions extends PoolDimensions {
  readonly nat: Omit<NatSettings, 'seed' | keyof HostKernel>;
  /** Bind each worker to a CPU of its own. */
  readonly pinned: boolean;
  readonly engine: EngineName;
  readonly log: { warn(message: string): void };
}

/** One worker's state, as far as the main thread knows it. */
export interface WorkerState {
  readonly worker: number;
  readonly cpu: number;
  readonly flows: number;
  readonly asleep: boolean;
  readonly cycles: number;
  readonly deaths: number;
  readonly counters: Record<CounterName, number>;
}

export class Pool implements DeviceHost {
  readonly memory: PoolMemory;
  private readonly workers: WorkerEnd[] = [];
  private readonly devices: (PoolDevice | undefined)[] = [];
  private readonly piscina: Piscina<WorkerTask, void>;
  private readonly nat: NatSettings;
  private readonly stuckCalls: StuckCalls;
  private readonly words: Int32Array;
  private lastTicket = 0;
  private closing: Promise<void> | undefined;
  /** Aborted when nothing is to be started any more. */
  private readonly retries = new AbortController();
  private readonly stopAtExit = (): void => this.tellToStop();

  constructor(private readonly options: PoolOptions) {
    this.memory = createPoolMemory(options, randomInt(1, 2 ** 31 - 1));
    this.words = new Int32Array(this.memory.workerWords);
    this.nat = { ...options.nat, seed: this.memory.seed, ...askHostKernel() };
    const cpus = addon.getAffinity();
    const { workers } = options;
    this.piscina = new Piscina<WorkerTask, void>({
      filename: join(packageRoot(), 'dist/workers/main.js'),
      minThreads: workers,
      maxThreads: workers,
      concurrentTasksPerWorker: 1,
      recordTiming: false,
    });
    for (let number = 0; number < workers; number++) {
      const cpu = options.pinned ? cpus[number % cpus.length]! : -1;
      const end = new WorkerEnd(this.memory, this.words, number, cpu);
      this.workers.push(end);
      end.watcher = addon.watch(end.eventFd, { readable: true }, () => this.readEvents(end));
    }
    for (const end of this.workers) this.start(end, false);
    this.stuckCalls = new StuckCalls(addon, this.words, workers);
    process.on('exit', this.stopAtExit);
  }

  /** Resolves when all workers run. @throws {SlipwayError} when one doesn't start */
  async ready(): Promise<void> {
    const answers = await this.requestAll(CONTROL_PING, 0, 0);
    if (answers.every(({ status }) => status === 0)) return;
    await this.close();
    throw new SlipwayError('the poll workers do not start; the log says why');
  }

  /** Attaches a device. @throws {UsageError} when there is no place for one more, or none for so many queue pairs */
  async attach(config: DeviceConfig): Promise<PoolDevice> {
    let number = 0;
    while (this.devices[number] !== undefined) number++;
    const { devices, pairs } = this.options;
    if (number >= devices) {
      throw new UsageError(`all ${devices} devices of the network are in use: close one, or raise maxDevices`);
    }
    if (config.pairs > pairs) {
      throw new UsageError(`a device of ${config.pairs} queue pairs on a network of ${pairs}: raise queues`);
    }
    const device = new PoolDevice(this, number, config);
    this.devices[number] = device;
    await device.announce();
    return device;
  }

  /** Frees a device's place; the device has been reset. */
  detach(device: PoolDevice): void {
    if (this.devices[device.number] === device) this.devices[device.number] = undefined;
  }

  /** Sends a worker a message and awaits its answer. */
  request(worker: number, kind: number, device: number, queue: number, ...args: number[]): Promise<Answer> {
    this.lastTicket = (this.lastTicket % 0x3fffffff) + 1;
    const words: number[] = [];
    words[KIND] = kind;
    words[TICKET] = this.lastTicket;
    words[DEVICE_OF] = device;
    words[QUEUE_OF] = queue;
    args.forEach((word, place) => (words[ARGUMENTS + place] = word));
    return this.workers[worker]!.request(words);
  }

  /** Sends all workers the same message; their answers, by worker. */
  requestAll(kind: number, device: number, queue: number, ...args: number[]): Promise<Answer[]> {
    return Promise.all(this.workers.map(({ number }) => this.request(number, kind, device, queue, ...args)));
  }

  /** Tells a worker of a driver's notification. Returns false when its ring has no place. */
  kick(worker: number, device: number, queue: number): boolean {
    return this.workers[worker]!.kick(device, queue);
  }

  /** The worker that serves a queue pair. */
  workerOf(pair: number): number {
    return pair % this.options.workers;
  }

  /** Makes a worker throw at the next chain that it takes; for tests of supervision. */
  async injectFault(worker: number): Promise<void> {
    await this.request(worker, CONTROL_THROW, 0, 0);
  }

  states(): WorkerState[] {
    const { words } = this;
    return this.workers.map(({ number, cpu, deaths }) => ({
      worker: number,
      cpu,
      flows: this.memory.flows - words[number * WORKER_WORDS + FREE_RECORDS]!,
      asleep: Atomics.load(words, number * WORKER_WORDS + SLEEPING) === 1,
      cycles: Atomics.load(words, number * WORKER_WORDS + HEARTBEAT) >>> 0,
      deaths: deaths.length,
      counters: readCounters(new Float64Array(this.memory.counters[number]!)),
    }));
  }

  /** How long the stages of packets' ways took, over all workers; `undefined` unless that is timed. */
  stages(): Record<StageName, StageTimes> | undefined {
    return reportStages(this.memory.stages);
  }

  /** Stops all workers and frees everything. Devices are detached first, by their owners. */
  close(): Promise<void> {
    this.closing ??= this.shutDown();
    return this.closing;
  }

  private async shutDown(): Promise<void> {
    process.off('exit', this.stopAtExit);
    this.retries.abort();
    this.tellToStop();
    await Promise.allSettled(this.workers.map(({ task }) => task));
    this.stuckCalls.close();
    await this.piscina.destroy();
    for (const end of this.workers) {
      end.giveUp();
      this.closeSockets(end.number);
      end.closeDescriptors();
    }
  }

  /** By a word, not a message: the ring may be full, and the process may be about to exit. */
  private tellToStop(): void {
    for (const end of this.workers) {
      Atomics.store(this.words, end.number * WORKER_WORDS + STOP, 1);
      addon.eventfdSignal(end.wakeFd);
    }
  }

  /** Sockets of flows that nobody closed, and of those that were on their way to the worker. */
  private closeSockets(worker: number): void {
    const records = new Int32Array(this.memory.shards[worker]!);
    for (let f = 0; f < records.length; f += FLOW_WORDS) {
      if (records[f + STATE] !== FREE && records[f + FD]! >= 0) addon.closeReset(records[f + FD]!);
    }
    for (const { number } of this.workers) {
      for (const fd of movingSockets(this.memory, number, worker)) addon.closeReset(fd);
    }
  }

  private start(end: WorkerEnd, takeOver: boolean): void {
    end.cyclesAtStart = this.cyclesOf(end);
    const task: WorkerTask = {
      worker: end.number,
      memory: this.memory,
      nat: this.nat,
      engine: this.options.engine,
      epoll: end.epoll,
      eventFd: end.eventFd,
      wakeFds: this.workers.map(({ wakeFd }) => wakeFd),
      cpu: end.cpu,
      takeOver: takeOver ? end.obeyed.snapshot() : undefined,
    };
    end.task = this.piscina.run(task).catch((error: unknown) => this.died(end, error));
  }

  private async died(end: WorkerEnd, error: unknown): Promise<void> {
    if (this.closing !== undefined) return;
    const now = Date.now();
    end.deaths = [...end.deaths.filter((then) => now - then < 60_000), now];
    const reason = error instanceof Error ? error.message : String(error);
    if (end.deaths.length > MAX_DEATHS_PER_MINUTE) {
      end.giveUp();
      this.options.log.warn(
        `worker ${end.number} died ${end.deaths.length} times in a minute and is given up: ${reason}`,
      );
      return;
    }
    this.options.log.warn(`worker ${end.number} died and is replaced: ${reason}`);
    this.readEvents(end);
    await this.untilStart(end);
    if (this.closing !== undefined) return;
    end.takeBackRequests();
    this.start(end, true);
    end.post();
    await end.task;
  }

  /** A successor that didn't even start is followed by another after a while: a lack of descriptors or memory may pass. */
  private async untilStart(end: WorkerEnd): Promise<void> {
    const cycles = this.cyclesOf(end);
    end.failedStarts = cycles === end.cyclesAtStart ? end.failedStarts + 1 : 0;
    if (end.failedStarts === 0 || cycles === 0) return; // one that has never run is to be told of at once
    const wait = Math.min(RETRY_MS * 2 ** end.failedStarts, MAX_RETRY_MS);
    await delay(wait, undefined, { signal: this.retries.signal }).catch(() => undefined);
  }

  private cyclesOf({ number }: WorkerEnd): number {
    return Atomics.load(this.words, number * WORKER_WORDS + HEARTBEAT) >>> 0;
  }

  private readEvents(end: WorkerEnd): void {
    addon.eventfdDrain(end.eventFd);
    const { data } = end.events;
    for (let at = end.events.peek(); at >= 0; at = end.events.peek()) {
      const [kind, a, b, c] = [data[at]!, data[at + 1]!, data[at + 2]!, data[at + 3]!];
      end.events.release();
      if (kind === EVENT_DONE) end.answered(a, { status: b, value: c });
      else {
        end.obeyed.queueBroken(a, b);
        this.devices[a]?.broke(b, BROKEN_REASONS[c] ?? 'it broke a rule');
      }
    }
    end.post();
  }
}
