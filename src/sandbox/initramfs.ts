/** The guest's file system: busybox, drivers, our init and agent, and the user's files, as an initramfs. */
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { posix } from 'node:path';
import { MissingPieceError, describeError } from '../errors.js';
import { writeCpio } from './cpio.js';
import type { CpioEntry } from './cpio.js';
import type { GuestPieces } from './guestPieces.js';
import { loadModules } from './kernelModules.js';
import { sharedLibraries } from './sharedLibraries.js';

/** Transport, network card, and the port that commands come through; their dependencies are found. */
const MODULES = ['virtio_pci', 'virtio_net', 'virtio_console'];

/** Mount points and folders that programs expect. */
const FOLDERS = ['dev', 'proc', 'sys', 'tmp', 'run', 'root', 'etc', 'bin', 'sbin', 'usr/bin', 'usr/sbin', 'var/run'];

const SYSTEM_FILES: Readonly<Record<string, string>> = {
  'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\n',
  'etc/group': 'root:x:0:\n',
  'etc/hosts': '127.0.0.1 localhost\n::1 localhost\n',
};

/** Files to add: where in the guest (an absolute path) → where on the host. */
export type GuestFiles = Readonly<Record<string, string>>;

/** A file system in the making; a later file of the same path replaces an earlier one. */
class FileTree {
  readonly #entries = new Map<string, CpioEntry>();

  add(entry: CpioEntry): void {
    this.#addFolders(posix.dirname(entry.path));
    this.#entries.set(entry.path, entry);
  }

  addFile(path: string, content: Uint8Array, mode: number): void {
    this.add({ kind: 'file', path, mode, content });
  }

  has(path: string): boolean {
    return this.#entries.has(path);
  }

  /** Folders come before what lies in them: they were added first. */
  toCpio(): Buffer {
    return writeCpio([...this.#entries.values()]);
  }

  #addFolders(path: string): void {
    if (path === '.' || this.#entries.has(path)) return;
    this.#addFolders(posix.dirname(path));
    this.#entries.set(path, { kind: 'directory', path, mode: 0o755 });
  }
}

/**
 * Builds the initramfs of a sandbox, uncompressed: unpacking costs an emulated guest more than copying.
 * @param pieces what set-up prepared
 * @param modules folder of the kernel's modules, `/lib/modules/RELEASE`; undefined if all that matters is built in
 * @throws {MissingPieceError} if a file can't be read
 */
export function buildInitramfs(pieces: GuestPieces, modules: string | undefined, files: GuestFiles): Buffer {
  const tree = new FileTree();
  for (const folder of FOLDERS) tree.add({ kind: 'directory', path: folder, mode: folder === 'tmp' ? 0o1777 : 0o755 });
  // The kernel opens /dev/console for process 1 before that has mounted anything.
  tree.add({ kind: 'characterDevice', path: 'dev/console', mode: 0o600, major: 5, minor: 1 });
  for (const [path, content] of Object.entries(SYSTEM_FILES)) tree.addFile(path, Buffer.from(content), 0o644);
  addBusybox(tree, pieces.busybox);
  tree.addFile('init', readFileSync(pieces.init), 0o755);
  tree.addFile('lib/slipway/agent', readFileSync(pieces.agent), 0o755);
  tree.addFile('lib/slipway/udhcpc', readFileSync(pieces.udhcpc), 0o755);
  addModules(tree, modules);
  for (const [guestPath, hostPath] of Object.entries(files)) addUserFile(tree, guestPath, hostPath);
  return tree.toCpio();
}

function addBusybox(tree: FileTree, busybox: string): void {
  tree.addFile('bin/busybox', readFileSync(busybox), 0o755);
  const applets = execFileSync(busybox, ['--list-full'], { encoding: 'utf8' }).split('\n');
  for (const path of applets) {
    if (path !== '' && !tree.has(path)) tree.add({ kind: 'symlink', path, target: '/bin/busybox' });
  }
}

function addModules(tree: FileTree, folder: string | undefined): void {
  const modules = folder === undefined ? [] : loadModules(folder, MODULES);
  for (const { name, content } of modules) tree.addFile(`lib/slipway/modules/${name}.ko`, content, 0o644);
  const order = modules.map(({ name }) => `${name}.ko\n`).join('');
  tree.addFile('lib/slipway/modules/order', Buffer.from(order), 0o644);
}

function addUserFile(tree: FileTree, guestPath: string, hostPath: string): void {
  let content: Buffer;
  let mode: number;
  try {
    content = readFileSync(hostPath);
    mode = statSync(hostPath).mode & 0o777;
  } catch (error) {
    throw new MissingPieceError(`cannot read ${hostPath}, the guest's ${guestPath} (${describeError(error)})`);
  }
  tree.addFile(relative(guestPath), content, mode);
  for (const library of sharedLibraries(hostPath, content)) {
    if (!tree.has(relative(library))) tree.addFile(relative(library), readFileSync(library), 0o755);
  }
}

/** A guest path as cpio wants it. `..` can't lead out: the path is taken from the root. */
function relative(guestPath: string): string {
  return posix.resolve('/', guestPath).slice(1);
}
