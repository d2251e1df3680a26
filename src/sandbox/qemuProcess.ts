/** QEMU as a child process that can't outlive its parent. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Duplex, Readable, Writable } from 'node:stream';
import { MissingPieceError, QemuError, SandboxError } from '../errors.js';
import { GuestConsole } from './guestConsole.js';
import { LineTail } from './lineTail.js';

/** Standard input, output and error; then the agent's socket. */
export const AGENT_FD = 3;

/** How long QEMU may take to end by itself, ms. */
const TERM_GRACE = 500;

const STDERR_LINES = 40;

export class QemuProcess {
  /** Resolves when QEMU has ended and its output is read. */
  readonly ended: Promise<SandboxError>;
  /** The socket to the agent's port. */
  readonly agentPort: Duplex;
  readonly #child: ChildProcess;
  readonly #console: GuestConsole;
  readonly #stderr = new LineTail(STDERR_LINES);

  private constructor(child: ChildProcess, consoleTarget: Writable | undefined) {
    this.#child = child;
    this.#console = new GuestConsole(consoleTarget);
    const [, output, errors, port] = child.stdio;
    this.agentPort = port as Duplex;
    // QEMU's end closes the socket, with an error if frames were under way; `ended` says why.
    this.agentPort.on('error', () => {});
    (output as Readable).on('data', (chunk: Buffer) => this.#console.push(chunk));
    (errors as Readable).on('data', (chunk: Buffer) => this.#stderr.push(chunk));
    this.ended = once(child, 'close').then(() => this.#reasonOfEnd());
    process.on('exit', this.#killNow);
    child.on('exit', () => process.off('exit', this.#killNow));
  }

  /**
   * Starts QEMU. `setpriv` asks the kernel to kill it when its parent dies, however that happens.
   * @param console where the guest's console goes, beside the tail kept for errors
   * @throws {MissingPieceError} if QEMU or setpriv isn't installed
   */
  static async start(program: string, options: readonly string[], console: Writable | undefined): Promise<QemuProcess> {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...options], {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
      // A session of its own: an interrupt from the terminal is for the program, which then ends QEMU in order.
      detached: true,
    });
    try {
      await once(child, 'spawn');
    } catch (error) {
      throw new MissingPieceError(`cannot start QEMU by setpriv (${String(error)}); install util-linux`);
    }
    return new QemuProcess(child, console);
  }

  /** The last lines of the guest's console. */
  get consoleTail(): string[] {
    return this.#console.lines();
  }

  /** Ends QEMU, by force if it doesn't obey, and resolves when it is gone. */
  async kill(): Promise<void> {
    this.#child.kill('SIGTERM');
    const timer = setTimeout(this.#killNow, TERM_GRACE);
    await this.ended;
    clearTimeout(timer);
  }

  readonly #killNow = (): void => void this.#child.kill('SIGKILL');

  #reasonOfEnd(): SandboxError {
    const { exitCode, signalCode } = this.#child;
    const panic = this.#console.panic();
    if (panic !== undefined) return panic;
    const tail = this.consoleTail;
    const said = this.#stderr.lines();
    if (exitCode === 0) return new SandboxError('the guest powered itself off', tail);
    if (exitCode === 127 && said.some((line) => line.startsWith('setpriv: '))) {
      return new SandboxError(`cannot start QEMU (${said.at(-1)}); run npm run setup, or install qemu-system-x86`);
    }
    const how = signalCode === null ? `with exit code ${exitCode}` : `by ${signalCode}`;
    return new QemuError(`QEMU ended ${how}: ${said.at(-1) ?? 'it said nothing'}`, tail, said.join('\n'));
  }
}
