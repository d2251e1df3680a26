/**
 * A Linux with a true /dev/kvm where the host has none: QEMU's TCG emulates AMD's SVM with nested paging, and in that
 * guest ("level 1") KVM runs guests of its own ("level 2"). Level 1 has node, the compiled project and QEMU.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Writable } from 'node:stream';
import { hostArch } from '../../arch/host.js';
import { CommandTimeoutError, SandboxError, describeError } from '../../src/errors.js';
import { AgentChannel } from '../../src/sandbox/agentChannel.js';
import type { CommandResult, CommandStreams } from '../../src/sandbox/command.js';
import type { TerminalSize } from '../../src/sandbox/frames.js';
import { guestPieces } from '../../src/sandbox/guestPieces.js';
import { buildInitramfs } from '../../src/sandbox/initramfs.js';
import { loadModules } from '../../src/sandbox/kernelModules.js';
import { qemuOptions } from '../../src/sandbox/qemuOptions.js';
import { AGENT_FD, QemuProcess } from '../../src/sandbox/qemuProcess.js';
import { PROJECT, level1Images } from './contents.js';

export interface Level1Options {
  /**
   * vCPUs of level 1; 1 if left out. With more, QEMU's emulation of SVM goes wrong about once in ten boots of a level 2:
   * interrupts arrive where they are disabled, and level 1 or level 2 crashes (QEMU 10.0, any VMM).
   */
  readonly cpus?: number;
  readonly memoryMiB?: number;
  /** Where its console goes, beside the tail kept for errors. */
  readonly console?: Writable | undefined;
}

/** For hangs: it boots in some 10 s. */
const BOOT_TIMEOUT = 180_000;
const COMMAND_TIMEOUT = 180_000;
/** How often level 1 is asked whether it is there, and how long it may take to answer, ms. */
const HEARTBEAT = 10_000;
const SILENCE = 60_000;
const SIGKILL = 9;

const MODULES = ['virtio_blk', 'overlay', 'kvm_amd'];
const ENVIRONMENT = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/tmp', TERM: 'linux' };

/** Disks in the order of qemuOptions below; writes go to memory. Polling for a halted guest would only steal its time. */
const PREPARE = `set -e
for file in /level1/*.ko; do
  name=\${file#*-}
  test -d /sys/module/\${name%.ko} || insmod $file
done
test -c /dev/kvm
echo 0 > /sys/module/kvm/parameters/halt_poll_ns
echo 1 > /proc/sys/vm/overcommit_memory
mkdir /base /project /changes /root1
mount -t ext4 -o ro /dev/vda /base
mount -t ext4 -o ro /dev/vdb /project
mount -t tmpfs changes /changes
mkdir /changes/upper /changes/work
mount -t overlay -o lowerdir=/project:/base,upperdir=/changes/upper,workdir=/changes/work root1 /root1
cd /root1
mkdir -p dev proc sys tmp
for folder in dev proc sys; do mount --rbind /$folder $folder; done
mount -t debugfs debug sys/kernel/debug
`;

/** How often a level 1 that dies, or stands still, under its work is replaced: that is the emulator's doing, not ours. */
const ATTEMPTS = 3;

/**
 * Does some work in a level 1 of its own. If that dies or stands still meanwhile, the work is done again in another, and a warning says so;
 * anything else that fails, fails.
 */
export async function inLevel1<T>(work: (level1: Level1) => Promise<T>, options: Level1Options = {}): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    await using level1 = await Level1.start(options);
    try {
      return await work(level1);
    } catch (error) {
      if (!level1.died || attempt === ATTEMPTS) throw error;
      process.stderr.write(`level 1 died, attempt ${attempt} of ${ATTEMPTS}: ${describeError(error)}\n`);
    }
  }
}

export interface Level1Streams extends CommandStreams {
  /** Runs the command on a terminal of this size. */
  readonly terminal?: TerminalSize | undefined;
}

export class Level1 implements AsyncDisposable {
  readonly #agent: AgentChannel;
  #died = false;

  private constructor(
    private readonly qemu: QemuProcess,
    private readonly folder: string,
  ) {
    this.#agent = new AgentChannel(qemu.agentPort);
    void qemu.ended.then((reason) => this.#end(reason));
  }

  /** Whether it has ended, closed or by itself, or its kernel answers nobody. */
  get died(): boolean {
    return this.#died;
  }

  /**
   * Boots level 1; resolves when it has a /dev/kvm and its disks.
   * @throws {MissingPieceError} if something that belongs into it isn't there
   * @throws {SandboxError} if it doesn't come up; `consoleTail` tells its last lines
   */
  static async start(options: Level1Options = {}): Promise<Level1> {
    const folder = await mkdtemp(join(tmpdir(), 'slipway-nested-'));
    try {
      const arch = hostArch();
      const qemu = await QemuProcess.start(arch.qemu, await level1Options(folder, options), options.console);
      const level1 = new Level1(qemu, folder);
      try {
        await level1.#prepare();
        void level1.#watch();
        return level1;
      } catch (error) {
        await level1.close();
        throw error;
      }
    } catch (error) {
      await rm(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** The last lines of its console, oldest first. */
  get consoleTail(): string[] {
    return this.qemu.consoleTail;
  }

  /**
   * Runs a command on level 1's disks.
   * @throws {CommandTimeoutError} when the time is up: the command has been killed
   * @throws {SandboxError} if level 1 goes before the command has ended
   */
  run(command: readonly string[], options: Level1Streams = {}, timeoutMs = COMMAND_TIMEOUT): Promise<CommandResult> {
    return this.#start(['chroot', '/root1', ...command], options, timeoutMs);
  }

  /**
   * Runs a compiled script of test/nested/inside, which prints JSON as its last line.
   * @throws {SandboxError} if its exit code isn't 0; its standard error and level 1's console are in the message
   */
  async script(name: string, args: readonly (string | number)[] = [], timeoutMs = COMMAND_TIMEOUT): Promise<unknown> {
    const path = `${PROJECT}/dist/test/nested/inside/${name}.js`;
    const { exitCode, stdout, stderr } = await this.run(['node', path, ...args.map(String)], {}, timeoutMs);
    const said = [`${name} ended with ${exitCode}`, stdout.trim(), stderr.trim(), ...this.consoleTail.slice(-10)];
    if (exitCode !== 0) throw new SandboxError(said.join('\n'), this.consoleTail);
    return JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
  }

  async close(): Promise<void> {
    await this.qemu.kill();
    await rm(this.folder, { recursive: true, force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #end(reason: SandboxError): void {
    if (this.#died) return;
    this.#died = true;
    this.#agent.fail(reason);
  }

  /** Asks again and again whether anybody is there. */
  async #watch(): Promise<void> {
    while (!this.#died) {
      await sleep(HEARTBEAT, undefined, { ref: false });
      try {
        await this.#start(['true'], {}, SILENCE);
      } catch {
        this.#end(new SandboxError('level 1 stands still', this.consoleTail));
      }
    }
  }

  async #prepare(): Promise<void> {
    const timer = setTimeout(() => {
      this.#agent.fail(new SandboxError('level 1 has not booted', this.consoleTail));
    }, BOOT_TIMEOUT);
    try {
      await this.#agent.ready;
    } finally {
      clearTimeout(timer);
    }
    const { exitCode, stderr } = await this.#start(['sh', '-c', PREPARE], {}, COMMAND_TIMEOUT);
    if (exitCode !== 0) throw new SandboxError(`level 1 can't be prepared: ${stderr.trim()}`, this.consoleTail);
  }

  async #start(command: readonly string[], options: Level1Streams, timeoutMs: number): Promise<CommandResult> {
    const { terminal, ...streams } = options;
    const request = { command, folder: '/', environment: ENVIRONMENT, terminal };
    const started = this.#agent.start(request, streams);
    const timer = setTimeout(() => {
      started.kill(SIGKILL);
      const tail = this.consoleTail.slice(-10).join('\n');
      started.fail(new CommandTimeoutError(`${command.join(' ')} was killed after ${timeoutMs} ms; console:\n${tail}`));
    }, timeoutMs);
    try {
      return await started.result;
    } finally {
      clearTimeout(timer);
    }
  }
}

async function level1Options(folder: string, options: Level1Options): Promise<string[]> {
  const arch = hostArch();
  const pieces = guestPieces();
  const { base, project } = level1Images();
  const release = await arch.kernelRelease(pieces.vmlinux);
  const modules = join(pieces.modules, release ?? readdirSync(pieces.modules)[0] ?? '');
  const files: Record<string, string> = {};
  for (const [index, { name, content }] of loadModules(modules, MODULES).entries()) {
    const file = `${String(index).padStart(2, '0')}-${name}.ko`;
    await writeFile(join(folder, file), content);
    files[`/level1/${file}`] = join(folder, file);
  }
  const initramfs = join(folder, 'initramfs.cpio');
  await writeFile(initramfs, buildInitramfs(pieces, modules, files));
  const settings = {
    accelerator: 'tcg',
    cpus: options.cpus ?? 1,
    memoryMiB: options.memoryMiB ?? 2048,
    kernel: await arch.kernelForQemu(pieces.vmlinux, folder),
    initramfs,
    kernelParameters: [],
    net: { kind: 'none' },
    agentFd: AGENT_FD,
  } as const;
  return [...qemuOptions(arch, settings), ...disk('base', base), ...disk('project', project)];
}

function disk(name: string, path: string): string[] {
  const file = path.replaceAll(',', ',,');
  const backEnd = `driver=file,node-name=${name},filename=${file},read-only=on`;
  return ['-blockdev', backEnd, '-device', `virtio-blk-pci,drive=${name}`];
}
