/** The two ways to reach a device on a running data plane, for tests of what must hold by either. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DeviceConfig } from '../../device/dataPlane.js';
import { createLogger } from '../../src/log.js';
import { Network } from '../../src/network.js';
import { chooseEngine } from '../../workers/engine/chooseEngine.js';
import { ENGINE } from '../engineUnderTest.js';
import type { CounterName } from '../../workers/counters.js';
import { DEFAULT_ADDRESSES } from '../../workers/nat/addresses.js';
import { DEFAULT_TCP_TIMES, DEFAULT_UDP_TIMES } from '../../workers/nat/settings.js';
import { Pool } from '../../workers/pool.js';
import type { PoolDevice } from '../../workers/poolDevice.js';
import { ControlGuest } from './controlGuest.js';
import { PciGuest, type PciGuestOptions } from './pci/pciGuest.js';
import { PAIRS, type QueueGuest } from './queueGuest.js';

export interface GuestOptions {
  readonly features?: bigint;
  readonly rings?: number[];
  /** Bytes of each receive buffer. */
  readonly receiveBuffer?: number;
}

/** A device of two pairs, to which one guest after the other attaches. */
export interface Front {
  open(options?: GuestOptions): Promise<QueueGuest>;
  /** A counter of the network, over all workers. */
  counter(name: CounterName): number;
  close(): Promise<void>;
}

export const CONFIG: DeviceConfig = { mac: Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56), mtu: 1500, pairs: PAIRS };

export class VhostUserFront implements Front {
  private constructor(
    private readonly network: Network,
    private readonly folder: string,
    readonly path: string,
  ) {}

  static async create(workers: number): Promise<VhostUserFront> {
    const folder = mkdtempSync(join(tmpdir(), 'slipway-front-'));
    const path = join(folder, 'socket');
    const network = await Network.create({
      engine: ENGINE,
      workers,
      queues: PAIRS,
      allowHostLoopback: true,
      log: createLogger('silent'),
    });
    await network.serve({ path });
    return new VhostUserFront(network, folder, path);
  }

  open(options?: GuestOptions): Promise<ControlGuest> {
    return ControlGuest.open(this.path, options);
  }

  /** Rings may be left disabled, which only this front knows. */
  openRings(options?: Parameters<typeof ControlGuest.open>[1]): Promise<ControlGuest> {
    return ControlGuest.open(this.path, options);
  }

  counter(name: CounterName): number {
    return this.network.stats().counters[name];
  }

  injectFault(worker: number): Promise<void> {
    return this.network.injectFault(worker);
  }

  async close(): Promise<void> {
    await this.network.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export class PciFront implements Front {
  private constructor(
    readonly pool: Pool,
    readonly dataPlane: PoolDevice,
  ) {}

  static async create(workers: number): Promise<PciFront> {
    const pool = new Pool({
      workers,
      pairs: PAIRS,
      devices: 1,
      flows: 64,
      pinned: false,
      engine: chooseEngine(ENGINE).engine,
      nat: {
        addresses: DEFAULT_ADDRESSES,
        allowHostLoopback: true,
        times: DEFAULT_TCP_TIMES,
        udpTimes: DEFAULT_UDP_TIMES,
        resolver: new Int32Array(1),
      },
      log: { warn: () => undefined },
    });
    await pool.ready();
    return new PciFront(pool, await pool.attach(CONFIG));
  }

  open(options?: PciGuestOptions): Promise<PciGuest> {
    return PciGuest.open(this.dataPlane, CONFIG, options);
  }

  counter(name: CounterName): number {
    return this.pool.states().reduce((sum, { counters }) => sum + counters[name], 0);
  }

  async close(): Promise<void> {
    await this.dataPlane.detach();
    await this.pool.close();
  }
}

/** Each front with one worker and with two, for `describe.each`. */
export const FRONTS: readonly (readonly [name: string, workers: number, create: () => Promise<Front>])[] = [
  ['vhost-user', 1, () => VhostUserFront.create(1)],
  ['vhost-user', 2, () => VhostUserFront.create(2)],
  ['PCI', 1, () => PciFront.create(1)],
  ['PCI', 2, () => PciFront.create(2)],
];
