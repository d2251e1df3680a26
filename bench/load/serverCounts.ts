/** What the servers' UDP sink got, and their source sent (bench/native/datagrams.h): asked over the loopback, so that servers of another run answer too. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { infer as Infer } from 'zod';
import { z } from '../../src/schema.js';
import { describeError } from '../../src/errors.js';
import { ServicePort } from '../driver/workloads.js';
import { ServersError } from './servers.js';

const countsSchema = z.object({ datagrams: z.number(), bytes: z.number(), wrong: z.number(), sent: z.number() });

/**
 * Since the servers' start: datagrams that came, bytes of their payload, datagrams that no client of ours has sent like that;
 * and datagrams that were sent.
 */
export type ServerCounts = Infer<typeof countsSchema>;

/** What is on its way arrives sooner than that. */
const SETTLE_MS = 50;

/** @throws {ServersError} if nobody answers */
export async function readServerCounts(portBase: number): Promise<ServerCounts> {
  const socket = connect({ port: portBase + ServicePort.COUNTS, host: '127.0.0.1' });
  try {
    const [text] = (await once(socket.setEncoding('utf8'), 'data')) as [string];
    return countsSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new ServersError(`the servers on port ${portBase} do not say what arrived: ${describeError(error)}`);
  } finally {
    socket.destroy();
  }
}

/** The counts once they stand still; nobody must be sending any more. */
export async function settledServerCounts(portBase: number): Promise<ServerCounts> {
  for (let before = await readServerCounts(portBase); ;) {
    await delay(SETTLE_MS);
    const now = await readServerCounts(portBase);
    if (now.datagrams === before.datagrams && now.sent === before.sent) return now;
    before = now;
  }
}
