/** `slipway serve`: the network for a VMM that somebody else starts. */
import type { ServeConfig } from '../config.js';
import { createLogger } from '../log.js';
import { Network } from '../network.js';
import { networkOptions } from './networkOptions.js';

/** Serves until SIGINT or SIGTERM; SIGUSR1 writes the network's state to standard error. */
export async function serve(config: ServeConfig): Promise<void> {
  // Whoever reads our output may go, and disks fill: guests keep their network.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  const log = createLogger(config.logLevel);
  const ended = endingSignal();
  const options = networkOptions(config, config.queues, log);
  await using network = await Network.create(options);
  const dump = (): void => void process.stderr.write(`${JSON.stringify(network.stats(), undefined, 2)}\n`);
  process.on('SIGUSR1', dump);
  const { vhostUser: path, queues } = config;
  const mode = config.client ? 'client' : 'server';
  await network.serve({ path, queues, mode });
  const verb = config.client ? 'connecting to' : 'listening on';
  process.stdout.write(`${verb} ${path}: ${count(queues, 'queue pair')}, ${count(network.workers, 'worker')}\n`);
  log.info({ signal: await ended }, 'ending');
  process.off('SIGUSR1', dump);
}

/** The first signal that asks for an end. Listened to from the start: a signal while starting up ends in order too. */
function endingSignal(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, resolve);
  });
}

function count(number: number, thing: string): string {
  return `${number} ${thing}${number === 1 ? '' : 's'}`;
}
