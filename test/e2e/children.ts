/** Processes of the end-to-end tests: guests to be killed, networks that end. */
import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Interface } from 'node:readline';
import { packageRoot } from '../../src/packageRoot.js';
import type { NetworkOptions, NetworkStats } from '../../src/network.js';
import { PORT_BASE } from './guest.js';

class Child implements AsyncDisposable {
  private readonly lines: Interface;
  private readonly queue: AsyncIterator<string>;
  private readonly ended: Promise<unknown[]>;

  protected constructor(protected readonly process: ChildProcess) {
    this.lines = createInterface(process.stdout!);
    this.queue = this.lines[Symbol.asyncIterator]();
    this.ended = once(process, 'close');
  }

  /** The next line of its standard output. */
  async line(): Promise<string> {
    const { value, done } = await this.queue.next();
    if (done === true) throw new Error('the process ended before it said what it should');
    return value;
  }

  /** How it ended: exit code or signal. */
  async exit(): Promise<number | string | null> {
    await this.ended;
    return this.process.exitCode ?? this.process.signalCode;
  }

  async kill(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

/** A guest that moves bytes; see guestProcess.ts. */
export class GuestProcess extends Child {
  static async start(path: string, pairs: number, act: string): Promise<GuestProcess> {
    const args = [script('guestProcess.js'), path, String(pairs), String(PORT_BASE), act];
    const child = new GuestProcess(spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'ignore'] }));
    await child.line();
    return child;
  }
}

/** A network; see networkProcess.ts. */
export class NetworkProcess extends Child {
  /** @param descriptors how many it may have open; without, as many as this process */
  static async start(path: string, options: NetworkOptions, descriptors?: number): Promise<NetworkProcess> {
    const command = [process.execPath, script('networkProcess.js'), path, JSON.stringify(options)];
    const limit = descriptors === undefined ? '' : `ulimit -n ${descriptors}; `;
    const args = ['-c', `${limit}exec "$0" "$@"`, ...command];
    const child = new NetworkProcess(spawn('/bin/sh', args, { stdio: ['pipe', 'pipe', 'ignore'] }));
    await child.line();
    return child;
  }

  /** From now on it opens no descriptor beyond so many. */
  limitDescriptors(count: number): void {
    execFileSync('prlimit', ['--pid', String(this.process.pid), `--nofile=${count}:`]);
  }

  say(command: string): void {
    this.process.stdin!.write(`${command}\n`);
  }

  async stats(): Promise<NetworkStats> {
    this.say('stats');
    return JSON.parse(await this.line()) as NetworkStats;
  }
}

function script(name: string): string {
  return join(packageRoot(), 'dist/test/e2e', name);
}
