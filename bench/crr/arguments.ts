/** Parsers of the benchmark's command-line values. Each throws commander's `InvalidArgumentError` with what is expected. */
import { InvalidArgumentError } from 'commander';

/** A running vhost-user back end: `--peer NAME=SOCKET[,queues=N]`. */
export interface Peer {
  readonly name: string;
  /** UNIX socket that it listens on. */
  readonly path: string;
  readonly queues: number;
}

/** Names of the back ends that the benchmark starts itself. */
const OWN_NAMES: ReadonlySet<string> = new Set(['host-direct', 'slipway', 'qemu-user', 'passt']);

/** A parser of whole numbers from `lowest` to `highest`, for commander. */
export function integer(lowest: number, highest: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < lowest || value > highest)
      throw new InvalidArgumentError(`It must be a whole number from ${lowest} to ${highest}.`);
    return value;
  };
}

/** `1,2,4,8`: each number once. */
export function flowsList(text: string): readonly number[] {
  const flows = text.split(',').map(integer(1, 4_096));
  if (new Set(flows).size < flows.length) throw new InvalidArgumentError('It names a number of flows twice.');
  return flows;
}

/** NAME=SOCKET[,queues=N], one queue pair unless said otherwise. */
function parsePeer(text: string): Peer {
  const match = /^([\w.-]+)=([^,]+)(?:,queues=(\d+))?$/.exec(text);
  if (match === null) throw new InvalidArgumentError('It must be NAME=SOCKET or NAME=SOCKET,queues=N.');
  const [, name, path, queues] = match;
  return { name: name!, path: path!, queues: queues === undefined ? 1 : integer(1, 64)(queues) };
}

/** Parses a peer and adds it to those `before`, for an option that may be repeated. */
export function addPeer(text: string, before: readonly Peer[]): readonly Peer[] {
  const peer = parsePeer(text);
  if (OWN_NAMES.has(peer.name) || before.some((each) => each.name === peer.name))
    throw new InvalidArgumentError(`The name ${peer.name} is taken.`);
  return [...before, peer];
}
