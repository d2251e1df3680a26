import { spawnSync } from 'node:child_process';
import { lstatSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { writeCpio } from '../../src/sandbox/cpio.js';
import type { CpioEntry } from '../../src/sandbox/cpio.js';
import { guestPieces } from '../../src/sandbox/guestPieces.js';

const name = fc.stringMatching(/^[a-zA-Z0-9_é. -]{1,40}$/).filter((text) => text.trim() !== '' && !/^\.+$/.test(text));
const mode = fc.integer({ min: 0o600, max: 0o777 });
const entry: fc.Arbitrary<CpioEntry> = fc.oneof(
  fc.record({ kind: fc.constant('directory' as const), path: name, mode: fc.integer({ min: 0o700, max: 0o777 }) }),
  fc.record({ kind: fc.constant('file' as const), path: name, mode, content: fc.uint8Array({ maxLength: 2000 }) }),
  fc.record({ kind: fc.constant('symlink' as const), path: name, target: name }),
);
const archive = fc.uniqueArray(entry, { selector: ({ path }) => path, maxLength: 12 });

/** Unpacks by busybox's cpio, an independent reader of the format, and gives each entry as it was found. */
function unpack(cpio: Buffer, entries: readonly CpioEntry[]): CpioEntry[] {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-cpio-'));
  try {
    const result = spawnSync(guestPieces().busybox, ['cpio', '-idm'], { cwd: folder, input: cpio });
    expect(result.status).toBe(0);
    return entries.map((wanted) => read(join(folder, wanted.path), wanted.path));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function read(file: string, path: string): CpioEntry {
  const stat = lstatSync(file);
  const bits = stat.mode & 0o7777;
  if (stat.isDirectory()) return { kind: 'directory', path, mode: bits };
  if (stat.isSymbolicLink()) return { kind: 'symlink', path, target: readlinkSync(file) };
  return { kind: 'file', path, mode: bits, content: new Uint8Array(readFileSync(file)) };
}

describe('cpio newc', () => {
  it('gives back what was written, read by another program', () => {
    fc.assert(
      fc.property(archive, (entries) => {
        expect(unpack(writeCpio(entries), entries)).toEqual(entries);
      }),
      { numRuns: 40 },
    );
  });

  it('writes device nodes with their numbers', () => {
    const cpio = writeCpio([{ kind: 'characterDevice', path: 'dev/console', mode: 0o600, major: 5, minor: 1 }]);
    const fields = cpio
      .toString('latin1', 6, 110)
      .match(/.{8}/g)
      ?.map((field) => Number.parseInt(field, 16));
    expect(fields?.[1]).toBe(0o020600);
    expect(fields?.slice(9, 11)).toEqual([5, 1]);
  });

  it('ends with the trailer, on a boundary of four bytes', () => {
    const cpio = writeCpio([{ kind: 'file', path: 'a', mode: 0o644, content: Buffer.from('x') }]);
    expect(cpio.length % 4).toBe(0);
    expect(cpio.toString('latin1')).toContain('TRAILER!!!\0');
  });
});
