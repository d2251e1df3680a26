/** Entry of the load driver's worker threads. */
import { workerData } from 'node:worker_threads';
import { DriverThread } from './driverThread.js';
import type { ThreadSetup } from './driverThread.js';

const thread = new DriverThread(workerData as ThreadSetup);
try {
  thread.run();
} finally {
  thread.close();
}
