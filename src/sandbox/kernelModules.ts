/** A kernel's loadable modules: which ones a guest needs, in the order of their dependencies. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { MissingPieceError } from '../errors.js';

export interface KernelModule {
  readonly name: string;
  /** The ELF object, unpacked. */
  readonly content: Buffer;
}

/** Paths by module name, `-` and `_` being the same in names. */
type ModuleIndex = ReadonlyMap<string, string>;

/**
 * The modules `wanted` and all that they depend on, dependencies first. A name that has no file is taken to be built into
 * the kernel and left out.
 * @param folder `/lib/modules/RELEASE` or a copy of it
 * @throws {MissingPieceError} if a module can't be unpacked
 */
export function loadModules(folder: string, wanted: readonly string[]): KernelModule[] {
  const index = indexModules(join(folder, 'kernel'));
  const loaded = new Map<string, KernelModule>();
  const load = (name: string): void => {
    const path = index.get(name);
    if (path === undefined || loaded.has(name)) return;
    const content = unpackModule(path);
    for (const dependency of dependenciesOf(content)) load(dependency);
    loaded.set(name, { name, content });
  };
  for (const name of wanted) load(canonical(name));
  return [...loaded.values()];
}

/** The names in a module's `depends=` entry (section .modinfo: NUL-terminated `key=value` strings). */
export function dependenciesOf(content: Buffer): string[] {
  const key = '\0depends=';
  const at = content.indexOf(key);
  if (at < 0) return [];
  const start = at + key.length;
  const names = content.toString('latin1', start, content.indexOf(0, start));
  return names === '' ? [] : names.split(',').map(canonical);
}

function canonical(name: string): string {
  return name.replaceAll('-', '_');
}

function indexModules(folder: string): ModuleIndex {
  if (!existsSync(folder)) return new Map();
  const paths = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  return new Map(
    paths.flatMap((path) => {
      const name = /^(.+)\.ko(\.(xz|zst|gz))?$/.exec(basename(path))?.[1];
      return name === undefined ? [] : [[canonical(name), join(folder, path)] as const];
    }),
  );
}

function unpackModule(path: string): Buffer {
  const file = readFileSync(path);
  if (path.endsWith('.ko')) return file;
  if (path.endsWith('.gz')) return gunzipSync(file);
  const program = path.endsWith('.xz') ? 'xz' : 'zstd';
  const { status, stdout } = spawnSync(program, ['-dc'], { input: file, maxBuffer: 1 << 28 });
  if (status !== 0) throw new MissingPieceError(`cannot unpack the kernel module ${path}; install ${program}`);
  return stdout;
}
