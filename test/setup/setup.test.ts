import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../src/packageRoot.js';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'slipway-setup-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function setup(root: string, env: NodeJS.ProcessEnv = {}): { status: number | null; stdout: string; stderr: string } {
  const script = join(root, 'src/setup/setup.mjs');
  return spawnSync(process.execPath, [script], { encoding: 'utf8', env: { ...process.env, ...env } });
}

/** A checkout with set-up alone. */
function checkout(name: string): string {
  const root = join(folder, name);
  cpSync(join(packageRoot(), 'src/setup'), join(root, 'src/setup'), { recursive: true });
  return root;
}

/** A folder for PATH that holds scripts in the place of programs. */
function programs(name: string, scripts: Record<string, string>): string {
  const path = join(folder, name);
  mkdirSync(path);
  for (const [program, script] of Object.entries(scripts)) {
    writeFileSync(join(path, program), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }
  return path;
}

describe('set-up', () => {
  it('says nothing and succeeds when nothing is missing', () => {
    expect(setup(packageRoot())).toMatchObject({ status: 0, stdout: '', stderr: '' });
  });

  it('says in one line what is missing where there is no apt-get', () => {
    const { status, stderr } = setup(checkout('no-apt'), { PATH: programs('none', {}) });
    expect(stderr).toMatch(/^setup: missing: .*qemu-system-x86.*there is no apt-get; install them.*\n$/);
    expect(status).toBe(1);
  });

  it('says in one line why apt-get failed, and where its output is', () => {
    const path = programs('broken-apt', { 'apt-get': 'echo "E: no route to the mirror" >&2; exit 100' });
    symlinkSync('/bin/sh', join(path, 'sh'));
    const { status, stderr } = setup(checkout('broken-apt-checkout'), { PATH: path });
    const lines = stderr.trimEnd().split('\n');
    expect(lines[0]).toMatch(/^setup: installing Debian packages: .*qemu-system-x86/);
    expect(lines[1]).toMatch(/^setup: (apt-get update failed|.*not root).*/);
    expect(lines).toHaveLength(2);
    expect(status).toBe(1);
  });

  it('refuses a QEMU that is too old and cannot be replaced', () => {
    const old = programs('old-qemu', { 'qemu-system-x86_64': 'echo "QEMU emulator version 7.2.19"' });
    const { status, stderr } = setup(checkout('old-qemu-checkout'), { PATH: old });
    expect(stderr).toMatch(/missing: .*qemu-system-x86 \(QEMU 8 or newer\)/);
    expect(status).toBe(1);
  });
});
