/** What is known of a kernel once it lies in memory. */
import { SlipwayError } from '../../src/errors.js';

export interface LoadedKernel {
  readonly entry: bigint;
  /** First byte behind it, and what it takes while it starts. */
  readonly end: number;
  /** The last address that its initramfs may have. */
  readonly ramdiskMax: number;
  /** Bytes of its command line at most, without the NUL. */
  readonly commandLineMax: number;
}

export function mebibytes(bytes: number): number {
  return Math.ceil(bytes / 2 ** 20);
}

export function tooSmall(low: Buffer, what: string, needed: number): SlipwayError {
  return new SlipwayError(
    `${Math.floor(low.length / 2 ** 20)} MiB of guest memory are too few: ${what} alone takes all up to ${mebibytes(needed)} MiB; give it more`,
  );
}
