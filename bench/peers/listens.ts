/** Whether a back end is ready for its front end. */
import { readFileSync } from 'node:fs';

/** SO_ACCEPTCON among the flags of /proc/net/unix (proc_net(5)). */
const ACCEPTS = 0x10000;

/**
 * Whether somebody listens on the UNIX socket at `path`. The socket can be seen before; and a connection is no way to
 * find out, since some back ends serve just one.
 */
export function listens(path: string): boolean {
  const lines = readFileSync('/proc/net/unix', 'utf8').split('\n');
  return lines.some((line) => line.endsWith(` ${path}`) && (Number.parseInt(line.split(/ +/)[3]!, 16) & ACCEPTS) !== 0);
}
