/** The kernel's command line of a sandbox, whoever runs it. */
import type { Arch } from '../../arch/arch.js';

/** @param more what the user adds */
export function kernelCommandLine(arch: Arch, more: readonly string[]): string {
  return [`console=${arch.console}`, 'quiet', 'panic=-1', ...arch.kernelParameters, ...more].join(' ');
}
