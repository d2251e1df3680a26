/** The benchmarks' C programs: compiled when first needed, or when a source has changed, into `.cache/bench`. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { SlipwayError } from '../../src/errors.js';
import { packageRoot } from '../../src/packageRoot.js';

/** A C program could not be compiled. */
export class CompileError extends SlipwayError {
  override readonly name = 'CompileError';
}

/**
 * Compiles one C file of bench/ to a static program that runs on the host and in any guest.
 * @param source path below bench/, such as `guest/crr.c`
 * @returns the program's path
 * @throws {CompileError} if there is no C compiler or it refuses
 */
export function compileTool(source: string): string {
  const path = join(packageRoot(), 'bench', source);
  const folder = join(packageRoot(), '.cache/bench');
  const program = join(folder, basename(source, '.c'));
  if (existsSync(program) && statSync(program).mtimeMs > newestSource()) return program;
  mkdirSync(folder, { recursive: true });
  const scratch = `${program}.${process.pid}`;
  const compiler = spawnSync('cc', ['-O2', '-Wall', '-Wextra', '-static', '-pthread', '-o', scratch, path], {
    encoding: 'utf8',
  });
  if (compiler.error) throw new CompileError(`cannot run cc, the C compiler (${compiler.error.message}); install gcc`);
  if (compiler.status !== 0) throw new CompileError(`cc does not compile ${path}: ${compiler.stderr.trim()}`);
  renameSync(scratch, program);
  return program;
}

/** When the newest C source or header of the benchmarks changed, ms since 1970; long ago where only the programs are. */
function newestSource(): number {
  const folders = ['guest', 'native'].map((name) => join(packageRoot(), 'bench', name)).filter(existsSync);
  const files = folders.flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)));
  return Math.max(...files.filter((file) => /\.[ch]$/.test(file)).map((file) => statSync(file).mtimeMs));
}
