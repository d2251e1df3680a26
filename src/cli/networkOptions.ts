/** From the command line's options to the network's. */
import type { RunConfig } from '../config.js';
import { defaultWorkers } from '../limits.js';
import type { Logger } from '../log.js';
import type { NetworkOptions } from '../network.js';

type NetworkFlags = Pick<
  RunConfig,
  'workers' | 'mtu' | 'allowHostLoopback' | 'udpTimeoutMs' | 'dns' | 'engine' | 'timing'
>;

/** @param queues queue pairs of the one device that will be served */
export function networkOptions(config: NetworkFlags, queues: number, log: Logger): NetworkOptions {
  const { mtu, allowHostLoopback, udpTimeoutMs, engine, timing } = config;
  const dns = config.dns === 'off' ? false : config.dns;
  const workers = config.workers ?? defaultWorkers(queues);
  return { workers, queues, mtu, allowHostLoopback, udpTimeoutMs, dns, engine, timing, log };
}
