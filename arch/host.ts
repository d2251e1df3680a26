/** The processor that this process runs on. */
import { SlipwayError } from '../src/errors.js';
import type { Arch } from './arch.js';
import { x86_64 } from './x86_64/x86_64.js';

/** @throws {SlipwayError} for a processor that Slipway doesn't know */
export function hostArch(): Arch {
  if (process.arch === 'x64') return x86_64;
  throw new SlipwayError(`Slipway starts guests on x86-64 only, and this is ${process.arch}`);
}
