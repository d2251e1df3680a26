/** What a dynamic executable needs beside itself. */
import { spawnSync } from 'node:child_process';

/**
 * Paths of the shared libraries and of the loader that an executable needs, as ldd(1) finds them; none for scripts, data
 * and static executables. Meant for the user's own files: ldd may run them.
 */
export function sharedLibraries(path: string, content: Buffer): string[] {
  if (content.toString('latin1', 0, 4) !== '\x7fELF') return [];
  const { status, stdout } = spawnSync('ldd', [path], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return status === 0 ? librariesIn(stdout) : [];
}

/** The paths in ldd's output: `libc.so.6 => /lib/libc.so.6 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`. */
export function librariesIn(output: string): string[] {
  return [...output.matchAll(/^\s+(?:\S+ => )?(\/.+) \(0x[0-9a-f]+\)$/gm)].flatMap((match) => match[1] ?? []);
}
