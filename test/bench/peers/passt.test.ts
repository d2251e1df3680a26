import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addPasst, passtCommand, passtMode, passtVersion } from '../../../bench/peers/passt.js';
import type { Passt } from '../../../bench/peers/passt.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'slipway-passt-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A program that says this when it is asked anything. */
function saying(name: string, text: string): Passt {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\ncat << 'END'\n${text}\nEND\n`);
  chmodSync(path, 0o755);
  return { name, command: [path] };
}

describe('addPasst', () => {
  it('takes a program with arguments, and a name before it', () => {
    const first = addPasst('/opt/passt');
    expect(addPasst('old=/opt/old/passt  --debug', first)).toEqual([
      { name: 'passt', command: ['/opt/passt'] },
      { name: 'old', command: ['/opt/old/passt', '--debug'] },
    ]);
  });

  it('refuses nothing at all, and a name that is taken', () => {
    for (const wrong of ['', ' ', 'name=']) expect(() => addPasst(wrong)).toThrow(/COMMAND/);
    expect(() => addPasst('/b', addPasst('/a'))).toThrow(/taken/);
  });
});

it('runs vhost-user where it is offered, and names the socket and the addresses', () => {
  const modern = saying('modern', 'passt 2026_10_02\n  --vhost-user  Enable vhost-user mode');
  expect(passtMode(modern)).toBe('vhost-user');
  expect(passtVersion(modern)).toBe('passt 2026_10_02');
  const command = passtCommand(modern, 'vhost-user', '/s');
  expect(command.slice(0, 2)).toEqual([modern.command[0], '--vhost-user']);
  for (const [flag, value] of [
    ['--socket', '/s'],
    ['--address', '10.0.2.15'],
    ['--map-host-loopback', '10.0.2.2'],
  ])
    expect(command[command.indexOf(flag!) + 1]).toBe(value);
});

it('runs the stream socket where it is not', () => {
  const old = saying('old', 'passt 2023_03_09');
  expect(passtMode(old)).toBe('stream');
  expect(passtCommand(old, 'stream', '/s')).not.toContain('--vhost-user');
});

it('says so when a program has no version', () => {
  expect(passtVersion({ name: 'none', command: [join(folder, 'none')] })).toBe('version unknown');
});
