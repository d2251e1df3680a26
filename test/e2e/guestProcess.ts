/**
 * A guest in a process of its own, for tests that kill it: uploads and downloads without end.
 *
 *     node guestProcess.js PATH PAIRS PORT_BASE ACT
 *
 * Prints a line once bytes move. If ACT is `truncate` it then cuts its memory's file to nothing, under the queues, and
 * prints another.
 */
import { ftruncateSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Command } from '../../bench/driver/control.js';
import { Counter } from '../../bench/driver/statistics.js';
import { connectDriver } from './guest.js';

const [path = '', pairs = '1', portBase = '0', act] = process.argv.slice(2);
const BYTES = 2 ** 20;
const workload = { kind: 'upload', flows: 8, portBase: Number(portBase), hopMs: 5 } as const;
const driver = await connectDriver(path, Number(pairs), { workload });
driver.begin(Command.RUN);
while ((driver.count()[Counter.bytesSent] ?? 0) < BYTES) await delay(5);
process.stdout.write('bytes move\n');
if (act === 'truncate') {
  ftruncateSync(driver.device.description.memory.fd, 0);
  process.stdout.write('truncated\n');
}
await delay(60_000);
