/** The host's end of the load driver's flows: bench/native/serve.c in a process of its own. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { SlipwayError } from '../../src/errors.js';
import { compileTool } from '../native/tools.js';

/** The servers could not be started. */
export class ServersError extends SlipwayError {
  override readonly name = 'ServersError';
}

export class LoadServers implements AsyncDisposable {
  private constructor(
    private readonly child: ChildProcess,
    /** The first port; the others are `ServicePort`s from there. */
    readonly portBase: number,
  ) {}

  /**
   * @param congestion the servers' congestion control (tcp(7), TCP_CONGESTION); the host's if left out
   * @throws {ServersError} if a port is taken, or the host has no such congestion control; {CompileError} if there is no compiler
   */
  static async start(portBase: number, threads: number, congestion?: string): Promise<LoadServers> {
    const program = compileTool('native/serve.c');
    const args = [String(portBase), String(threads), ...(congestion === undefined ? [] : [congestion])];
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    let complaint = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (complaint += text));
    const listening = await new Promise<boolean>((resolve) => {
      createInterface(child.stdout).once('line', () => resolve(true));
      child.once('error', () => resolve(false));
      child.once('close', () => resolve(false));
    });
    if (!listening) throw new ServersError(`the servers did not start: ${complaint.trim() || 'no reason given'}`);
    return new LoadServers(child, portBase);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  async close(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exit = new Promise((resolve) => this.child.once('close', resolve));
    this.child.stdin?.end();
    await exit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
