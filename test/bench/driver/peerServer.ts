/** What the tests of the load driver drive: a vhost-user server of the project with a test's network behind it. */
import { GUEST_DEFAULTS } from '../../../bench/driver/loadDriver.js';
import type { WorkloadOptions } from '../../../bench/driver/workloads.js';
import { VhostUserServer } from '../../../device/vhostUser/server.js';
import { PeerNetwork } from './peerNetwork.js';
import type { PeerOptions } from './peerNetwork.js';

/** One flow of CRRs, every byte compared. */
export const WORKLOAD: WorkloadOptions = {
  kind: 'crr',
  flows: 1,
  bytes: 1,
  verify: true,
  stalled: 0,
  idle: 0,
  address: GUEST_DEFAULTS.gateway,
  portBase: 18_000,
  hopMs: 0,
};

export interface PeerServerOptions {
  readonly pairs: number;
  readonly mtu?: number;
  /** The server's end of the socket. */
  readonly mode?: 'server' | 'client';
  readonly peer?: PeerOptions;
}

export class PeerServer implements AsyncDisposable {
  readonly network: PeerNetwork;
  private readonly server: VhostUserServer;

  /** Listens at `path`, or, as a client, connects to whoever does. */
  constructor(path: string, { pairs, mtu = 1500, mode = 'server', peer }: PeerServerOptions) {
    this.network = new PeerNetwork(pairs, peer);
    const log = { info: () => undefined, warn: () => undefined };
    this.server = new VhostUserServer({
      path,
      mode,
      device: this.network,
      config: { mac: GUEST_DEFAULTS.mac, mtu, pairs },
      log,
    });
    this.server.start();
  }

  async close(): Promise<void> {
    await this.server.close();
    this.network.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
