/** The processor that this process runs on. */
import { SlipwayError } from '../src/errors.js';
import type { Arch } from './arch.js';
import type { MachineArch } from './machine.js';
import { x86_64Machine } from './x86_64/machine.js';
import { x86_64 } from './x86_64/x86_64.js';

/** @throws {SlipwayError} for a processor that Slipway doesn't know */
export function hostArch(): Arch {
  if (process.arch === 'x64') return x86_64;
  throw new SlipwayError(`Slipway starts guests on x86-64 only, and this is ${process.arch}`);
}

/** The same for the machines of Slipway's own VMM. @throws {SlipwayError} for a processor that Slipway doesn't know */
export function hostMachineArch(): MachineArch {
  if (process.arch === 'x64') return x86_64Machine;
  throw new SlipwayError(`Slipway's own VMM is for x86-64 only, and this is ${process.arch}`);
}
