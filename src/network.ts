/** The network of one or more sandboxes: a pool of poll workers, and the devices attached to it. */
import { availableParallelism } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { DeviceConfig, DeviceDataPlane } from '../device/dataPlane.js';
import { LimitedLog, type FrontLog } from '../device/limitedLog.js';
import { VhostUserServer } from '../device/vhostUser/server.js';
import { COUNTER_NAMES, type CounterName } from '../workers/counters.js';
import { NoUringError, chooseEngine } from '../workers/engine/chooseEngine.js';
import type { EngineChoice, EngineName } from '../workers/engine/engine.js';
import { DEFAULT_ADDRESSES } from '../workers/nat/addresses.js';
import { DEFAULT_TCP_TIMES, DEFAULT_UDP_TIMES } from '../workers/nat/settings.js';
import { Pool, type WorkerState } from '../workers/pool.js';
import type { PoolDevice } from '../workers/poolDevice.js';
import type { StageTimes } from '../workers/stageReport.js';
import type { StageName } from '../workers/stageTimer.js';
import { SlipwayError } from './errors.js';
import { MAX_CPUS, defaultWorkers, wholeNumber } from './limits.js';
import { createLogger, type Logger } from './log.js';
import { type DnsChoice, Resolver } from './resolver.js';

export interface NetworkOptions {
  /** Poll workers, 1 … 64. One per queue pair, on half of the CPUs at most, if left out. */
  readonly workers?: number;
  /** Queue pairs per device, 1 … 64. Default 1. */
  readonly queues?: number;
  /** Bytes of an IP packet, 68 … 65535. Default 1500. */
  readonly mtu?: number;
  /** Lets guests reach the host's 127.0.0.1 as 10.0.2.2. Default false. */
  readonly allowHostLoopback?: boolean;
  /** Flows per worker at most. Default 32768. */
  readonly maxFlows?: number;
  /** Devices at most. Default 16. */
  readonly maxDevices?: number;
  /** A connect without an answer ends, ms. Default 3000. */
  readonly connectTimeoutMs?: number;
  /** A UDP flow without datagrams ends, ms, 1000 … 86400000; RFC 4787 REQ-5 wants 120000 at least. Default 300000. */
  readonly udpTimeoutMs?: number;
  /** Binds each worker to a CPU of its own. Default: if there are CPUs left for others. */
  readonly pinned?: boolean;
  /** How the workers talk to the kernel. Default `auto`. */
  readonly engine?: EngineChoice;
  /** Times the stages of packets' ways, for `stats`; costs some CPU. Default false. */
  readonly timing?: boolean;
  /**
   * Where queries of names that the guest sends to 10.0.2.3 go: `host`, to the first IPv4 name server of the host's
   * /etc/resolv.conf, which is read again when it changes; to an IPv4 address; or nowhere. Default `host`.
   */
  readonly dns?: DnsChoice;
  readonly log?: Logger;
}

export interface ServeOptions {
  /** Path of the UNIX socket, at most 107 bytes. */
  readonly path: string;
  /** Queue pairs of this device; the network's if left out. */
  readonly queues?: number;
  /** Listen at the path, or connect to a front end that does. Default `server`. */
  readonly mode?: 'server' | 'client';
}

/** A device that a VMM can attach to. */
export interface ServedDevice {
  readonly path: string;
  /** Whether a front end is attached. */
  readonly connected: boolean;
  close(): Promise<void>;
}

export interface AttachOptions {
  /** Queue pairs of this device; the network's if left out. */
  readonly queues?: number;
  /** Told when the network is closed before the device is detached: there is no network from then on. */
  readonly networkClosed?: () => void;
}

/** A device for a VMM in this process. */
export interface AttachedDevice {
  /** Driven by whoever attached it. */
  readonly device: DeviceDataPlane;
  readonly config: DeviceConfig;
  readonly info: (message: string) => void;
  readonly warn: (message: string) => void;
  /** Gives the device back. Nothing to do once the network is closed. */
  detach(): Promise<void>;
}

/** What a network did so far. */
export interface NetworkStats {
  /** Flows now, over all workers. */
  readonly flows: number;
  /** Sums over all workers. */
  readonly counters: Record<CounterName, number>;
  readonly workers: readonly WorkerState[];
  /** How long each stage of a packet's way took, over all workers; `undefined` without `timing`. */
  readonly stages: Record<StageName, StageTimes> | undefined;
  readonly devices: readonly DeviceStats[];
}

export interface DeviceStats {
  /** The vhost-user socket; `undefined` for a device of a VMM in this process. */
  readonly path: string | undefined;
  /** Whether a front end, or such a VMM, has it. */
  readonly connected: boolean;
  /** Chains that went through each receive queue, and through each transmit queue. */
  readonly receiveChains: readonly number[];
  readonly transmitChains: readonly number[];
  /** Notifications by the driver and of it, by queue: pair 0's receive and transmit queue, pair 1's, …, the control queue. */
  readonly kicks: readonly number[];
  readonly interrupts: readonly number[];
  /** Frames to the guest that its filters refused: by destination address or VLAN, virtio 1.2 §5.1.6.5.1 and §5.1.6.5.3. */
  readonly filteredFrames: number;
  /** How often a queue was stopped since the driver broke the rules of virtio. */
  readonly brokenQueues: number;
}

interface Served {
  readonly path: string;
  readonly device: PoolDevice;
  readonly server: VhostUserServer;
}

interface Attached {
  readonly device: PoolDevice;
  readonly networkClosed: () => void;
}

/** How long devices may take to come down before the workers end all the same. */
const DETACH_MS = 300;
/** The MAC address of the guest if its VMM gives it none. */
const GUEST_MAC = Uint8Array.of(0x52, 0x54, 0x00, 0x12, 0x34, 0x56);

export class Network implements AsyncDisposable {
  private readonly served = new Set<Served>();
  private readonly attached = new Set<Attached>();
  private closing: Promise<void> | undefined;

  private readonly frontLog: FrontLog;

  private constructor(
    private readonly pool: Pool,
    private readonly config: Omit<DeviceConfig, 'mac'>,
    private readonly resolver: Resolver,
    log: Logger,
  ) {
    this.frontLog = { info: (message) => log.info(message), warn: (message) => log.warn(message) };
  }

  /**
   * Starts the workers.
   * @throws {UsageError} for an option out of its range, or a `dns` that is none
   * @throws {SlipwayError} when the workers don't start, or for the engine `uring` where the kernel has or allows none
   */
  static async create(options: NetworkOptions = {}): Promise<Network> {
    const queues = wholeNumber('queues', options.queues ?? 1, 1, MAX_CPUS);
    const cpus = availableParallelism();
    const workers = wholeNumber('workers', options.workers ?? defaultWorkers(queues), 1, MAX_CPUS);
    const mtu = wholeNumber('mtu', options.mtu ?? 1500, 68, 65_535);
    const log = options.log ?? createLogger('warn');
    const resolver = new Resolver(options.dns ?? 'host');
    const engine = engineOf(options.engine ?? 'auto', log);
    const pool = new Pool({
      workers,
      pairs: queues,
      devices: wholeNumber('maxDevices', options.maxDevices ?? 16, 1, 256),
      flows: wholeNumber('maxFlows', options.maxFlows ?? 32_768, 1, 1 << 20),
      pinned: options.pinned ?? workers < cpus,
      engine,
      timing: options.timing ?? false,
      nat: {
        addresses: { ...DEFAULT_ADDRESSES, mtu },
        allowHostLoopback: options.allowHostLoopback ?? false,
        resolver: resolver.address,
        times: {
          ...DEFAULT_TCP_TIMES,
          connect: wholeNumber('connectTimeoutMs', options.connectTimeoutMs ?? 3000, 1, 600_000),
        },
        udpTimes: {
          ...DEFAULT_UDP_TIMES,
          idle: wholeNumber('udpTimeoutMs', options.udpTimeoutMs ?? DEFAULT_UDP_TIMES.idle, 1_000, 86_400_000),
        },
      },
      log: { warn: (message) => log.warn(message) },
    });
    await pool.ready();
    resolver.follow();
    return new Network(pool, { mtu, pairs: queues }, resolver, log);
  }

  /** Number of poll workers. */
  get workers(): number {
    return this.pool.memory.workers;
  }

  /**
   * Serves one device over vhost-user. Resolves when the socket listens (in client mode: at once).
   * @throws {VhostUserSocketError} when the socket can't be had
   * @throws {UsageError} for more queue pairs than the network has, or more devices than `maxDevices`
   */
  async serve(options: ServeOptions): Promise<ServedDevice> {
    const pairs = wholeNumber('queues', options.queues ?? this.config.pairs, 1, this.config.pairs);
    const config: DeviceConfig = { mac: GUEST_MAC, mtu: this.config.mtu, pairs };
    const device = await this.pool.attach(config);
    const { path } = options;
    const server = new VhostUserServer({
      path,
      mode: options.mode ?? 'server',
      device,
      config,
      log: this.frontLog,
    });
    try {
      server.start();
    } catch (error) {
      await device.detach();
      throw error;
    }
    const served = { path, device, server };
    this.served.add(served);
    return {
      path,
      get connected() {
        return server.connected;
      },
      close: () => this.unserve(served),
    };
  }

  /**
   * Gives a device to a VMM in this process.
   * @throws {UsageError} for more queue pairs than the network has, or more devices than `maxDevices`
   */
  async attach(options: AttachOptions = {}): Promise<AttachedDevice> {
    const pairs = wholeNumber('queues', options.queues ?? this.config.pairs, 1, this.config.pairs);
    const config: DeviceConfig = { mac: GUEST_MAC, mtu: this.config.mtu, pairs };
    const device = await this.pool.attach(config);
    const attached: Attached = { device, networkClosed: options.networkClosed ?? (() => undefined) };
    this.attached.add(attached);
    const log = new LimitedLog(this.frontLog, 'a guest');
    return {
      device,
      config,
      info: (message) => log.info(message),
      warn: (message) => log.warn(message),
      detach: () => this.detach(attached),
    };
  }

  private async detach(attached: Attached): Promise<void> {
    if (this.attached.delete(attached)) await attached.device.detach();
  }

  private async unserve(served: Served): Promise<void> {
    if (!this.served.delete(served)) return;
    await served.server.close();
    await served.device.detach();
  }

  /** What it did so far, and its state now. */
  stats(): NetworkStats {
    const workers = this.pool.states();
    const sum = (name: CounterName): number => workers.reduce((total, { counters }) => total + counters[name], 0);
    const counters = Object.fromEntries(COUNTER_NAMES.map((name) => [name, sum(name)])) as Record<CounterName, number>;
    const devices = [
      ...[...this.served].map(({ path, device, server }) => deviceStats(path, device, server.connected)),
      ...[...this.attached].map(({ device }) => deviceStats(undefined, device, true)),
    ];
    const flows = workers.reduce((total, { flows: own }) => total + own, 0);
    return { flows, counters, workers, stages: this.pool.stages(), devices };
  }

  /** Makes a worker throw at the next packet, for tests of what survives it. */
  injectFault(worker: number): Promise<void> {
    return this.pool.injectFault(worker);
  }

  /** Ends all devices and workers, within a second. Connections are reset. Guests live on, without a network. */
  close(): Promise<void> {
    this.closing ??= this.shutDown();
    return this.closing;
  }

  private async shutDown(): Promise<void> {
    this.resolver.close();
    for (const { networkClosed } of this.attached) networkClosed();
    const left = Promise.all([
      ...[...this.served].map((served) => this.unserve(served)),
      ...[...this.attached].map((attached) => this.detach(attached)),
    ]);
    // A worker that was given up may leave a device waiting: without workers it waits no more.
    const patience = new AbortController();
    await Promise.race([left, delay(DETACH_MS, undefined, { signal: patience.signal }).catch(() => undefined)]);
    patience.abort();
    await this.pool.close();
    await left;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function deviceStats(path: string | undefined, device: PoolDevice, connected: boolean): DeviceStats {
  const queues = device.queues();
  const data = queues.slice(0, -1).map(({ chains }) => chains);
  return {
    path,
    connected,
    receiveChains: data.filter((_, queue) => queue % 2 === 0),
    transmitChains: data.filter((_, queue) => queue % 2 === 1),
    kicks: queues.map(({ kicks }) => kicks),
    interrupts: queues.map(({ interrupts }) => interrupts),
    filteredFrames: device.net.filtered,
    brokenQueues: device.brokenQueues,
  };
}

function engineOf(choice: EngineChoice, log: Logger): EngineName {
  try {
    const { engine, reason } = chooseEngine(choice);
    log.info({ engine, reason }, 'I/O engine');
    return engine;
  } catch (error) {
    if (error instanceof NoUringError) throw new SlipwayError(error.message);
    throw error;
  }
}
