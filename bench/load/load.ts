/** Runs one load: brings driver and servers up, measures, and takes all down again. */
import { Command, Status } from '../driver/control.js';
import { featureNames } from '../driver/features.js';
import { FrontEnd } from '../driver/frontEnd.js';
import { LoadDriver } from '../driver/loadDriver.js';
import type { DriverOptions } from '../driver/loadDriver.js';
import { formatIpv4Address } from '../../workers/wire/ipv4.js';
import { statisticsBetween } from '../driver/statistics.js';
import type { WorkloadKind } from '../driver/workloads.js';
import { processUsage } from './processUsage.js';
import { cpuUse, isBulk } from './result.js';
import type { LoadResult, LoadWindow, Mode } from './result.js';
import { LoadServers } from './servers.js';

export interface LoadOptions {
  readonly mode: Mode;
  /** Where the back end listens, or, with `listen`, will connect. */
  readonly socket: string;
  readonly listen: boolean;
  readonly driver: DriverOptions;
  readonly seconds: number;
  readonly warmup: number;
  /** Processes whose CPU time is measured; without `serverPid` the servers are started here, with so many threads. */
  readonly pid?: number;
  readonly serverPid?: number;
  readonly serverThreads: number;
  /** Congestion control of the servers started here; the host's if left out. */
  readonly congestion?: string;
}

const WORKLOADS: Readonly<Record<Mode, WorkloadKind>> = {
  crr: 'crr',
  rr: 'rr',
  'bulk-tx': 'upload',
  'bulk-rx': 'download',
  stall: 'crr',
  idle: 'crr',
  dhcp: 'crr',
};
/** Time for all the connects to be sent. */
const STALL_SETTLE_MS = 200;
const IDLE_TIMEOUT_MS = 60_000;

export function workloadOf(mode: Mode): WorkloadKind {
  return WORKLOADS[mode];
}

/** @throws {FrontEndError, ServersError, CompileError} with a message for the user */
export async function runLoad(options: LoadOptions, progress: (line: string) => void): Promise<LoadResult> {
  const { mode, driver: setup } = options;
  const own = options.serverPid === undefined && mode !== 'dhcp';
  const { serverThreads, congestion } = options;
  await using servers = own ? await LoadServers.start(setup.workload.portBase, serverThreads, congestion) : undefined;
  const frontEnd = options.listen ? await FrontEnd.listen(options.socket) : FrontEnd.connect(options.socket);
  await using driver = await LoadDriver.start(frontEnd, setup);
  await driver.ready();
  const run = new Run(options, driver, options.serverPid ?? servers?.pid ?? 0);
  // Awaited here: what is used above is given up when this function returns.
  return await run.go(progress);
}

class Run {
  private readonly windows: LoadWindow[] = [];
  private idle: LoadResult['idle'];

  constructor(
    private readonly options: LoadOptions,
    private readonly driver: LoadDriver,
    private readonly serverPid: number,
  ) {}

  async go(progress: (line: string) => void): Promise<LoadResult> {
    const { mode } = this.options;
    if (mode !== 'dhcp') {
      this.driver.begin(Command.RUN);
      progress(`${mode}: ${this.options.seconds} s after a warm-up of ${this.options.warmup} s`);
      await this.measure(mode === 'stall' || mode === 'idle' ? 'alone' : mode);
      if (mode === 'stall') await this.stall(progress);
      if (mode === 'idle') await this.openIdle(progress);
    }
    return this.result();
  }

  private async stall(progress: (line: string) => void): Promise<void> {
    progress(`${this.options.driver.workload.stalled} connects to a port that does not answer`);
    this.driver.begin(Command.STALL);
    await this.driver.until(() => false, STALL_SETTLE_MS);
    await this.measure('beside stalled connects');
  }

  private async openIdle(progress: (line: string) => void): Promise<void> {
    const wanted = this.options.driver.workload.idle;
    progress(`opening ${wanted} connections`);
    const started = performance.now();
    const { driver } = this;
    driver.end(Command.RUN);
    driver.begin(Command.IDLE);
    const settled = (): boolean => driver.status(Status.IDLE_OPEN) + driver.status(Status.IDLE_FAILED) >= wanted;
    await driver.until(settled, IDLE_TIMEOUT_MS);
    const seconds = (performance.now() - started) / 1000;
    driver.begin(Command.RUN);
    await this.measure('beside idle connections');
    driver.end(Command.RUN);
    driver.begin(Command.PING);
    const open = driver.status(Status.IDLE_OPEN);
    await driver.until(() => driver.status(Status.IDLE_ANSWERED) >= open, this.options.driver.loop.timeoutMs);
    this.idle = {
      open,
      seconds,
      failed: driver.status(Status.IDLE_FAILED),
      answered: driver.status(Status.IDLE_ANSWERED),
    };
  }

  private async measure(name: string): Promise<void> {
    const { options, driver } = this;
    await driver.until(() => false, 1000 * options.warmup);
    const pids = [options.pid ?? 0, this.serverPid, process.pid];
    const usageBefore = pids.map(processUsage);
    const before = driver.count();
    const started = performance.now();
    await driver.until(() => false, 1000 * options.seconds);
    const after = driver.count();
    const seconds = (performance.now() - started) / 1000;
    const usageAfter = pids.map(processUsage);
    const snapshot = statisticsBetween(before, after, options.driver.device.pairs);
    const { operations, bytesSent, bytesReceived } = snapshot.counters;
    const bulk = isBulk(options.mode);
    const bytes = options.mode === 'bulk-tx' ? bytesSent : bytesReceived;
    const units = bulk ? bytes / 1e6 : operations;
    const [backEnd, server, self] = pids.map((_, n) => cpuUse(usageBefore[n], usageAfter[n], seconds, units));
    this.windows.push({
      name,
      seconds,
      rate: (bulk ? 8 * bytes : operations) / seconds,
      ...snapshot,
      ...(backEnd && { backEnd }),
      ...(server && { server }),
      ...(self && { driver: self }),
    });
  }

  private result(): LoadResult {
    const { mode, driver: setup } = this.options;
    const { negotiated } = this.driver.device;
    return {
      mode,
      flows: setup.workload.flows,
      pairs: setup.device.pairs,
      threads: setup.device.threads,
      mtu: this.driver.network.mtu,
      offered: featureNames(negotiated.offered),
      taken: featureNames(negotiated.features),
      windows: this.windows,
      ...(this.idle && { idle: this.idle }),
      ...(setup.loop.dhcp && { lease: this.lease() }),
    };
  }

  private lease(): Record<string, string | number> {
    const { network } = this.driver;
    const { mask, dns, server, seconds } = network.lease;
    return {
      address: formatIpv4Address(network.address),
      mask: formatIpv4Address(mask),
      gateway: formatIpv4Address(network.gateway),
      dns: formatIpv4Address(dns),
      server: formatIpv4Address(server),
      mtu: network.mtu,
      seconds,
    };
  }
}
