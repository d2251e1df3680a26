/** Disk images with an ext4 file system, made without root, kept until what they hold changes. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { MissingPieceError } from '../../src/errors.js';

/** What lies at a path of the image: a copy of a file of the host, or a symbolic link. */
export type ImageEntry =
  { readonly path: string; readonly source: string } | { readonly path: string; readonly target: string };

/** Inodes, directories and the tail of each file's last block, per file, and the file system's own, bytes. */
const PER_FILE = 8192;
const FIXED = 16 << 20;

/**
 * The image with these entries; made now unless one of the same entries is there already, whose files have had the same
 * sizes and times since. Images of the same name with other entries are removed.
 * @param folder of the images
 * @param entries of two with one path, the later counts
 * @returns its path
 * @throws {MissingPieceError} if mke2fs (e2fsprogs) can't make it
 */
export function diskImage(folder: string, name: string, entries: readonly ImageEntry[]): string {
  const unique = [...new Map(entries.map((entry) => [entry.path, entry])).values()];
  const image = join(folder, `${name}-${fingerprint(unique)}.ext4`);
  if (existsSync(image)) return image;
  mkdirSync(folder, { recursive: true });
  const scratch = mkdtempSync(join(folder, `${name}.tmp-`));
  try {
    const tree = join(scratch, 'tree');
    mkdirSync(tree);
    for (const entry of unique) place(tree, entry);
    const made = join(scratch, 'image');
    makeFileSystem(made, tree, sizeOf(unique));
    renameSync(made, image);
    for (const path of readdirSync(folder).map((file) => join(folder, file))) {
      if (path !== image && path.startsWith(join(folder, `${name}-`)) && path.endsWith('.ext4')) rmSync(path);
    }
    return image;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function fingerprint(entries: readonly ImageEntry[]): string {
  const hash = createHash('sha256');
  for (const entry of entries) {
    if ('target' in entry) hash.update(`${entry.path}\0${entry.target}\n`);
    else {
      const { size, mtimeMs, mode } = statSync(entry.source);
      hash.update(`${entry.path}\0${entry.source}\0${size}\0${mtimeMs}\0${mode}\n`);
    }
  }
  return hash.digest('hex').slice(0, 16);
}

function sizeOf(entries: readonly ImageEntry[]): number {
  const bytes = entries.map((entry) => ('source' in entry ? statSync(entry.source).size : 0) + PER_FILE);
  return FIXED + Math.ceil(bytes.reduce((sum, each) => sum + each, 0) * 1.05);
}

function place(tree: string, entry: ImageEntry): void {
  const path = join(tree, entry.path);
  mkdirSync(dirname(path), { recursive: true });
  if ('target' in entry) {
    symlinkSync(entry.target, path);
    return;
  }
  copyFileSync(entry.source, path);
}

function makeFileSystem(image: string, tree: string, size: number): void {
  writeFileSync(image, '');
  truncateSync(image, size);
  const options = [
    '-q',
    '-F',
    '-t',
    'ext4',
    '-O',
    '^has_journal',
    '-m',
    '0',
    '-E',
    'root_owner=0:0',
    '-d',
    tree,
    image,
  ];
  const environment = { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` };
  const { status, error, stderr } = spawnSync('mke2fs', options, { encoding: 'utf8', env: environment });
  if (error) throw new MissingPieceError(`cannot run mke2fs (${error.message}); install e2fsprogs`);
  if (status !== 0) throw new MissingPieceError(`mke2fs can't make ${image}: ${stderr.trim()}`);
}
