/** The driver's threads, as compiled into dist/, behind back ends that fail: an error that says what happened, and an end. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Command, Status } from '../../../bench/driver/control.js';
import { DEVICE_DEFAULTS } from '../../../bench/driver/device.js';
import { LOOP_DEFAULTS } from '../../../bench/driver/eventLoop.js';
import type { LoopOptions } from '../../../bench/driver/eventLoop.js';
import { FrontEnd } from '../../../bench/driver/frontEnd.js';
import { GUEST_DEFAULTS, LoadDriver } from '../../../bench/driver/loadDriver.js';
import { Counter, PairCounter, pairCounters } from '../../../bench/driver/statistics.js';
import { RX_BUFFER } from './peerNetwork.js';
import type { PeerOptions } from './peerNetwork.js';
import { PeerServer, WORKLOAD } from './peerServer.js';

const PAIRS = 2;
const DEADLINE_MS = 20_000;
const STEP_MS = 2;

let folder: string;
let server: PeerServer;
let driver: LoadDriver | undefined;
let stepping: NodeJS.Timeout;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'slipway-loaddriver-'));
});

afterEach(async () => {
  await driver?.close();
  clearInterval(stepping);
  await server.close();
  rmSync(folder, { recursive: true });
});

async function start(peer: PeerOptions = {}, loop: Partial<LoopOptions> = {}): Promise<LoadDriver> {
  const path = join(folder, 'socket');
  server = new PeerServer(path, { pairs: PAIRS, peer });
  stepping = setInterval(() => server.network.step(), STEP_MS);
  driver = await LoadDriver.start(FrontEnd.connect(path), {
    device: { ...DEVICE_DEFAULTS, pairs: PAIRS, threads: PAIRS, rxBufferSize: RX_BUFFER },
    loop: { ...LOOP_DEFAULTS, ...loop },
    workload: { ...WORKLOAD, kind: 'rr', flows: 4 },
    guest: GUEST_DEFAULTS,
  });
  return driver;
}

async function running(): Promise<LoadDriver> {
  const started = await start();
  await started.ready();
  started.begin(Command.RUN);
  expect(await started.until(() => started.count()[Counter.operations] > 20, DEADLINE_MS)).toBe(true);
  return started;
}

test('a back end that answers no ARP request', async () => {
  const started = await start({ mute: true });
  const sent = (): number => started.count()[pairCounters(0) + PairCounter.txPackets];
  expect(await started.until(() => sent() > 0, DEADLINE_MS)).toBe(true);
  await expect(started.ready(10)).rejects.toThrow(
    /answers no ARP request for 10\.0\.2\.2 \(packets sent: [1-9]\d*, received: 0\)/,
  );
});

test('a back end that answers no DHCP request', async () => {
  const started = await start({ mute: true }, { dhcp: true });
  await expect(started.ready(10)).rejects.toThrow(/answers no DHCP request/);
});

test('a back end that hangs up in mid-load', async () => {
  const started = await running();
  const end = started.until(() => false, DEADLINE_MS);
  await Promise.all([expect(end).rejects.toThrow('the back end has hung up'), server.close()]);
});

test('a back end that breaks a ring in mid-load is told which, and all threads end', async () => {
  const started = await running();
  server.network.queue(2).use(0x4000, 60);
  server.network.queue(2).publish();
  await expect(started.until(() => false, DEADLINE_MS)).rejects.toThrow(
    /receive queue of pair 1: .*descriptor 16384.*§2\.7\.8/,
  );
  await started.close();
});

test('a back end that stops serving: operations time out, and the driver still ends', async () => {
  const started = await start({}, { timeoutMs: 100 });
  await started.ready();
  started.begin(Command.RUN);
  expect(await started.until(() => started.count()[Counter.operations] > 20, DEADLINE_MS)).toBe(true);
  clearInterval(stepping);
  expect(await started.until(() => started.count()[Counter.timeouts] >= 4, DEADLINE_MS)).toBe(true);
  expect(started.status(Status.TRANSFERS_DONE)).toBe(0);
  await started.close();
});
