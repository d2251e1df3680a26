/** Level-2 guests for the scripts in this folder: on a Slipway network, under a VMM named on the command line. */
import { GuestServer } from '../../../bench/guests/guestServer.js';
import { parseCrrRun } from '../../../bench/crr/result.js';
import type { CrrRun } from '../../../bench/crr/result.js';
import { compileTool } from '../../../bench/native/tools.js';
import { SlipwayError } from '../../../src/errors.js';
import { Network } from '../../../src/network.js';
import { Sandbox } from '../../../src/sandbox/sandbox.js';
import type { SandboxOptions } from '../../../src/sandbox/sandbox.js';
import { traced } from './kvmTrace.js';
import type { KvmActivity } from './kvmTrace.js';

export type Vmm = 'kvm' | 'qemu';

const GUEST_MEMORY_MIB = 192;

/** Something in level 2 didn't work. */
export class GuestError extends SlipwayError {
  override readonly name = 'GuestError';
}

/** What may be different from one guest to the next. */
export type GuestVariant = Pick<SandboxOptions, 'eventPaths' | 'kernel' | 'kernelParameters'>;

/** A guest, its network, and the server that its clients talk to. */
export class Guest implements AsyncDisposable {
  private constructor(
    readonly sandbox: Sandbox,
    readonly network: Network,
    readonly server: GuestServer,
    readonly bootMs: number,
  ) {}

  static async start(vmm: Vmm, cpus: number, variant: GuestVariant = {}): Promise<Guest> {
    const server = await GuestServer.start();
    const network = await Network.create({ workers: Math.min(cpus, 2), queues: cpus, allowHostLoopback: true });
    try {
      const files = { '/usr/sbin/ethtool': '/usr/sbin/ethtool', '/bin/crr': compileTool('guest/crr.c') };
      const begin = performance.now();
      const options = { ...vmmOption(vmm), cpus, memoryMiB: GUEST_MEMORY_MIB, files, ...variant };
      const sandbox = await Sandbox.start({ ...options, network });
      const guest = new Guest(sandbox, network, server, performance.now() - begin);
      if (sandbox.networkComplaint !== '') throw new GuestError(sandbox.networkComplaint);
      return guest;
    } catch (error) {
      await network.close();
      await server.stop();
      throw error;
    }
  }

  /** Runs a shell command. @throws {GuestError} if its exit code isn't 0 */
  async shell(script: string): Promise<string> {
    const { exitCode, stdout, stderr } = await this.sandbox.run(['sh', '-c', script]);
    if (exitCode !== 0) throw new GuestError(`${script}: exit code ${exitCode}: ${stdout}${stderr}`);
    return stdout;
  }

  /** @throws {ClientError} if the client doesn't run */
  async crr(flows: number, count: number): Promise<CrrRun> {
    return parseCrrRun(await this.sandbox.run(this.#client(flows, count)));
  }

  /** The same, and what KVM did meanwhile; what the client printed crosses the agent's port afterwards. */
  async tracedCrr(flows: number, count: number): Promise<{ run: CrrRun; activity: KvmActivity }> {
    const command = `${this.#client(flows, count).join(' ')} > /tmp/crr.json`;
    const activity = await traced(() => this.shell(command));
    return { run: parseCrrRun({ exitCode: 0, stdout: await this.shell('cat /tmp/crr.json'), stderr: '' }), activity };
  }

  #client(flows: number, count: number): string[] {
    return ['/bin/crr', '10.0.2.2', this.server.crrPort, flows, count].map(String);
  }

  interrupts(): Promise<string> {
    return this.shell('cat /proc/interrupts');
  }

  async close(): Promise<void> {
    await this.sandbox.close();
    await this.network.close();
    await this.server.stop();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

export function vmmOption(vmm: Vmm): { accelerator: 'kvm'; vmm: Vmm } {
  return { accelerator: 'kvm', vmm };
}

/** The VMM and the number of vCPUs that the script was given. */
export function scriptArguments(): { vmm: Vmm; cpus: number } {
  const [vmm, cpus] = process.argv.slice(2);
  if (vmm !== 'kvm' && vmm !== 'qemu') throw new GuestError(`no VMM ${vmm}: kvm or qemu`);
  return { vmm, cpus: Number(cpus ?? 1) };
}

/** The script's result, as its last line. */
export function report(result: object): void {
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
