/** A network and servers to reach through it, in this process, and load drivers that play its guests. Workers load from dist/. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { Command, Status } from '../../bench/driver/control.js';
import type { LoadDriver } from '../../bench/driver/loadDriver.js';
import { statisticsBetween } from '../../bench/driver/statistics.js';
import type { Snapshot } from '../../bench/driver/statistics.js';
import { LoadServers } from '../../bench/load/servers.js';
import { createLogger } from '../../src/log.js';
import { Network } from '../../src/network.js';
import { ENGINE } from '../engineUnderTest.js';
import type { NetworkOptions } from '../../src/network.js';
import { expectClean } from '../bench/driver/clean.js';
import { DEADLINE_MS, PORT_BASE, connectDriver } from './guest.js';
import type { DriveOptions } from './guest.js';

/** Nobody listens here: the last of the ports that this process may use, after the servers'. */
export const REFUSED_PORT = PORT_BASE + 19;
const POLL_MS = 10;

/** Waits for a condition. Fails the test when it doesn't come true in time. */
export async function eventually(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS;
  while (!condition()) {
    if (performance.now() > deadline) expect.fail(`in vain: ${what}`);
    await delay(POLL_MS);
  }
}

/** A driver whose counts begin now. */
export class Load implements AsyncDisposable {
  private readonly start: Float64Array;

  constructor(
    readonly driver: LoadDriver,
    private readonly pairs: number,
  ) {
    this.start = driver.count();
    driver.begin(Command.RUN);
  }

  get counts(): Snapshot {
    return statisticsBetween(this.start, this.driver.count(), this.pairs);
  }

  get operations(): number {
    return this.counts.counters.operations;
  }

  get transfersDone(): number {
    return this.driver.status(Status.TRANSFERS_DONE);
  }

  /** Bytes that moved, both directions. */
  get bytes(): number {
    const { bytesSent, bytesReceived } = this.counts.counters;
    return bytesSent + bytesReceived;
  }

  /** Waits for a condition. Fails the test when it doesn't come true in time. */
  async until(condition: () => boolean, what: string): Promise<void> {
    if (await this.driver.until(condition, DEADLINE_MS)) return;
    expect.fail(`in vain: ${what}; ${JSON.stringify(this.counts.counters)}`);
  }

  /** So many operations more. */
  async more(operations: number): Promise<void> {
    const goal = this.operations + operations;
    await this.until(() => this.operations >= goal, `${operations} operations more`);
  }

  /** So many bytes more. */
  async moreBytes(bytes: number): Promise<void> {
    const goal = this.bytes + bytes;
    await this.until(() => this.bytes >= goal, `${bytes} bytes more`);
  }

  /** Nothing was lost, wrong or refused. */
  expectClean(): void {
    expectClean(this.counts);
  }

  /** Lets present operations end and begins no more. */
  stop(): void {
    this.driver.end(Command.RUN);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.driver.close();
  }
}

export class LoadedNetwork implements AsyncDisposable {
  private constructor(
    private readonly folder: string,
    readonly path: string,
    readonly network: Network,
    readonly servers: LoadServers,
    readonly pairs: number,
  ) {}

  static async start(options: NetworkOptions): Promise<LoadedNetwork> {
    const folder = mkdtempSync(join(tmpdir(), 'slipway-e2e-'));
    const path = join(folder, 'socket');
    const servers = await LoadServers.start(PORT_BASE, 1);
    const network = await Network.create({
      engine: ENGINE,
      allowHostLoopback: true,
      log: createLogger('silent'),
      ...options,
    });
    await network.serve({ path });
    // A worker that warms up has descriptors and memory that are gone afterwards.
    await eventually(() => network.stats().workers.every(({ cycles }) => cycles > 0), 'workers are warm');
    return new LoadedNetwork(folder, path, network, servers, options.queues ?? 1);
  }

  /** A path for another socket. */
  otherPath(name: string): string {
    return join(this.folder, name);
  }

  /** Starts a load. */
  async load(options: DriveOptions = {}): Promise<Load> {
    const pairs = options.device?.pairs ?? this.pairs;
    return new Load(await connectDriver(options.path ?? this.path, pairs, options), pairs);
  }

  get flows(): number {
    return this.network.stats().flows;
  }

  get deaths(): number {
    return this.network.stats().workers.reduce((sum, { deaths }) => sum + deaths, 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.network.close();
    await this.servers.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
