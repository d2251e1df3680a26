/** The back ends of the CRR benchmark: the host itself, ours, and the peers, each with a guest of its own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Network } from '../../src/network.js';
import { Sandbox } from '../../src/sandbox/sandbox.js';
import type { SandboxNet } from '../../src/sandbox/sandbox.js';
import type { Peer } from './arguments.js';
import { Passt } from './passt.js';
import { parseCrrRun } from './result.js';
import type { BackEnd } from './rounds.js';

/** What the guests have in common. */
export interface GuestSettings {
  /** Path of the static client. */
  readonly client: string;
  readonly cpus: number;
  /** Port of the server on the host's 127.0.0.1. */
  readonly port: number;
}

/** Where a guest finds the host's 127.0.0.1, behind every back end. */
const HOST_IN_GUEST = '10.0.2.2';
const GUEST_MEMORY_MIB = 256;
/** From boot on a port comes back only after 64,512 others (see crr.c on TIME_WAIT). */
const WIDEN_PORT_RANGE = ['sh', '-c', 'echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range'];

/** The client on the host, without guest and without user-mode network: the floor. */
export function hostDirect(settings: GuestSettings): BackEnd {
  return {
    name: 'host-direct',
    description: 'the client on the host itself, over its loopback',
    run: async (flows, count, warmup) => {
      const args = ['127.0.0.1', settings.port, flows, count, warmup].map(String);
      const child = spawn(settings.client, args, { stdio: ['ignore', 'pipe', 'pipe'] });
      const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      return parseCrrRun(child.exitCode ?? -1, stdout, stderr);
    },
    close: async () => {},
  };
}

/** Slipway over vhost-user, one queue pair per vCPU. */
export async function slipway(settings: GuestSettings, workers: number, mtu: number): Promise<BackEnd> {
  const folder = await mkdtemp(join(tmpdir(), 'slipway-bench-'));
  const path = join(folder, 'slipway.socket');
  const network = await Network.create({ workers, queues: settings.cpus, mtu, allowHostLoopback: true });
  const end = async (): Promise<void> => {
    await network.close();
    await rm(folder, { recursive: true, force: true });
  };
  const description = `vhost-user, ${settings.cpus} queue pairs, ${workers} workers, MTU ${mtu}`;
  return inGuest('slipway', description, settings, end, async () => {
    await network.serve({ path, queues: settings.cpus });
    return { kind: 'vhost-user', path, queues: settings.cpus };
  });
}

/** QEMU's built-in user network, libslirp. */
export function qemuUser(settings: GuestSettings): Promise<BackEnd> {
  return inGuest('qemu-user', 'QEMU -netdev user (libslirp), 1 queue pair', settings, nothing, async () => ({
    kind: 'user',
  }));
}

/** passt through QEMU's `-netdev stream`. */
export async function passtStream(settings: GuestSettings, program: string): Promise<BackEnd> {
  const passt = await Passt.start(program);
  const end = (): Promise<void> => passt[Symbol.asyncDispose]();
  const description = 'passt, QEMU -netdev stream, 1 queue pair, its default MTU';
  return inGuest('passt', description, settings, end, async () => ({ kind: 'stream', path: passt.socket }));
}

/** A vhost-user back end that somebody else has started and that leads 10.0.2.2 to the host's 127.0.0.1. */
export function vhostUserPeer(settings: GuestSettings, peer: Peer): Promise<BackEnd> {
  const description = `vhost-user at ${peer.path}, ${peer.queues} queue pair${peer.queues === 1 ? '' : 's'}`;
  return inGuest(peer.name, description, settings, nothing, async () => ({
    kind: 'vhost-user',
    path: peer.path,
    queues: peer.queues,
  }));
}

const nothing = async (): Promise<void> => {};

/**
 * Boots a guest on the network that `attach` gives it. `end` ends that network once the guest has gone, also if it
 * can't be started.
 */
async function inGuest(
  name: string,
  description: string,
  settings: GuestSettings,
  end: () => Promise<void>,
  attach: () => Promise<SandboxNet>,
): Promise<BackEnd> {
  try {
    const sandbox = await Sandbox.start({
      net: await attach(),
      cpus: settings.cpus,
      memoryMiB: GUEST_MEMORY_MIB,
      files: { '/bin/crr': settings.client },
    });
    await sandbox.run(WIDEN_PORT_RANGE);
    return {
      name,
      description,
      run: async (flows, count, warmup) => {
        const args = [HOST_IN_GUEST, settings.port, flows, count, warmup].map(String);
        const { exitCode, stdout, stderr } = await sandbox.run(['/bin/crr', ...args]);
        return parseCrrRun(exitCode, stdout, stderr);
      },
      close: async () => {
        await sandbox.close();
        await end();
      },
    };
  } catch (error) {
    await end();
    throw error;
  }
}
