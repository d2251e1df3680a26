/** What the host's kernel lets our sockets do; asked once, when a network is made. */
import { readFileSync } from 'node:fs';
import { addon } from '../src/native/addon.js';

export interface HostKernel {
  /** The kernel honours SO_PEEK_OFF on TCP (Linux 6.9). */
  readonly peekOffset: boolean;
  /** The largest SO_RCVBUF that takes effect, bytes (socket(7), rmem_max); 0: unknown. */
  readonly mostReceiveBuffer: number;
}

export function askHostKernel(): HostKernel {
  return { peekOffset: addon.probePeekOffset(), mostReceiveBuffer: readNumber('/proc/sys/net/core/rmem_max') };
}

/** A sandbox around us may hide /proc. */
function readNumber(path: string): number {
  try {
    return Number(readFileSync(path, 'utf8')) || 0;
  } catch {
    return 0;
  }
}
