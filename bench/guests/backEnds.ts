/** The back ends that clients are run behind: the host itself, ours, and the peers, each with a guest of its own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { basename } from 'node:path';
import { text } from 'node:stream/consumers';
import { SandboxError } from '../../src/errors.js';
import { Network } from '../../src/network.js';
import { Sandbox } from '../../src/sandbox/sandbox.js';
import type { SandboxOptions } from '../../src/sandbox/sandbox.js';
import { BackEndProcess } from '../peers/backEndProcess.js';
import { passtCommand, passtMode, passtVersion } from '../peers/passt.js';
import type { Passt } from '../peers/passt.js';
import type { Peer } from '../peers/peer.js';
import type { ClientExit } from './result.js';

/** Where a client can be run. Opened once; its guest keeps running, idle, while others are measured. */
export interface BackEnd {
  readonly name: string;
  /** How it was set up, in words, for the report. */
  readonly description: string;
  /** The address at which the client finds the host's 127.0.0.1. */
  readonly host: string;
  /** Runs the client. Rejects if it can't be run. */
  run(args: readonly (string | number)[]): Promise<ClientExit>;
  /** Ends the guest and whatever serves it; a run in progress rejects. May be called again. */
  close(): Promise<void>;
}

/** What the guests have in common. */
export interface GuestSettings {
  /** Path of the static client. */
  readonly client: string;
  readonly cpus: number;
}

/** Where a guest finds the host's 127.0.0.1, behind every back end. */
const HOST_IN_GUEST = '10.0.2.2';
const GUEST_MEMORY_MIB = 256;
/** All ports, and few of them kept in TIME_WAIT: a guest has one address to connect from (see crr.c). */
const MANY_CONNECTIONS = 'echo 1024 65535 > ip_local_port_range && echo 4096 > tcp_max_tw_buckets';

/** The client on the host, without guest and without user-mode network: the floor. */
export function hostDirect(client: string): BackEnd {
  return {
    name: 'host-direct',
    description: 'the client on the host itself, over its loopback',
    host: '127.0.0.1',
    run: async (args) => {
      const child = spawn(client, args.map(String), { stdio: ['ignore', 'pipe', 'pipe'] });
      const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      return { exitCode: child.exitCode ?? -1, stdout, stderr };
    },
    close: async () => {},
  };
}

/** How our network gets to its guest: over vhost-user to QEMU, or as the network card of our own VMM. */
const SLIPWAY = {
  slipway: { vmm: 'qemu', way: 'vhost-user' },
  'slipway-vmm': { vmm: 'kvm', way: "Slipway's own VMM" },
} as const;

/** Slipway, one queue pair per vCPU. */
export async function slipway(
  name: keyof typeof SLIPWAY,
  settings: GuestSettings,
  workers: number,
  mtu: number,
): Promise<BackEnd> {
  const { vmm, way } = SLIPWAY[name];
  const queues = settings.cpus;
  const network = await Network.create({ workers, queues, mtu, allowHostLoopback: true });
  const description = `${way}, ${counted(queues, 'queue pair')}, ${counted(workers, 'worker')}, MTU ${mtu}`;
  return inGuest(name, description, settings, { network, queues, vmm }, () => network.close());
}

/** QEMU's built-in user network, libslirp. */
export function qemuUser(settings: GuestSettings): Promise<BackEnd> {
  return inGuest('qemu-user', 'QEMU -netdev user (libslirp), 1 queue pair', settings, { net: { kind: 'user' } });
}

/** passt over vhost-user, or through QEMU's `-netdev stream` where it is too old for that. */
export async function passtBackEnd(settings: GuestSettings, passt: Passt): Promise<BackEnd> {
  const mode = passtMode(passt);
  const process = await BackEndProcess.start((socket) => passtCommand(passt, mode, socket));
  const description = `${passtVersion(passt)}, ${mode}, 1 queue pair, its default MTU`;
  const { socket: path } = process;
  const net = mode === 'vhost-user' ? { kind: mode, path, queues: 1 } : { kind: mode, path };
  return inGuest(passt.name, description, settings, { net }, () => process.close());
}

/** A vhost-user back end that somebody else has started and that leads 10.0.2.2 to the host's 127.0.0.1. */
export function vhostUserPeer(settings: GuestSettings, { name, path, queues }: Peer): Promise<BackEnd> {
  const description = `vhost-user at ${path}, ${counted(queues, 'queue pair')}`;
  return inGuest(name, description, settings, { net: { kind: 'vhost-user', path, queues } });
}

/**
 * Boots a guest on a network. `endNetwork` ends that network once the guest has gone, also if the guest doesn't start.
 * @throws {SandboxError} if the guest doesn't start, or gets no address
 */
async function inGuest(
  name: string,
  description: string,
  settings: GuestSettings,
  network: Pick<SandboxOptions, 'network' | 'queues' | 'vmm' | 'net'>,
  endNetwork: () => Promise<void> = async () => {},
): Promise<BackEnd> {
  let sandbox: Sandbox | undefined;
  let closing: Promise<void> | undefined;
  const end = async (): Promise<void> => {
    await sandbox?.close();
    await endNetwork();
  };
  const close = (): Promise<void> => (closing ??= end());
  try {
    const program = `/bin/${basename(settings.client)}`;
    const guest = { cpus: settings.cpus, memoryMiB: GUEST_MEMORY_MIB, files: { [program]: settings.client } };
    const booted = (sandbox = await Sandbox.start({ ...guest, ...network }));
    if (booted.networkComplaint !== '') throw new SandboxError(booted.networkComplaint);
    const prepared = await booted.run(['sh', '-c', MANY_CONNECTIONS], { folder: '/proc/sys/net/ipv4' });
    if (prepared.exitCode !== 0) throw new SandboxError(`the guest's ports can't be set: ${prepared.stderr.trim()}`);
    const run: BackEnd['run'] = (args) => booted.run([program, ...args.map(String)]);
    return { name, description, host: HOST_IN_GUEST, run, close };
  } catch (error) {
    await close();
    throw error;
  }
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
