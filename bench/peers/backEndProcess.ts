/** A back end in a process of its own: started with a socket in a new folder, watched, and ended. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SlipwayError } from '../../src/errors.js';
import { listens } from './listens.js';

const START_TIMEOUT_MS = 10_000;
const POLL_MS = 10;
const TAIL_BYTES = 2_048;

/** A back end did not start. */
export class BackEndError extends SlipwayError {
  override readonly name = 'BackEndError';
}

/** A program and the arguments that it always gets. */
export type ProgramCommand = readonly [program: string, ...args: string[]];

export class BackEndProcess implements AsyncDisposable {
  private said = '';

  private constructor(
    private readonly child: ChildProcess,
    private readonly folder: string,
    /** The UNIX socket that it listens on. */
    readonly socket: string,
  ) {
    child.stderr?.on('data', (chunk: Buffer) => (this.said = (this.said + chunk.toString()).slice(-TAIL_BYTES)));
    child.on('error', (error) => (this.said += error.message));
  }

  /**
   * Starts a back end and waits until it listens on its socket.
   * @param commandFor the whole command, for a socket at this path
   * @throws {BackEndError} if it ends or doesn't listen within 10 s
   */
  static async start(commandFor: (socket: string) => ProgramCommand): Promise<BackEndProcess> {
    const folder = await mkdtemp(join(tmpdir(), 'slipway-bench-'));
    // passt, started as root, becomes nobody before it makes its socket.
    await chmod(folder, 0o777);
    const socket = join(folder, 'socket');
    const [program, ...args] = commandFor(socket);
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    const backEnd = new BackEndProcess(child, folder, socket);
    for (let waited = 0; !listens(socket); waited += POLL_MS) {
      if (waited >= START_TIMEOUT_MS || backEnd.hasEnded()) {
        await backEnd.close();
        throw new BackEndError(`${program} did not start: ${backEnd.lastWords()}`);
      }
      await sleep(POLL_MS);
    }
    return backEnd;
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** The last line of its standard error. */
  lastWords(): string {
    return this.said.trim().split('\n').at(-1) || 'it said nothing';
  }

  /** Ends it and removes its socket. */
  async close(): Promise<void> {
    if (!this.hasEnded()) {
      this.child.kill('SIGKILL');
      await once(this.child, 'exit');
    }
    await rm(this.folder, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private hasEnded(): boolean {
    return this.child.pid === undefined || this.child.exitCode !== null || this.child.signalCode !== null;
  }
}
