/** What the addon's tests share: scratch, TCP pairs, waiting, and code that runs in a child process or a worker. */
import { spawn, spawnSync } from 'node:child_process';
import { readFileSync, readdirSync, writeSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { addon } from '../../src/native/addon.js';
import { packageRoot } from '../../src/packageRoot.js';
import { until } from '../until.js';

export const EINVAL = 22;
export const EAGAIN = 11;
export const EBADF = 9;
export const EFAULT = 14;
export const EINPROGRESS = 115;
export const ECONNREFUSED = 111;
export const MSG_PEEK = 2;
export const EPOLLIN = 1;
export const EPOLLOUT = 4;
export const EPOLLRDHUP = 0x2000;
export const EPOLLET = 0x80000000;

export const addonFile = join(packageRoot(), 'build/Release/slipway.node');

/** Scratch as a worker of the data plane binds it. */
export function bindScratch(triples = 64): { iovecs: Uint32Array; events: Int32Array; clock: Int32Array } {
  const iovecs = new Uint32Array(new SharedArrayBuffer(triples * 12));
  const events = new Int32Array(new SharedArrayBuffer(triples * 12));
  const clock = new Int32Array(new SharedArrayBuffer(8));
  addon.bindScratch(iovecs, events, clock);
  return { iovecs, events, clock };
}

/** A call again until it gives something else than -EAGAIN. */
export function whenReady(call: () => number): Promise<number> {
  return until(() => {
    const result = call();
    return result === -EAGAIN ? undefined : result;
  });
}

/** Fills an eventfd and makes it blocking: a child's standard descriptors are, and O_NONBLOCK is shared with it. */
export function fillAndBlock(fd: number): void {
  writeSync(fd, new Uint8Array(BigUint64Array.of(2n ** 64n - 2n).buffer));
  spawnSync('true', { stdio: [fd, 'ignore', 'ignore'] });
}

export interface TcpPair {
  /** The addon's end. */
  readonly fd: number;
  /** Node's end. */
  readonly peer: Socket;
  /** Closes the peer and the listener; the addon's end is the test's own business. */
  close(): void;
}

export const LOOPBACK = 0x7f000001;

/** A TCP connection over 127.0.0.1 from the addon to Node. */
export async function tcpPair(): Promise<TcpPair> {
  const server = createServer({ pauseOnConnect: true });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no TCP address');
  const fd = addon.tcpSocket();
  const result = addon.connect4(fd, LOOPBACK, address.port);
  if (result !== 0 && result !== -EINPROGRESS) throw new Error(`connect4: ${result}`);
  const peer = await accepted;
  return {
    fd,
    peer,
    close: () => {
      peer.destroy();
      server.close();
    },
  };
}

/** Mappings in this process of memfds whose names begin so. */
export function mappingsOf(name: string): number {
  const maps = readFileSync('/proc/self/maps', 'utf8');
  return maps.split('\n').filter((line) => line.includes(`/memfd:${name}`)).length;
}

/** Open descriptors of this process. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

/** Whether the descriptor is open in this process. */
export function isOpen(fd: number): boolean {
  try {
    addon.fdInfo(fd);
    return true;
  } catch {
    return false;
  }
}

/**
 * Runs CommonJS in a child process and gives how it ended. `addonFile` is in scope, and `addon`, which is loaded when it
 * is first named.
 */
export function runChild(code: string): Promise<{ code: number | null; signal: string | null; output: string }> {
  const head =
    `const addonFile = ${JSON.stringify(addonFile)};\n` +
    `Object.defineProperty(globalThis, 'addon', { get: () => require(addonFile) });\n`;
  // Elsewhere than in the checkout, should a child leave a core dump.
  const child = spawn(process.execPath, ['-e', head + code], { cwd: tmpdir(), stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.on('data', (text) => (output += text));
  child.stderr.on('data', (text) => (output += text));
  return new Promise((resolve) => child.once('close', (exit, signal) => resolve({ code: exit, signal, output })));
}

/** Starts CommonJS in a worker; `addon`, `workerData` and `parentPort` are in scope. */
export function startWorker(code: string, workerData: unknown): Worker {
  const head =
    `const addon = require(${JSON.stringify(addonFile)});\n` +
    `const { workerData, parentPort } = require('node:worker_threads');\n`;
  return new Worker(head + code, { eval: true, workerData });
}

/** Resolves with the exit code; rejects with the worker's uncaught error. */
export function exitOf(worker: Worker): Promise<number> {
  return new Promise((resolve, reject) => {
    worker.once('exit', resolve);
    worker.once('error', reject);
  });
}
