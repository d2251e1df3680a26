/** A vhost-user back end that somebody else has started and that leads 10.0.2.2 to the host's 127.0.0.1. */
import { InvalidArgumentError } from 'commander';
import { UsageError } from '../../src/errors.js';

/** `--peer NAME=SOCKET[,queues=N][,mtu=BYTES][,pid=PID]`. */
export interface Peer {
  readonly name: string;
  /** UNIX socket that it listens on. */
  readonly path: string;
  /** Queue pairs, 1 unless said otherwise. */
  readonly queues: number;
  /** The MTU to use with it; 1500 unless said otherwise. */
  readonly mtu: number;
  /** Its process, whose CPU and memory are measured. */
  readonly pid?: number;
}

/** What may follow the socket, and the lowest and highest value of each. */
const SETTINGS = { queues: [1, 64], mtu: [576, 65_521], pid: [1, 4_194_304] } as const;
const USAGE = 'It must be NAME=SOCKET, and may end in ,queues=N ,mtu=BYTES ,pid=PID.';

/** Parses a peer and adds it to those `before`, for an option that may be repeated. */
export function addPeer(text: string, before: readonly Peer[]): readonly Peer[] {
  const peer = parsePeer(text);
  if (before.some((each) => each.name === peer.name)) throw new InvalidArgumentError(`The name ${peer.name} is taken.`);
  return [...before, peer];
}

function parsePeer(text: string): Peer {
  const [, name, path, rest] = /^([\w.-]+)=([^,]+)((?:,\w+=\d+)*)$/.exec(text) ?? [];
  if (name === undefined || path === undefined || rest === undefined) throw new InvalidArgumentError(USAGE);
  return { name, path, queues: 1, mtu: 1_500, ...Object.fromEntries(rest.split(',').slice(1).map(parseSetting)) };
}

function parseSetting(text: string): readonly [string, number] {
  const [key = '', digits] = text.split('=');
  const range = Object.entries(SETTINGS).find(([name]) => name === key)?.[1];
  const value = Number(digits);
  if (range === undefined || value < range[0] || value > range[1]) throw new InvalidArgumentError(USAGE);
  return [key, value];
}

/** @throws {UsageError} naming one that is there twice */
export function requireDistinct(names: readonly string[]): void {
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new UsageError(`two back ends are called ${twice}; give one another name`);
}
