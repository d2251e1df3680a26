/** The driver and a network to drive, both in this thread: a vhost-user server of the project with a test's data plane behind it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createControl, COMMANDS, Command } from '../../../bench/driver/control.js';
import { DEVICE_DEFAULTS, DriverDevice } from '../../../bench/driver/device.js';
import type { DeviceOptions } from '../../../bench/driver/device.js';
import { DriverThread } from '../../../bench/driver/driverThread.js';
import { LOOP_DEFAULTS } from '../../../bench/driver/eventLoop.js';
import type { LoopOptions } from '../../../bench/driver/eventLoop.js';
import { FrontEnd } from '../../../bench/driver/frontEnd.js';
import { GUEST_DEFAULTS } from '../../../bench/driver/loadDriver.js';
import { NetworkState } from '../../../bench/driver/network.js';
import { createStatistics, statisticsBetween, sumStatistics } from '../../../bench/driver/statistics.js';
import type { Snapshot } from '../../../bench/driver/statistics.js';
import type { WorkloadOptions } from '../../../bench/driver/workloads.js';
import { addon } from '../../../src/native/addon.js';
import { RX_BUFFER } from './peerNetwork.js';
import type { PeerNetwork, PeerOptions } from './peerNetwork.js';
import { PeerServer, WORKLOAD } from './peerServer.js';

const DEADLINE_MS = 40_000;

export interface HarnessOptions {
  readonly device?: Partial<DeviceOptions>;
  readonly workload?: Partial<WorkloadOptions>;
  readonly loop?: Partial<LoopOptions>;
  readonly peer?: PeerOptions;
}

export class DriverHarness implements AsyncDisposable {
  readonly control = createControl();
  private readonly start: Float64Array;
  private readonly threads: DriverThread[] = [];

  private constructor(
    private readonly folder: string,
    private readonly server: PeerServer,
    readonly device: DriverDevice,
    private readonly statistics: readonly Float64Array[],
    private readonly wakeFds: readonly number[],
    readonly network: NetworkState,
  ) {
    this.start = sumStatistics(statistics);
  }

  static async open(options: HarnessOptions = {}): Promise<DriverHarness> {
    const folder = mkdtempSync(join(tmpdir(), 'slipway-driver-'));
    const path = join(folder, 'socket');
    const deviceOptions = { ...DEVICE_DEFAULTS, rxBufferSize: RX_BUFFER, ...options.device };
    const { pairs, threads, mtu } = deviceOptions;
    const server = new PeerServer(path, { pairs, mtu, ...(options.peer && { peer: options.peer }) });
    const device = await DriverDevice.open(FrontEnd.connect(path), deviceOptions).catch(async (error: unknown) => {
      await server.close();
      rmSync(folder, { recursive: true });
      throw error;
    });
    const workload = { ...WORKLOAD, ...options.workload };
    const { mac, address, mask, gateway } = GUEST_DEFAULTS;
    const network = NetworkState.create(mac, address, mask, gateway, mtu);
    const statistics = Array.from({ length: threads }, () => createStatistics(pairs, workload.flows));
    const wakeFds = Array.from({ length: threads }, () => addon.eventfdCreate());
    const harness = new DriverHarness(folder, server, device, statistics, wakeFds, network);
    harness.threads.push(
      ...statistics.map(
        (counts, thread) =>
          new DriverThread({
            device: device.description,
            thread,
            wakeFds,
            networkWords: network.words,
            statistics: counts,
            control: harness.control,
            loop: { ...LOOP_DEFAULTS, rtoMs: 20, strictChecksums: true, ...options.loop },
            workload,
          }),
      ),
    );
    return harness;
  }

  get peer(): PeerNetwork {
    return this.server.network;
  }

  command(bits: number): void {
    this.control[COMMANDS] = bits;
  }

  /** Lets both sides run by turns until the condition holds. Returns whether it came to hold before the tests' time limit. */
  async until(condition: () => boolean): Promise<boolean> {
    const deadline = Date.now() + DEADLINE_MS;
    while (!condition()) {
      if (Date.now() > deadline) return false;
      for (const thread of this.threads) thread.turn(0);
      this.peer.step();
      await new Promise((resolve) => setImmediate(resolve));
    }
    return true;
  }

  snapshot(): Snapshot {
    return statisticsBetween(this.start, sumStatistics(this.statistics), this.device.description.pairs.length);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.command(Command.STOP);
    for (const thread of this.threads) thread.close();
    this.device.close();
    await this.server.close();
    for (const fd of this.wakeFds) addon.close(fd);
    rmSync(this.folder, { recursive: true });
  }
}
