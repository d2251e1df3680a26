/** Who is measured: ours with each engine and number of workers, the peers, and the loopback without any of them. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ENGINE_CHOICES } from '../../workers/engine/engine.js';
import { packageRoot } from '../../src/packageRoot.js';
import { BackEndProcess } from '../peers/backEndProcess.js';
import type { ProgramCommand } from '../peers/backEndProcess.js';
import { PASST_MTU, passtCommand, passtVersion } from '../peers/passt.js';
import type { Passt } from '../peers/passt.js';
import type { Peer } from '../peers/peer.js';
import type { ContenderInfo } from './result.js';

/** A back end that is running. */
export interface OpenBackEnd extends AsyncDisposable {
  /** Its vhost-user socket. */
  readonly socket: string;
  /** Its process, if it is known. */
  readonly pid: number | undefined;
}

export interface Contender {
  readonly info: ContenderInfo;
  /** Starts it for one measurement; `direct` has nothing to start. */
  readonly open?: () => Promise<OpenBackEnd>;
}

export type Engine = Exclude<(typeof ENGINE_CHOICES)[number], 'auto'>;

/** All engines by name: `auto` is one of the others. */
export const NAMED_ENGINES: readonly Engine[] = ENGINE_CHOICES.filter((engine) => engine !== 'auto');

export interface ContenderOptions {
  readonly engines: readonly Engine[];
  /** Numbers of workers, and of queue pairs with them. */
  readonly workers: readonly number[];
  /** Of our own network, bytes. */
  readonly mtu: number;
  readonly passt: readonly Passt[];
  readonly peers: readonly Peer[];
  readonly direct: boolean;
}

export function listContenders(options: ContenderOptions): readonly Contender[] {
  return [
    ...options.engines.flatMap((engine) => options.workers.map((workers) => slipway(engine, workers, options.mtu))),
    ...options.passt.map(passt),
    ...options.peers.map(peer),
    ...(options.direct ? [direct()] : []),
  ];
}

function slipway(engine: Engine, workers: number, mtu: number): Contender {
  const command = (socket: string): ProgramCommand => [
    process.execPath,
    join(packageRoot(), 'dist/src/cli/main.js'),
    ...`serve --vhost-user ${socket} --queues ${workers} --workers ${workers} --engine ${engine}`.split(' '),
    ...`--mtu ${mtu} --allow-host-loopback`.split(' '),
  ];
  return {
    info: {
      name: `slipway-${engine}-${workers}`,
      label: `Slipway ${engine}${workers === 1 ? '' : `, ${workers} workers`}`,
      product: 'slipway',
      engine,
      workers,
      queues: workers,
      mtu,
      version: ownVersion(),
      command: shown(command).replace(process.execPath, 'node').replace(`${packageRoot()}/`, ''),
    },
    open: () => BackEndProcess.start(command),
  };
}

function passt(peerProgram: Passt): Contender {
  const { name } = peerProgram;
  const command = (socket: string): ProgramCommand => {
    const [program, ...args] = passtCommand(peerProgram, 'vhost-user', socket);
    return [program, ...args, '--mtu', String(PASST_MTU)];
  };
  const version = passtVersion(peerProgram);
  return {
    info: {
      name,
      label: name,
      product: 'passt',
      workers: 1,
      queues: 1,
      mtu: PASST_MTU,
      version,
      command: shown(command),
    },
    open: () => BackEndProcess.start(command),
  };
}

function peer({ name, path, queues, mtu, pid }: Peer): Contender {
  const command = `(started by somebody else, listening on ${path})`;
  return {
    info: { name, label: name, product: 'peer', queues, mtu, version: 'unknown', command },
    open: async () => ({ socket: path, pid, [Symbol.asyncDispose]: async () => {} }),
  };
}

function direct(): Contender {
  return {
    info: {
      name: 'direct',
      label: 'loopback, no NAT',
      product: 'direct',
      queues: 0,
      mtu: 65_536,
      version: "the kernel's own",
      command: 'bench/native/direct.c against bench/native/serve.c',
    },
  };
}

function shown(command: (socket: string) => ProgramCommand): string {
  return command('SOCKET').join(' ');
}

/** The package's version, and the commit where there is a checkout. */
function ownVersion(): string {
  const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string };
  return [`slipway ${version}`, ...commit()].join(', commit ');
}

function commit(): readonly string[] {
  try {
    const said = execFileSync('git', ['describe', '--always', '--dirty', '--exclude=*'], {
      cwd: packageRoot(),
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    return [said.trim()];
  } catch {
    return [];
  }
}
