/** The load driver as its users see it: threads that play a guest, started, directed, watched and stopped. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { addon } from '../../src/native/addon.js';
import { packageRoot } from '../../src/packageRoot.js';
import { formatIpv4Address, parseIpv4Address } from '../../workers/wire/ipv4.js';
import { COMMANDS, Command, createControl } from './control.js';
import { DriverDevice } from './device.js';
import type { DeviceOptions } from './device.js';
import type { ThreadSetup } from './driverThread.js';
import type { LoopOptions } from './eventLoop.js';
import { FrontEndError } from './frontEnd.js';
import type { FrontEnd } from './frontEnd.js';
import { NetworkState, parseMac } from './network.js';
import { createStatistics, statisticsBetween, sumStatistics } from './statistics.js';
import type { PairCounterName } from './statistics.js';
import type { WorkloadOptions } from './workloads.js';

export interface GuestOptions {
  /** 6 bytes. */
  readonly mac: Uint8Array;
  /** IPv4 addresses, 32-bit integers in host order; the network mask counts its bits. */
  readonly address: number;
  readonly mask: number;
  readonly gateway: number;
}

/** The guest that every back end here expects: the addresses of QEMU's user network. */
export const GUEST_DEFAULTS: GuestOptions = {
  mac: parseMac('52:54:00:12:34:56'),
  address: parseIpv4Address('10.0.2.15'),
  mask: parseIpv4Address('255.255.255.0'),
  gateway: parseIpv4Address('10.0.2.2'),
};

export interface DriverOptions {
  readonly device: DeviceOptions;
  readonly loop: LoopOptions;
  readonly workload: WorkloadOptions;
  readonly guest: GuestOptions;
}

const WORKER = 'dist/bench/driver/worker.js';
const BRING_UP_TIMEOUT_MS = 5_000;
const POLL_MS = 10;

export class LoadDriver implements AsyncDisposable {
  private readonly workers: Worker[] = [];
  private readonly exits: Promise<unknown>[] = [];
  private failure: Error | undefined;
  private closed = false;

  private constructor(
    readonly device: DriverDevice,
    readonly network: NetworkState,
    private readonly control: Int32Array,
    private readonly statistics: readonly Float64Array[],
    private readonly wakeFds: readonly number[],
    private readonly dhcp: boolean,
  ) {}

  /**
   * Opens the device and starts the threads. Takes the front end over. The workload waits for `begin`.
   * @throws {FrontEndError} if the back end refuses
   */
  static async start(frontEnd: FrontEnd, options: DriverOptions): Promise<LoadDriver> {
    const path = join(packageRoot(), WORKER);
    if (!existsSync(path)) throw new Error(`${WORKER} is missing; run "npm run build:ts" first`);
    const device = await DriverDevice.open(frontEnd, options.device);
    const { guest, workload, loop } = options;
    const { threads } = options.device;
    const driver = new LoadDriver(
      device,
      NetworkState.create(guest.mac, guest.address, guest.mask, guest.gateway, options.device.mtu),
      createControl(),
      Array.from({ length: threads }, () => createStatistics(options.device.pairs, workload.flows)),
      Array.from({ length: threads }, () => addon.eventfdCreate()),
      loop.dhcp,
    );
    for (let thread = 0; thread < threads; thread++) {
      driver.startThread(path, {
        device: device.description,
        thread,
        wakeFds: driver.wakeFds,
        networkWords: driver.network.words,
        statistics: driver.statistics[thread],
        control: driver.control,
        loop,
        workload,
      });
    }
    return driver;
  }

  private startThread(path: string, setup: ThreadSetup): void {
    const worker = new Worker(path, { workerData: setup });
    worker.on('error', (error: Error) => (this.failure ??= error));
    this.workers.push(worker);
    this.exits.push(new Promise((resolve) => worker.once('exit', resolve)));
  }

  /**
   * Waits until the guest has its addresses.
   * @throws {FrontEndError} if nobody answers ARP or DHCP
   */
  async ready(timeoutMs = BRING_UP_TIMEOUT_MS): Promise<void> {
    if (await this.until(() => this.network.up, timeoutMs)) return;
    const { network } = this;
    const missing =
      this.dhcp && network.lease.server === 0
        ? 'DHCP request'
        : `ARP request for ${formatIpv4Address(network.gateway)}`;
    const counts = this.count();
    const { pairs } = statisticsBetween(
      counts.map(() => 0),
      counts,
      this.device.description.pairs.length,
    );
    const sum = (name: PairCounterName): number => pairs.reduce((total, pair) => total + pair[name], 0);
    throw new FrontEndError(
      `the back end answers no ${missing} (packets sent: ${sum('txPackets')}, received: ${sum('rxPackets')})`,
    );
  }

  /** Gives the threads a command; see `Command`. */
  begin(command: number): void {
    Atomics.or(this.control, COMMANDS, command);
    this.wake();
  }

  end(command: number): void {
    Atomics.and(this.control, COMMANDS, ~command);
    this.wake();
  }

  /** A word of `Status`. */
  status(word: number): number {
    return Atomics.load(this.control, word);
  }

  /** The threads' counts until now, for `statisticsBetween`. */
  count(): Float64Array {
    return sumStatistics(this.statistics);
  }

  /**
   * Waits for a condition, looked at every few milliseconds. Returns whether it came true in time.
   * @throws the error of a thread that failed, or {FrontEndError} when the back end has hung up
   */
  async until(condition: () => boolean, timeoutMs: number): Promise<boolean> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      if (this.failure) throw this.failure;
      if (this.device.frontEnd.isDisconnected()) throw new FrontEndError('the back end has hung up');
      if (condition()) return true;
      if (performance.now() >= deadline) return false;
      await delay(Math.min(POLL_MS, Math.max(deadline - performance.now(), 1)));
    }
  }

  /** Stops the threads and disconnects. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.begin(Command.STOP);
    await Promise.all(this.exits);
    for (const fd of this.wakeFds) addon.close(fd);
    this.device.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private wake(): void {
    for (const fd of this.wakeFds) addon.eventfdSignal(fd);
  }
}
