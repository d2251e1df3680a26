/** A server with a fake data plane at a socket of its own, and what tests wait for. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DeviceConfig } from '../../../device/dataPlane.js';
import { VhostUserServer } from '../../../device/vhostUser/server.js';
import type { VhostUserServerOptions } from '../../../device/vhostUser/server.js';
import { FakeDataPlane } from './fakeDataPlane.js';
import * as fe from './frontEnd.js';

export const CONFIG: DeviceConfig = { mac: Uint8Array.of(0x52, 0x54, 0, 1, 2, 3), mtu: 65520, pairs: 2 };
export const OFFERED = [0n, 1n, 3n, 5n, 7n, 8n, 11n, 12n, 15n, 16n, 17n, 22n, 28n, 29n, 32n].reduce(
  (bits, bit) => bits | (1n << bit),
  0n,
);

export class Harness implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'slipway-vu-'));
  readonly path = join(this.folder, 'socket');
  readonly device: FakeDataPlane;
  readonly infos: string[] = [];
  readonly warnings: string[] = [];
  readonly server: VhostUserServer;
  private connects = 0;
  private disconnects = 0;
  private readonly changed: (() => void)[] = [];

  constructor(options: Partial<VhostUserServerOptions> & { pairs?: number } = {}) {
    const { pairs = CONFIG.pairs, ...rest } = options;
    this.device = new FakeDataPlane(pairs);
    this.server = new VhostUserServer({
      path: this.path,
      mode: 'server',
      device: this.device,
      config: { ...CONFIG, pairs },
      log: { info: (text) => this.infos.push(text), warn: (text) => this.warnings.push(text) },
      onDisconnect: () => {
        this.disconnects++;
        for (const notify of this.changed.splice(0)) notify();
      },
      ...rest,
    });
  }

  static started(options: Partial<VhostUserServerOptions> & { pairs?: number } = {}): Harness {
    const harness = new Harness(options);
    harness.server.start();
    return harness;
  }

  connect(): fe.FrontEnd {
    this.connects++;
    return fe.FrontEnd.connect(this.path);
  }

  /** Closes the front end and waits until the server has released it. */
  async leave(frontEnd: fe.FrontEnd): Promise<void> {
    frontEnd.close();
    await this.idle();
  }

  /** Resolves once every front end that `connect` made has been served to its end. */
  async idle(): Promise<void> {
    while (this.disconnects < this.connects) await new Promise<void>((resolve) => this.changed.push(resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Negotiates, shares the guest's memory and sets up ring 0, with acknowledgements, as QEMU does. */
export async function bringUp(frontEnd: fe.FrontEnd, guest: fe.Guest): Promise<void> {
  await frontEnd.ask(fe.GET_FEATURES);
  await frontEnd.ask(fe.GET_PROTOCOL_FEATURES);
  frontEnd.send(fe.SET_PROTOCOL_FEATURES, fe.u64(fe.PROTOCOL_F_REPLY_ACK | 1n));
  frontEnd.send(fe.SET_OWNER);
  frontEnd.send(fe.SET_FEATURES, fe.u64(OFFERED | fe.F_PROTOCOL_FEATURES));
  await obeyed(frontEnd, fe.SET_MEM_TABLE, fe.memoryTable([guest.region]), [guest.memory]);
  startRing(frontEnd, guest, 0);
  await obeyed(frontEnd, fe.SET_VRING_ENABLE, fe.state(0, 1));
}

/** Sends a request with NEED_REPLY. Throws if it is refused. */
export async function obeyed(
  frontEnd: fe.FrontEnd,
  request: number,
  payload: Uint8Array,
  fds: readonly number[] = [],
): Promise<void> {
  if ((await frontEnd.ack(request, payload, fds)) !== 0n) throw new Error(`request ${request} was refused`);
}

/** What QEMU 10 sends for `-netdev vhost-user,queues=2` before the guest runs: all but CONFIG is accepted. */
export async function qemuInit(frontEnd: fe.FrontEnd, guest: fe.Guest): Promise<void> {
  for (let pair = 0; pair < 2; pair++) {
    await frontEnd.ask(fe.GET_FEATURES);
    const protocolFeatures = (await frontEnd.askU64(fe.GET_PROTOCOL_FEATURES)) & ~(1n << 9n);
    frontEnd.send(fe.SET_PROTOCOL_FEATURES, fe.u64(protocolFeatures));
    if (pair === 0) {
      await frontEnd.ask(fe.GET_QUEUE_NUM);
      await frontEnd.ask(fe.GET_MAX_MEM_SLOTS);
      frontEnd.send(fe.SET_OWNER);
    }
    await frontEnd.ask(fe.GET_FEATURES);
    for (const ring of [0, 1]) frontEnd.send(fe.SET_VRING_CALL, fe.u64(2 * pair + ring), [guest.call]);
  }
  for (const ring of [0, 1]) await obeyed(frontEnd, fe.SET_VRING_ENABLE, fe.state(ring, 1));
}

/** What QEMU 10 sends when the guest's driver is ready; with a `base`, memory is known already. */
export async function qemuStart(frontEnd: fe.FrontEnd, guest: fe.Guest, base = 0): Promise<void> {
  for (let pair = 0; pair < 2; pair++) {
    frontEnd.send(fe.SET_FEATURES, fe.u64((OFFERED & ~(1n << 17n)) | fe.F_PROTOCOL_FEATURES));
    if (pair === 0 && base === 0) {
      await obeyed(frontEnd, fe.ADD_MEM_REG, fe.singleRegion(guest.region), [guest.memory]);
    }
    for (const ring of [0, 1]) startRing(frontEnd, guest, 2 * pair + ring, base);
  }
  for (const ring of [0, 1, 2, 3]) await obeyed(frontEnd, fe.SET_VRING_ENABLE, fe.state(ring, 1));
}

/** The messages that start ring `index`, in QEMU's order. */
export function startRing(frontEnd: fe.FrontEnd, guest: fe.Guest, index: number, base = 0): void {
  frontEnd.send(fe.SET_VRING_NUM, fe.state(index, 256));
  frontEnd.send(fe.SET_VRING_BASE, fe.state(index, base));
  frontEnd.send(fe.SET_VRING_ADDR, guest.ringAddress(index));
  frontEnd.send(fe.SET_VRING_KICK, fe.u64(index), [guest.kick]);
  frontEnd.send(fe.SET_VRING_CALL, fe.u64(index), [guest.call]);
}
