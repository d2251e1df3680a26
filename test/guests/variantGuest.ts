/** A Linux guest under a QEMU whose network card, memory and life the test decides itself. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { hostArch } from '../../arch/host.js';
import { AgentChannel } from '../../src/sandbox/agentChannel.js';
import type { CommandResult } from '../../src/sandbox/command.js';
import { guestPieces } from '../../src/sandbox/guestPieces.js';
import { buildInitramfs } from '../../src/sandbox/initramfs.js';
import type { GuestFiles } from '../../src/sandbox/initramfs.js';
import { qemuOptions } from '../../src/sandbox/qemuOptions.js';
import { AGENT_FD, QemuProcess } from '../../src/sandbox/qemuProcess.js';

const PATH = '/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const RETRY_MS = 50;

export interface VariantOptions {
  /** Where the back end listens. */
  readonly path: string;
  readonly queues?: number;
  readonly cpus?: number;
  readonly memoryMiB?: number;
  /** More of `-device virtio-net-pci`; it says `mq` and `vectors` if the test wants them. */
  readonly device?: string;
  /** More of `-chardev socket`. */
  readonly chardev?: string;
  /** Takes the place of the memory that a sandbox has. */
  readonly memory?: readonly string[];
  /** More options. */
  readonly more?: readonly string[];
  readonly files?: GuestFiles;
}

/** QEMU's options with another memory back end. */
function withMemory(options: string[], memory: readonly string[] | undefined): string[] {
  if (memory === undefined) return options;
  const at = options.indexOf('-m');
  const end = options.indexOf('-numa') + 2;
  return [...options.slice(0, at), ...memory, ...options.slice(end)];
}

export class VariantGuest implements AsyncDisposable {
  private agent: AgentChannel;
  private monitor: Promise<Monitor> | undefined;

  private constructor(
    private readonly qemu: QemuProcess,
    private readonly folder: string,
  ) {
    this.agent = new AgentChannel(qemu.agentPort);
    void qemu.ended.then((reason) => this.agent.fail(reason));
  }

  /** Presses the reset button and waits until the guest runs again, as `ready` does. Nothing may be running that talks. */
  async reset(): Promise<string> {
    this.qemu.agentPort.removeAllListeners('data');
    this.agent = new AgentChannel(this.qemu.agentPort);
    await this.qmp('system_reset');
    return this.agent.ready;
  }

  /** Ends QEMU without a warning to anybody. */
  async kill(): Promise<void> {
    (await this.monitor?.catch(() => undefined))?.close();
    this.monitor = undefined;
    await this.qemu.kill();
  }

  /** Starts QEMU; `ready` resolves when the guest runs. */
  static async start(options: VariantOptions): Promise<VariantGuest> {
    const folder = mkdtempSync(join(tmpdir(), 'slipway-guest-'));
    const arch = hostArch();
    const pieces = guestPieces();
    const release = (await arch.kernelRelease(pieces.vmlinux)) ?? '';
    const initramfs = join(folder, 'initramfs.cpio');
    writeFileSync(initramfs, buildInitramfs(pieces, join(pieces.modules, release), options.files ?? {}));
    const settings = {
      accelerator: arch.canUseKvm() ? 'kvm' : 'tcg',
      cpus: options.cpus ?? 1,
      memoryMiB: options.memoryMiB ?? 256,
      kernel: await arch.kernelForQemu(pieces.vmlinux, folder),
      initramfs,
      kernelParameters: [],
      net: { kind: 'none' },
      agentFd: AGENT_FD,
    } as const;
    const { queues = 1, device = `mq=on,vectors=${2 * queues + 2}`, chardev = '' } = options;
    const net = [
      ['-chardev', `socket,id=net,path=${options.path}${chardev === '' ? '' : `,${chardev}`}`],
      ['-netdev', `vhost-user,id=net,chardev=net,queues=${queues}`],
      ['-device', `virtio-net-pci,netdev=net,id=nic,romfile=,${device}`],
      ['-qmp', `unix:${join(folder, 'qmp')},server=on,wait=off`],
    ].flat();
    const base = withMemory(qemuOptions(arch, settings), options.memory);
    // A reset is part of a test.
    const kept = base.filter((option) => option !== '-no-reboot');
    const qemu = await QemuProcess.start(arch.qemu, [...kept, ...net, ...(options.more ?? [])], undefined);
    return new VariantGuest(qemu, folder);
  }

  /** Resolves when the guest has booted, with a complaint about its network; empty if it has a lease. */
  get ready(): Promise<string> {
    return this.agent.ready;
  }

  /** Why QEMU ended, once it has. */
  get ended(): Promise<Error> {
    return this.qemu.ended;
  }

  get consoleTail(): string[] {
    return this.qemu.consoleTail;
  }

  /** Runs a command in the guest's shell. */
  run(command: string): Promise<CommandResult> {
    const request = { command: ['sh', '-c', command], folder: '/root', environment: { PATH }, terminal: undefined };
    return this.agent.start(request, {}).result;
  }

  /** Executes a command of QEMU's monitor. @throws {Error} if QEMU refuses */
  async qmp(execute: string, args: Record<string, unknown> = {}): Promise<unknown> {
    this.monitor ??= Monitor.connect(join(this.folder, 'qmp'));
    return (await this.monitor).execute(execute, args);
  }

  /** Where the guest is, for the report of one that hangs: its console, its processors. */
  async whereabouts(): Promise<string> {
    const processors = await this.hmp('info registers -a');
    return [...this.consoleTail, await this.hmp('info status'), ...(processors.match(/.*(RIP|HLT)=.*/g) ?? [])].join(
      '\n',
    );
  }

  /** Executes a command of QEMU's human monitor; returns what it says. */
  async hmp(commandLine: string): Promise<string> {
    return String(await this.qmp('human-monitor-command', { 'command-line': commandLine }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** QEMU's machine protocol: one command at a time. */
class Monitor {
  private readonly lines: AsyncIterator<string>;

  private constructor(private readonly socket: Socket) {
    this.lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  }

  static async connect(path: string): Promise<Monitor> {
    for (;;) {
      const socket = connect(path);
      const connected = await new Promise<boolean>((resolve) => {
        socket.once('connect', () => resolve(true));
        socket.once('error', () => resolve(false));
      });
      if (!connected) {
        await delay(RETRY_MS);
        continue;
      }
      socket.on('error', () => undefined);
      const monitor = new Monitor(socket);
      await monitor.lines.next(); // the greeting
      await monitor.execute('qmp_capabilities', {});
      return monitor;
    }
  }

  async execute(execute: string, args: Record<string, unknown>): Promise<unknown> {
    this.socket.write(`${JSON.stringify({ execute, arguments: args })}\n`);
    for (;;) {
      const { value, done } = await this.lines.next();
      if (done === true) throw new Error(`QEMU ended upon ${execute}`);
      const answer = JSON.parse(value as string) as { return?: unknown; error?: { desc: string } };
      if (answer.error !== undefined) throw new Error(answer.error.desc);
      if ('return' in answer) return answer.return;
    }
  }

  close(): void {
    this.socket.destroy();
  }
}
