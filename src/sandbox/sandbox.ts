/** A small Linux guest that runs commands, on a network of its own. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import type { Accelerator, Arch } from '../../arch/arch.js';
import { hostArch, hostMachineArch } from '../../arch/host.js';
import { CommandTimeoutError, SandboxClosedError, SandboxError, UsageError } from '../errors.js';
import { LEAST_MEMORY_MIB, MAX_CPUS, MOST_MEMORY_MIB, wholeNumber } from '../limits.js';
import type { Network } from '../network.js';
import type { EventPaths } from '../vmm/eventPaths.js';
import { KvmGuest } from '../vmm/kvmGuest.js';
import type { MachineStats } from '../vmm/machine.js';
import { AgentChannel } from './agentChannel.js';
import type { Command, CommandResult, CommandStreams } from './command.js';
import { kernelCommandLine } from './commandLine.js';
import type { TerminalSize } from './frames.js';
import { guestPieces } from './guestPieces.js';
import type { GuestPieces } from './guestPieces.js';
import { buildInitramfs } from './initramfs.js';
import type { GuestFiles } from './initramfs.js';
import { qemuOptions } from './qemuOptions.js';
import type { SandboxNet } from './qemuOptions.js';
import { AGENT_FD, QemuProcess } from './qemuProcess.js';

export type { CommandResult } from './command.js';
export type { TerminalSize } from './frames.js';
export type { GuestFiles } from './initramfs.js';
export type { SandboxNet } from './qemuOptions.js';

/** What can run a guest. */
export type Vmm = 'kvm' | 'qemu';

export interface SandboxOptions {
  /** vCPUs, 1 … 64; 1 if left out. */
  readonly cpus?: number | undefined;
  /** Guest memory in MiB, 64 … 65536; 512 if left out. */
  readonly memoryMiB?: number | undefined;
  /** Serves the guest's network card, with a queue pair per vCPU or `queues` of them. Not together with `net`. */
  readonly network?: Network | undefined;
  readonly queues?: number | undefined;
  /** Another back end; `{ kind: 'none' }` if both are left out. */
  readonly net?: SandboxNet | undefined;
  /** Files to put into the guest; a dynamic executable brings its libraries. */
  readonly files?: GuestFiles | undefined;
  /** A kernel of your own, bzImage or vmlinux; its modules are looked for in /lib/modules. Debian's cloud kernel if left out. */
  readonly kernel?: string | undefined;
  /** More of the kernel's command line. */
  readonly kernelParameters?: readonly string[] | undefined;
  /** `auto`, if left out, is KVM where the processor has it, emulation elsewhere. */
  readonly accelerator?: Accelerator | 'auto' | undefined;
  /**
   * Who runs the guest: Slipway's own VMM (`kvm`) or QEMU. `auto`, if left out, is Slipway's own on hardware KVM, unless
   * `net` or `accelerator: 'tcg'` asks for what only QEMU has.
   */
  readonly vmm?: Vmm | 'auto' | undefined;
  /**
   * Makes Slipway's own VMM do without KVM_IRQFD or KVM_IOEVENTFD, slower, to find out whether they are to blame; what KVM
   * has is used if left out.
   */
  readonly eventPaths?: Partial<EventPaths> | undefined;
  /** Where the guest's console goes. */
  readonly console?: Writable | undefined;
  /** How long the guest may take to boot, ms; 120,000 if left out. */
  readonly bootTimeoutMs?: number | undefined;
}

export interface RunOptions extends CommandStreams {
  /** Kills the command when its time is up, ms. */
  readonly timeoutMs?: number | undefined;
  /** Working directory; `/root` if left out. */
  readonly folder?: string | undefined;
  /** Added to PATH, HOME and TERM. */
  readonly environment?: Readonly<Record<string, string>> | undefined;
  /** Runs the command on a pseudo-terminal of this size; its standard error is then part of its standard output. */
  readonly terminal?: TerminalSize | undefined;
}

const ENVIRONMENT = { PATH: '/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root', TERM: 'linux' };
const DEFAULT_MEMORY_MIB = 512;
const BOOT_TIMEOUT = 120_000;
const SIGKILL = 9;

export class Sandbox {
  readonly #guest: QemuProcess | KvmGuest;
  readonly #agent: AgentChannel;
  readonly #folder: string;
  readonly #stopServing: () => Promise<void>;
  #closing: Promise<void> | undefined;
  #networkComplaint = '';

  private constructor(guest: QemuProcess | KvmGuest, folder: string, stopServing: () => Promise<void>) {
    this.#guest = guest;
    this.#folder = folder;
    this.#stopServing = stopServing;
    this.#agent = new AgentChannel(guest.agentPort);
    void guest.ended.then((reason) => this.#agent.fail(reason));
  }

  /**
   * Boots a guest; resolves when it can run commands.
   * @throws {UsageError} for options that contradict each other, or are out of their range
   * @throws {KvmError | SandboxError} for KVM asked for where it can't be had
   * @throws {MissingPieceError} if the kernel, QEMU or one of the files isn't there
   * @throws {GuestPanicError | QemuError | SandboxError} if the guest doesn't come up; `consoleTail` tells its last lines
   * @throws {SandboxClosedError} if `signal` ends the boot
   */
  static async start(options: SandboxOptions, signal?: AbortSignal): Promise<Sandbox> {
    const sandbox = await Sandbox.#spawn(options);
    const abort = (): void => void sandbox.close();
    signal?.addEventListener('abort', abort, { once: true });
    if (signal?.aborted) abort();
    try {
      await sandbox.#booted(options.bootTimeoutMs ?? BOOT_TIMEOUT);
      return sandbox;
    } catch (error) {
      await sandbox.close();
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  static async #spawn(options: SandboxOptions): Promise<Sandbox> {
    const arch = hostArch();
    const pieces = guestPieces();
    const sizes = checkedSizes(options);
    if (options.network !== undefined && options.net !== undefined)
      throw new UsageError('a sandbox takes either network or net, not both');
    const vmm = chooseVmm(arch, options);
    const accelerator = chooseAccelerator(arch, options);
    const folder = await mkdtemp(join(tmpdir(), 'slipway-'));
    try {
      const kernel = options.kernel ?? pieces.vmlinux;
      const modules = modulesFolder(pieces, await arch.kernelRelease(kernel));
      const initramfs = join(folder, 'initramfs.cpio');
      await writeFile(initramfs, buildInitramfs(pieces, modules, options.files ?? {}));
      const boot = { arch, kernel, initramfs };
      if (vmm === 'kvm') return new Sandbox(await startOwn(options, sizes, boot), folder, nothing);
      const { qemu, stopServing } = await startQemu(options, sizes, boot, accelerator, folder);
      return new Sandbox(qemu, folder, stopServing);
    } catch (error) {
      await rm(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** Why the guest has no network although it has a card; empty if it has. */
  get networkComplaint(): string {
    return this.#networkComplaint;
  }

  /** The last lines of the guest's console, oldest first. */
  get consoleTail(): string[] {
    return this.#guest.consoleTail;
  }

  /** What Slipway's own VMM counted; undefined for a guest under QEMU. What its network counted, `Network.stats` tells. */
  stats(): MachineStats | undefined {
    return this.#guest instanceof KvmGuest ? this.#guest.stats() : undefined;
  }

  /**
   * Runs a command to its end. Several may run at once.
   * @param command program and arguments; no shell is involved
   * @throws {UsageError} for a command that is empty or too long
   * @throws {CommandTimeoutError} when `timeoutMs` is over: the command has been killed
   * @throws {SandboxError} if the guest goes before the command has ended
   */
  async run(command: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
    return this.start(command, options).result;
  }

  /** Starts a command as `run` does, and hands it out while it runs: to send signals, to change its terminal's size. */
  start(command: readonly string[], options: RunOptions = {}): Command {
    const { timeoutMs, folder = '/root', environment = {}, terminal, ...streams } = options;
    const started = this.#agent.start(
      { command, folder, environment: { ...ENVIRONMENT, ...environment }, terminal },
      streams,
    );
    if (timeoutMs !== undefined) limitTime(started, timeoutMs, command);
    return started;
  }

  /** Ends the guest, whatever it does, and all that belongs to it. */
  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #end(): Promise<void> {
    this.#agent.fail(new SandboxClosedError('the sandbox was closed', this.consoleTail));
    await this.#guest.kill();
    await this.#stopServing();
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #booted(timeoutMs: number): Promise<void> {
    const timer = setTimeout(() => {
      const last = this.consoleTail.at(-1) ?? 'nothing';
      this.#agent.fail(
        new SandboxError(`the guest has not booted in ${timeoutMs} ms; it last said: ${last}`, this.consoleTail),
      );
    }, timeoutMs);
    try {
      this.#networkComplaint = await this.#agent.ready;
    } finally {
      clearTimeout(timer);
    }
  }
}

interface Sizes {
  readonly cpus: number;
  readonly memoryMiB: number;
  /** Queue pairs. */
  readonly queues: number;
}

/** What is booted. */
interface Boot {
  readonly arch: Arch;
  /** Paths. */
  readonly kernel: string;
  readonly initramfs: string;
}

/** @throws {UsageError} for one out of its range */
function checkedSizes({ cpus = 1, memoryMiB = DEFAULT_MEMORY_MIB, queues = cpus }: SandboxOptions): Sizes {
  return {
    cpus: wholeNumber('cpus', cpus, 1, MAX_CPUS),
    memoryMiB: wholeNumber('memoryMiB', memoryMiB, LEAST_MEMORY_MIB, MOST_MEMORY_MIB),
    queues: wholeNumber('queues', queues, 1, MAX_CPUS),
  };
}

function chooseAccelerator(arch: Arch, { accelerator = 'auto' }: SandboxOptions): Accelerator {
  if (accelerator === 'auto') return arch.canUseKvm() ? 'kvm' : 'tcg';
  if (accelerator === 'kvm') refuseWithoutKvm(arch, 'no hardware KVM here', 'tcg');
  return accelerator;
}

function refuseWithoutKvm(arch: Arch, what: string, instead: string): void {
  const obstacle = arch.kvmObstacle();
  if (obstacle !== undefined) throw new SandboxError(`${what} (${obstacle}); or use ${instead}`);
}

/** Slipway's own VMM gives the guest the network's card or none, and needs the processor's help. */
function chooseVmm(arch: Arch, { vmm = 'auto', accelerator, net }: SandboxOptions): Vmm {
  const onlyQemu = accelerator === 'tcg' || (net !== undefined && net.kind !== 'none');
  if (vmm === 'auto') return arch.canUseKvm() && !onlyQemu ? 'kvm' : 'qemu';
  if (vmm === 'qemu') return vmm;
  if (onlyQemu) {
    throw new UsageError("vmm kvm is Slipway's own, which takes a network, no other net, and no accelerator but kvm");
  }
  refuseWithoutKvm(arch, "Slipway's own VMM needs hardware KVM", 'qemu');
  return vmm;
}

function startOwn(options: SandboxOptions, sizes: Sizes, { arch, kernel, initramfs }: Boot): Promise<KvmGuest> {
  const { network, kernelParameters = [], console, eventPaths } = options;
  const { cpus, memoryMiB, queues } = sizes;
  return KvmGuest.start({
    arch: hostMachineArch(),
    cpus,
    memoryMiB,
    kernel,
    initramfs,
    commandLine: kernelCommandLine(arch, kernelParameters),
    network: network === undefined ? undefined : { network, queues },
    console,
    paths: eventPaths,
  });
}

/** @param folder where to put what has to be made */
async function startQemu(
  options: SandboxOptions,
  sizes: Sizes,
  { arch, kernel, initramfs }: Boot,
  accelerator: Accelerator,
  folder: string,
): Promise<{ readonly qemu: QemuProcess; readonly stopServing: () => Promise<void> }> {
  const { net, stop } = await attach(options, sizes.queues, folder);
  try {
    const settings = {
      accelerator,
      cpus: sizes.cpus,
      memoryMiB: sizes.memoryMiB,
      kernel: await arch.kernelForQemu(kernel, folder),
      initramfs,
      kernelParameters: options.kernelParameters ?? [],
      net,
      agentFd: AGENT_FD,
    };
    const qemu = await QemuProcess.start(arch.qemu, qemuOptions(arch, settings), options.console);
    return { qemu, stopServing: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Where a kernel's modules lie; undefined if nowhere: what matters is then built in. */
function modulesFolder(pieces: GuestPieces, release: string | undefined): string | undefined {
  if (release === undefined) return undefined;
  return [join(pieces.modules, release), join('/lib/modules', release)].find((folder) => existsSync(folder));
}

const nothing = async (): Promise<void> => {};

interface Attachment {
  readonly net: SandboxNet;
  /** Ends what was begun for this sandbox alone. */
  readonly stop: () => Promise<void>;
}

async function attach({ network, net }: SandboxOptions, queues: number, folder: string): Promise<Attachment> {
  if (network === undefined) return { net: net ?? { kind: 'none' }, stop: nothing };
  const path = join(folder, 'network.socket');
  const port = await network.serve({ path, queues });
  return { net: { kind: 'vhost-user', path, queues }, stop: () => port.close() };
}

function limitTime(command: Command, timeoutMs: number, words: readonly string[]): void {
  const timer = setTimeout(() => {
    command.kill(SIGKILL);
    command.fail(new CommandTimeoutError(`${words[0]} was killed after ${timeoutMs} ms`));
  }, timeoutMs);
  const stop = (): void => clearTimeout(timer);
  command.result.then(stop, stop);
}
