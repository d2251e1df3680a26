/** Runs one load: brings driver and servers up, measures, and takes all down again. */
import { SlipwayError, UsageError } from '../../src/errors.js';
import { Command, Status } from '../driver/control.js';
import { LOOP_DEFAULTS } from '../driver/eventLoop.js';
import { featureNames } from '../driver/features.js';
import { FrontEnd } from '../driver/frontEnd.js';
import { LoadDriver } from '../driver/loadDriver.js';
import type { DriverOptions } from '../driver/loadDriver.js';
import { formatIpv4Address } from '../../workers/wire/ipv4.js';
import { statisticsBetween } from '../driver/statistics.js';
import { IP_HEADER, UDP_HEADER } from '../driver/wire.js';
import { isUdp } from '../driver/workloads.js';
import type { WorkloadKind, WorkloadOptions } from '../driver/workloads.js';
import { processUsage } from './processUsage.js';
import type { ProcessUsage } from './processUsage.js';
import { cpuUse, isBulk, isFlood } from './result.js';
import type { Flood, LoadResult, LoadWindow, Mode } from './result.js';
import { settledServerCounts } from './serverCounts.js';
import type { ServerCounts } from './serverCounts.js';
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
  'udp-rr': 'udp-rr',
  'udp-flood': 'udp-flood',
  'udp-flood-rx': 'udp-flood-rx',
  stall: 'crr',
  idle: 'crr',
  dhcp: 'crr',
};
/** Time for all the connects to be sent. */
const STALL_SETTLE_MS = 200;
const IDLE_TIMEOUT_MS = 60_000;
/** As long as TCP waits at least before it sends again (`rtoMs`). */
const ECHO_TIMEOUT_MS = 200;

/** Not one datagram got through. */
export class NoDatagramError extends SlipwayError {
  override readonly name = 'NoDatagramError';
}

export function workloadOf(mode: Mode): WorkloadKind {
  return WORKLOADS[mode];
}

/** How long an operation may take, ms, unless somebody says otherwise. */
export function timeoutOf(mode: Mode): number {
  return mode === 'udp-rr' ? ECHO_TIMEOUT_MS : LOOP_DEFAULTS.timeoutMs;
}

/** @throws {UsageError} if a workload's datagrams are larger than the MTU allows; nobody fragments here */
export function requireFit({ kind, bytes }: Pick<WorkloadOptions, 'kind' | 'bytes'>, mtu: number): void {
  const most = mtu - IP_HEADER - UDP_HEADER;
  if (isUdp(kind) && bytes > most) {
    throw new UsageError(`--size ${bytes}: a datagram has at most ${most} bytes with an MTU of ${mtu}`);
  }
}

/** @throws {FrontEndError, ServersError, CompileError, NoDatagramError, UsageError} with a message for the user */
export async function runLoad(options: LoadOptions, progress: (line: string) => void): Promise<LoadResult> {
  const { mode, driver: setup } = options;
  const own = options.serverPid === undefined && mode !== 'dhcp';
  const { serverThreads, congestion } = options;
  await using servers = own ? await LoadServers.start(setup.workload.portBase, serverThreads, congestion) : undefined;
  const frontEnd = options.listen ? await FrontEnd.listen(options.socket) : FrontEnd.connect(options.socket);
  await using driver = await LoadDriver.start(frontEnd, setup);
  await driver.ready();
  requireFit(setup.workload, driver.network.mtu);
  const run = new Run(options, driver, options.serverPid ?? servers?.pid ?? 0);
  // Awaited here: what is used above is given up when this function returns.
  return await run.go(progress);
}

/** A moment, and what had happened until then. */
interface Measured {
  /** ms. */
  readonly at: number;
  readonly counts: Float64Array;
  /** Of back end, servers and driver. */
  readonly usage: readonly (ProcessUsage | undefined)[];
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
      if (isFlood(mode)) await this.measureFlood();
      else await this.measure(mode === 'stall' || mode === 'idle' ? 'alone' : mode);
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
    const before = this.measured();
    await driver.until(() => false, 1000 * options.seconds);
    const after = this.measured();
    const { counters } = statisticsBetween(before.counts, after.counts, options.driver.device.pairs);
    const bulk = isBulk(options.mode);
    const bytes = options.mode === 'bulk-tx' ? counters.bytesSent : counters.bytesReceived;
    const units = bulk ? bytes / 1e6 : counters.operations;
    if (options.mode === 'udp-rr' && counters.operations === 0) {
      throw new NoDatagramError(
        `no echo came back to any of ${counters.datagramsSent} datagrams: the back end answers no UDP`,
      );
    }
    this.windows.push(this.window(name, before, after, units, bulk ? 8 * bytes : counters.operations));
  }

  /** What is on its way is let arrive before and after the window, so that what does not arrive is lost. */
  private async measureFlood(): Promise<void> {
    const { options, driver } = this;
    const { portBase } = options.driver.workload;
    await driver.until(() => false, 1000 * options.warmup);
    driver.end(Command.RUN);
    const hostBefore = await settledServerCounts(portBase);
    const before = this.measured();
    driver.begin(Command.RUN);
    await driver.until(() => false, 1000 * options.seconds);
    driver.end(Command.RUN);
    const end = this.measured();
    const hostAfter = await settledServerCounts(portBase);
    const after = { ...end, counts: driver.count() };
    const since = (count: keyof ServerCounts): number => hostAfter[count] - hostBefore[count];
    const { counters } = statisticsBetween(before.counts, after.counts, options.driver.device.pairs);
    const { datagramsSent, datagramsReceived, bytesReceived, badData } = counters;
    const flood: Flood =
      options.mode === 'udp-flood'
        ? { sent: datagramsSent, arrived: since('datagrams'), bytes: since('bytes'), wrong: since('wrong') }
        : { sent: since('sent'), arrived: datagramsReceived, bytes: bytesReceived, wrong: badData };
    if (flood.arrived === 0) {
      throw new NoDatagramError(`no datagram arrived, ${flood.sent} were sent: the back end forwards no UDP`);
    }
    this.windows.push({ ...this.window(options.mode, before, after, flood.arrived, flood.arrived), flood });
  }

  private measured(): Measured {
    const pids = [this.options.pid ?? 0, this.serverPid, process.pid];
    return { at: performance.now(), counts: this.driver.count(), usage: pids.map(processUsage) };
  }

  /** @param units what CPU is given per; `amount` what the rate is of */
  private window(name: string, before: Measured, after: Measured, units: number, amount: number): LoadWindow {
    const seconds = (after.at - before.at) / 1000;
    const [backEnd, server, self] = before.usage.map((usage, n) => cpuUse(usage, after.usage[n], seconds, units));
    return {
      name,
      seconds,
      rate: amount / seconds,
      ...statisticsBetween(before.counts, after.counts, this.options.driver.device.pairs),
      ...(backEnd && { backEnd }),
      ...(server && { server }),
      ...(self && { driver: self }),
    };
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
