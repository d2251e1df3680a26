/** A machine with a bare-metal guest, and what that says on its console. */
import { x86_64Machine } from '../../arch/x86_64/machine.js';
import { addon } from '../../src/native/addon.js';
import { Machine, type MachineOptions } from '../../src/vmm/machine.js';
import { until } from '../until.js';

export interface BareMachine {
  readonly machine: Machine;
  /** All that the guest wrote so far. */
  text(): string;
  /** Waits until the guest has written that. */
  said(text: string): Promise<boolean>;
}

/** It stands still; with 2 vCPUs and 16 MiB of memory if not said otherwise. */
export async function bareMachine(kernel: string, options: Partial<MachineOptions> = {}): Promise<BareMachine> {
  let output = '';
  const onConsole = (bytes: Buffer): void => void (output += bytes.toString('latin1'));
  const machine = await Machine.create({
    addon,
    arch: x86_64Machine,
    cpus: 2,
    memoryMiB: 16,
    kernel,
    onConsole,
    ...options,
  });
  return { machine, text: () => output, said: (text) => until(() => output.includes(text)) };
}
