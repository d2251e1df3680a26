/** A sandbox's guest on Slipway's own VMM, with the face that a guest under QEMU has. */
import { Duplex, type Writable } from 'node:stream';
import type { MachineArch } from '../../arch/machine.js';
import { VirtioConsolePci } from '../../device/pci/virtioConsolePci.js';
import { VirtioNetPci } from '../../device/pci/virtioNetPci.js';
import { SandboxError, VcpuError } from '../errors.js';
import { addon } from '../native/addon.js';
import type { Network } from '../network.js';
import { GuestConsole } from '../sandbox/guestConsole.js';
import { describePaths, type EventPaths } from './eventPaths.js';
import { Machine, type MachineStats } from './machine.js';
import type { GuestEnd } from './vcpu.js';

export interface KvmGuestOptions {
  readonly arch: MachineArch;
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly kernel: string;
  readonly initramfs: string;
  /** The kernel's command line. */
  readonly commandLine: string;
  /** What serves its network card; `undefined`: it has none. */
  readonly network: { readonly network: Network; readonly queues: number } | undefined;
  /** Where the guest's console goes, beside the tail kept for errors. */
  readonly console: Writable | undefined;
  /** Takes eventfds that KVM has away from its devices; all are allowed if left out. */
  readonly paths?: Partial<EventPaths> | undefined;
}

const nothing = async (): Promise<void> => {};

export class KvmGuest {
  /** Resolves when the guest has ended. */
  readonly ended: Promise<SandboxError>;

  private constructor(
    private readonly machine: Machine,
    /** The stream to the agent's port. */
    readonly agentPort: Duplex,
    private readonly console: GuestConsole,
    private readonly detach: () => Promise<void>,
  ) {
    this.ended = machine.ended.then((end) => this.#reasonOfEnd(end));
  }

  /**
   * Builds the machine and starts it.
   * @throws {KvmError} when there is no KVM that does what is needed
   * @throws {MissingPieceError} for what is no kernel
   * @throws {SlipwayError} when memory is too small, or can't be had
   */
  static async start(options: KvmGuestOptions): Promise<KvmGuest> {
    const console = new GuestConsole(options.console);
    const port = new Duplex({ read: () => undefined });
    const machine = await Machine.create({
      ...options,
      addon,
      onConsole: (bytes) => {
        console.push(bytes);
      },
    });
    let detach = nothing;
    try {
      if (options.network !== undefined) detach = await attach(machine, options.network);
      // Behind the network card, which is then the guest's virtio0.
      plugAgentPort(machine, port, (message) => console.push(Buffer.from(`slipway: the agent's port: ${message}\n`)));
      machine.start();
      return new KvmGuest(machine, port, console, detach);
    } catch (error) {
      await machine.close();
      await detach();
      throw error;
    }
  }

  /** The last lines of the guest's console. */
  get consoleTail(): string[] {
    return this.console.lines();
  }

  stats(): MachineStats {
    return this.machine.stats();
  }

  /** Ends the guest, whatever it does, and resolves when it is gone. */
  async kill(): Promise<void> {
    await this.machine.close();
    await this.detach();
  }

  #reasonOfEnd(end: GuestEnd): SandboxError {
    const panic = this.console.panic();
    if (panic !== undefined) return panic;
    const tail = this.consoleTail;
    if (end.kind === 'failed')
      return new VcpuError(`the guest was stopped: ${end.message}`, tail, end.vcpu, end.reason);
    const how = end.kind === 'reset' ? 'the guest rebooted' : 'the guest powered itself off';
    return new SandboxError(how, tail);
  }
}

/** A virtio console's port, as under QEMU. */
function plugAgentPort(machine: Machine, port: Duplex, warn: (message: string) => void): void {
  const output = (bytes: Buffer): void => void port.push(bytes);
  const console = machine.plug(
    (platform) => new VirtioConsolePci({ addon, platform, memory: machine.memory, output, warn }),
  );
  port._write = (chunk: Buffer, _encoding, done): void => {
    console.send(chunk);
    done();
  };
}

async function attach(
  machine: Machine,
  { network, queues }: NonNullable<KvmGuestOptions['network']>,
): Promise<() => Promise<void>> {
  let card: VirtioNetPci | undefined;
  const networkClosed = (): void => card?.setLink(false);
  const { device, config, info, warn, detach } = await network.attach({ queues, networkClosed });
  const { paths } = machine;
  const say = paths.irqfd && paths.ioeventfd && paths.resample ? info : warn;
  say(`Slipway's VMM: ${describePaths(paths)}`);
  await device.setMemory(machine.memory);
  machine.plug((platform) => {
    card = new VirtioNetPci({ addon, platform, dataPlane: device, config, memory: machine.memory, warn });
    return card;
  });
  return detach;
}
