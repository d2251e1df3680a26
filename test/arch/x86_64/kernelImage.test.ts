import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bzImageRelease, elfRelease, extractVmlinux, kernelFormat } from '../../../arch/x86_64/kernelImage.js';
import { hasVirtualizationFlag } from '../../../arch/x86_64/x86_64.js';
import { MissingPieceError } from '../../../src/errors.js';

const ELF = Buffer.concat([
  Buffer.from('\x7fELF', 'latin1'),
  Buffer.alloc(5000, 'kernel'),
  Buffer.from('Linux version %s\0Linux version 6.1.0-9-test (debian)', 'latin1'),
]);

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'slipway-kernel-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function write(name: string, content: Buffer): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

function pack(program: string, args: string[]): Buffer {
  const packed = spawnSync(program, args, { input: ELF }).stdout;
  return Buffer.concat([packed, Buffer.from([0x12, 0x34, 0, 0])]);
}

/** A bzImage as Documentation/arch/x86/boot.rst lays it out: 2 sectors of set-up, then a stub, then the payload. */
function bzImage(payload: Buffer): Buffer {
  const setup = Buffer.alloc(3 * 512);
  setup[0x1f1] = 2;
  setup.write('HdrS', 0x202, 'latin1');
  setup.writeUInt16LE(0x300, 0x20e);
  setup.write('6.1.0-9-test (debian) #1\0', 0x500, 'latin1');
  setup.writeUInt32LE(100, 0x248);
  setup.writeUInt32LE(payload.length, 0x24c);
  return Buffer.concat([setup, Buffer.alloc(100), payload, Buffer.alloc(64)]);
}

describe('kernel images', () => {
  it.for([
    ['gzip', () => gzipSync(ELF)],
    ['lz4', () => pack('lz4', ['-lc'])],
    ['xz', () => pack('xz', ['-c', '--check=crc32'])],
    ['zstd', () => pack('zstd', ['-c'])],
  ] as const)('packed by %s are unpacked', async ([name, payload]) => {
    const image = write(`bzImage-${name}`, bzImage(payload()));
    const target = join(folder, `vmlinux-${name}`);
    expect(await extractVmlinux(image, target)).toBe(true);
    expect(readFileSync(target).equals(ELF)).toBe(true);
  });

  it('packed otherwise are left as they are', async () => {
    const image = write('bzImage-other', bzImage(Buffer.alloc(100, 1)));
    expect(await extractVmlinux(image, join(folder, 'vmlinux-other'))).toBe(false);
  });

  it('tell their release', async () => {
    expect(await bzImageRelease(write('bzImage', bzImage(gzipSync(ELF))))).toBe('6.1.0-9-test');
    expect(await elfRelease(write('vmlinux', ELF))).toBe('6.1.0-9-test');
  });

  it('that are cut off, or none, are refused', async () => {
    const whole = bzImage(gzipSync(ELF));
    const cut = write('cut', whole.subarray(0, whole.length - 100));
    await expect(extractVmlinux(cut, join(folder, 'x'))).rejects.toThrow(/cut off/);
    await expect(kernelFormat(write('text', Buffer.from('text')))).rejects.toThrow(/no Linux kernel/);
    await expect(kernelFormat(join(folder, 'missing'))).rejects.toThrow(MissingPieceError);
  });
});

describe('hardware virtualization', () => {
  it('is there when the processor says vmx or svm among its flags, as words of their own', () => {
    expect(hasVirtualizationFlag('processor : 0\nflags\t\t: fpu svm lm\n')).toBe(true);
    expect(hasVirtualizationFlag('flags : fpu vmx\n')).toBe(true);
    expect(hasVirtualizationFlag('flags : fpu svm_lock vmxnet\nbugs : svm\n')).toBe(false);
    expect(hasVirtualizationFlag('')).toBe(false);
  });
});
