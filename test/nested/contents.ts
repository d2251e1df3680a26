/** What level 1 finds on its disks: a base that rarely changes, and the compiled project. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { compileTool } from '../../bench/native/tools.js';
import { MissingPieceError } from '../../src/errors.js';
import { packageRoot } from '../../src/packageRoot.js';
import { guestPieces } from '../../src/sandbox/guestPieces.js';
import { loadModules } from '../../src/sandbox/kernelModules.js';
import { sharedLibraries } from '../../src/sandbox/sharedLibraries.js';
import { diskImage } from './diskImage.js';
import type { ImageEntry } from './diskImage.js';

/** Where level 1 has the project. */
export const PROJECT = '/slipway';

/** What QEMU loads at start with a kernel given by `-kernel` and no VGA. */
const QEMU_FIRMWARE = ['bios-256k.bin', 'kvmvapic.bin', 'linuxboot_dma.bin', 'pvh.bin'];

/** The modules of level 2; a kernel's whole folder would take an emulated processor long to search. */
const LEVEL_2_MODULES = ['virtio_pci', 'virtio_net', 'virtio_console'];

/** The real one is a script for bash. */
const LDD = '#!/bin/sh\nexec /lib64/ld-linux-x86-64.so.2 --list "$1"\n';

/** Set-up's, and what building it takes, stay outside. */
const BUILD_PACKAGES = new Set(['cmake-js', 'node-addon-api', 'node-api-headers']);

/**
 * Paths of both images, made anew if what they hold has changed.
 * @throws {MissingPieceError} if something that belongs into them isn't there
 */
export function level1Images(): { readonly base: string; readonly project: string } {
  const folder = join(packageRoot(), '.cache/nested');
  mkdirSync(folder, { recursive: true });
  return {
    base: diskImage(folder, 'base', [...programs(folder), ...firmware(), ...busybox(), ...guestKernel(folder)]),
    project: diskImage(folder, 'project', project()),
  };
}

/** An executable or shared object, and the libraries that it needs, each where it is on the host. */
function withLibraries(source: string, path = source): ImageEntry[] {
  const libraries = sharedLibraries(source, readFileSync(source));
  return [{ path, source }, ...libraries.map((library) => ({ path: library, source: library }))];
}

function programs(folder: string): ImageEntry[] {
  const ldd = kept(join(folder, 'ldd'), Buffer.from(LDD));
  chmodSync(ldd, 0o755);
  return [
    [{ path: '/usr/bin/ldd', source: ldd }],
    withLibraries(process.execPath, '/usr/bin/node'),
    withLibraries(findProgram('qemu-system-x86_64'), '/usr/bin/qemu-system-x86_64'),
    withLibraries(findProgram('setpriv'), '/usr/bin/setpriv'),
    withLibraries(findProgram('ethtool'), '/usr/sbin/ethtool'),
    // The addon's own, so that a new build of it leaves the base as it is.
    withLibraries(addon()).slice(1),
  ].flat();
}

function addon(): string {
  return join(packageRoot(), 'build/Release/slipway.node');
}

function findProgram(name: string): string {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin'];
  const path = folders.map((folder) => join(folder, name)).find((candidate) => existsSync(candidate));
  if (path === undefined) throw new MissingPieceError(`there is no ${name} on PATH; run npm run setup`);
  return path;
}

function firmware(): ImageEntry[] {
  const { stdout } = spawnSync('qemu-system-x86_64', ['-L', 'help'], { encoding: 'utf8' });
  const folders = stdout.split('\n').filter((line) => line.startsWith('/'));
  return QEMU_FIRMWARE.map((name) => {
    const source = folders.map((folder) => join(folder, name)).find((candidate) => existsSync(candidate));
    if (source === undefined) throw new MissingPieceError(`QEMU's ${name} is not in ${folders.join(', ')}`);
    return { path: source, source };
  });
}

function busybox(): ImageEntry[] {
  const source = guestPieces().busybox;
  const { stdout } = spawnSync(source, ['--list'], { encoding: 'utf8' });
  const applets = stdout.split('\n').filter((applet) => applet !== '' && applet !== 'busybox');
  return [
    { path: '/bin/busybox', source },
    ...applets.map((applet) => ({ path: `/bin/${applet}`, target: 'busybox' })),
  ];
}

/** What level 2 is made of, where level 1's Slipway looks for it. */
function guestKernel(folder: string): ImageEntry[] {
  const pieces = guestPieces();
  const guest = `${PROJECT}/.cache/guest`;
  const release = readdirSync(pieces.modules)[0];
  if (release === undefined) throw new MissingPieceError(`no kernel modules in ${pieces.modules}; run npm run setup`);
  const modules = loadModules(join(pieces.modules, release), LEVEL_2_MODULES).map(({ name, content }) => ({
    path: `${guest}/modules/${release}/kernel/${name}.ko`,
    source: kept(join(folder, `${release}-${name}.ko`), content),
  }));
  return [
    { path: `${guest}/vmlinux`, source: pieces.vmlinux },
    // As Debian installs it.
    { path: `/boot/vmlinuz-${release}`, source: join(dirname(pieces.vmlinux), 'vmlinuz') },
    { path: `${guest}/bin/busybox`, source: pieces.busybox },
    ...modules,
  ];
}

/** A file with this content; one that has it already keeps its time, so that the image with it stays valid. */
function kept(path: string, content: Buffer): string {
  if (!existsSync(path) || !readFileSync(path).equals(content)) writeFileSync(path, content);
  return path;
}

function project(): ImageEntry[] {
  const root = packageRoot();
  // Compiled now, if need be: there is no compiler inside.
  for (const tool of ['guest/crr.c', 'guest/bulk.c', 'native/guestServer.c']) compileTool(tool);
  const folders = [
    ...['arch', 'bench', 'device', 'src', 'workers', 'test/nested'].map((name) => `dist/${name}`),
    'src/guest',
    'bench/guest',
    'bench/native',
    '.cache/bench',
    ...runtimePackages().map((name) => `node_modules/${name}`),
  ];
  const files = ['package.json', 'build/Release/slipway.node', '.cache/guest/bin/agent'];
  return [...files, ...folders.flatMap((folder) => filesIn(root, folder))].map((path) => ({
    path: `${PROJECT}/${path}`,
    source: join(root, path),
  }));
}

/**
 * Files below a folder, relative to `root`, without what only readers and compilers need. A tool without its source is up
 * to date (bench/native/tools.ts), whatever happens to times in an image.
 */
function filesIn(root: string, folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((path) => !/\.(c|h|map|md|d\.[cm]?ts)$/.test(path) && statSync(join(root, path)).isFile())
    .toSorted();
}

/** The packages that package.json's dependencies lead to. */
function runtimePackages(): string[] {
  const root = packageRoot();
  const found = new Set<string>();
  const add = (manifest: string): void => {
    const { dependencies = {} } = JSON.parse(readFileSync(manifest, 'utf8')) as { dependencies?: object };
    for (const name of Object.keys(dependencies)) {
      if (found.has(name) || BUILD_PACKAGES.has(name)) continue;
      found.add(name);
      add(join(root, 'node_modules', name, 'package.json'));
    }
  };
  add(join(root, 'package.json'));
  return [...found];
}
