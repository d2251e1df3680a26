import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MissingPieceError } from '../../src/errors.js';
import { guestPieces } from '../../src/sandbox/guestPieces.js';
import { buildInitramfs } from '../../src/sandbox/initramfs.js';
import { dependenciesOf, loadModules } from '../../src/sandbox/kernelModules.js';
import { librariesIn, sharedLibraries } from '../../src/sandbox/sharedLibraries.js';

const pieces = guestPieces();
const modules = join(pieces.modules, readdirSync(pieces.modules)[0] ?? '');
let folder = '';

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'slipway-initramfs-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function list(initramfs: Buffer): string[] {
  return spawnSync(pieces.busybox, ['cpio', '-t'], { input: initramfs, encoding: 'utf8' }).stdout.split('\n');
}

describe('initramfs', () => {
  it('holds init, agent, busybox with its applets, and the console that process 1 needs', () => {
    const paths = list(buildInitramfs(pieces, modules, {}));
    for (const path of ['init', 'lib/slipway/agent', 'lib/slipway/udhcpc', 'bin/busybox', 'bin/sh', 'sbin/udhcpc']) {
      expect(paths).toContain(path);
    }
    expect(paths).toContain('dev/console');
  });

  it('names every folder before what lies in it', () => {
    const paths = list(buildInitramfs(pieces, modules, { '/opt/a/b/c': pieces.init }));
    const seen = new Set(['.']);
    for (const path of paths.filter((line) => line !== '')) {
      expect(seen).toContain(join(path, '..'));
      seen.add(path);
    }
  });

  it("takes a dynamic program's libraries and loader along", () => {
    const paths = list(buildInitramfs(pieces, modules, { '/usr/bin/env': '/usr/bin/env' }));
    expect(paths.filter((path) => path.endsWith('libc.so.6'))).toHaveLength(1);
    expect(paths.filter((path) => /ld-linux/.test(path))).toHaveLength(1);
  });

  it('takes a path with .. from the root', () => {
    const paths = list(buildInitramfs(pieces, undefined, { '/opt/../../../evil': pieces.init }));
    expect(paths).toContain('evil');
    expect(paths.some((path) => path.includes('..'))).toBe(false);
  });

  it('says which file of the user is missing', () => {
    const build = (): Buffer => buildInitramfs(pieces, modules, { '/x': join(folder, 'no-such-file') });
    expect(build).toThrow(MissingPieceError);
    expect(build).toThrow(/no-such-file/);
  });
});

describe('kernel modules', () => {
  it('come after what they depend on', () => {
    const names = loadModules(modules, ['virtio_net', 'virtio_pci']).map(({ name }) => name);
    expect(names).toContain('virtio_net');
    for (const { name, content } of loadModules(modules, ['virtio_net', 'virtio_pci'])) {
      for (const dependency of dependenciesOf(content)) {
        expect(names.indexOf(dependency)).toBeLessThan(names.indexOf(name));
        expect(names).toContain(dependency);
      }
    }
  });

  it('are left out when they are built into the kernel', () => {
    expect(loadModules(modules, ['no_such_module'])).toEqual([]);
    expect(loadModules(join(folder, 'nowhere'), ['virtio_net'])).toEqual([]);
  });
});

describe('shared libraries', () => {
  it("are read from ldd's output, vdso and static programs left out", () => {
    const output = [
      '\tlinux-vdso.so.1 (0x00007ffc)',
      '\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f1e)',
      '\t/lib64/ld-linux-x86-64.so.2 (0x00007f1f)',
      '\tlibgone.so => not found',
    ].join('\n');
    expect(librariesIn(output)).toEqual(['/lib/x86_64-linux-gnu/libc.so.6', '/lib64/ld-linux-x86-64.so.2']);
  });

  it('are none for scripts', () => {
    const script = join(folder, 'script');
    writeFileSync(script, '#!/bin/sh\n');
    expect(sharedLibraries(script, Buffer.from('#!/bin/sh\n'))).toEqual([]);
  });
});
