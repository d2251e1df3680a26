import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bzImageRelease, elfRelease, extractVmlinux, kernelFormat } from '../../../arch/x86_64/kernelImage.js';
import { hasVirtualizationFlag } from '../../../arch/x86_64/x86_64.js';
import { MissingPieceError } from '../../../src/errors.js';
import { bzImage } from './images.js';

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

describe('kernel images', () => {
  it.for([
    ['gzip', () => gzipSync(ELF)],
    ['lz4', () => pack('lz4', ['-lc'])],
    ['xz', () => pack('xz', ['-c', '--check=crc32'])],
    ['zstd', () => pack('zstd', ['-c'])],
  ] as const)('packed by %s are unpacked', async ([name, payload]) => {
    const image = write(`bzImage-${name}`, bzImage({ payload: payload() }));
    const target = join(folder, `vmlinux-${name}`);
    expect(await extractVmlinux(image, target)).toBe(true);
    expect(readFileSync(target).equals(ELF)).toBe(true);
  });

  it('packed otherwise are left as they are', async () => {
    const image = write('bzImage-other', bzImage({ payload: Buffer.alloc(100, 1) }));
    expect(await extractVmlinux(image, join(folder, 'vmlinux-other'))).toBe(false);
  });

  it('tell their release', async () => {
    expect(await bzImageRelease(write('bzImage', bzImage({ payload: gzipSync(ELF) })))).toBe('6.1.0-9-test');
    expect(await elfRelease(write('vmlinux', ELF))).toBe('6.1.0-9-test');
  });

  it('that are cut off, or none, are refused', async () => {
    const whole = bzImage({ payload: gzipSync(ELF) });
    const cut = write('cut', whole.subarray(0, whole.length - 100));
    await expect(extractVmlinux(cut, join(folder, 'x'))).rejects.toThrow(/cut off/);
    await expect(kernelFormat(write('text', Buffer.from('text')))).rejects.toThrow(/no Linux kernel/);
    await expect(kernelFormat(join(folder, 'missing'))).rejects.toThrow(MissingPieceError);
  });
});

describe('a hostile kernel image', () => {
  it.for([
    ['gzip', () => gzipSync(Buffer.alloc(100_000))],
    ['lz4', () => Buffer.concat([spawnSync('lz4', ['-lc'], { input: Buffer.alloc(100_000) }).stdout, Buffer.alloc(4)])],
  ] as const)('that unpacks to more than a kernel has is refused (%s)', async ([name, payload]) => {
    const image = write(`bomb-${name}`, bzImage({ payload: payload() }));
    await expect(extractVmlinux(image, join(folder, `bombed-${name}`), 99_999)).rejects.toThrow(
      /more than 99999 bytes: it is no kernel/,
    );
    await expect(extractVmlinux(image, join(folder, `bombed-${name}`))).rejects.toThrow(/no Linux kernel/);
  });

  it('whose packed kernel is broken is refused', async () => {
    const payload = gzipSync(ELF);
    payload.fill(0xff, 30, 60);
    const image = write('broken', bzImage({ payload }));
    await expect(extractVmlinux(image, join(folder, 'unbroken'))).rejects.toThrow(/broken can't be unpacked/);
  });

  it('of rubbish is unpacked or refused by a typed error, and tells a release or none', async () => {
    const base = bzImage({ payload: gzipSync(ELF) });
    const change = fc.record({
      at: fc.oneof(fc.integer({ min: 0x1f1, max: 0x260 }), fc.nat(base.length - 1)),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 8 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { maxLength: 5 }), fc.option(fc.nat(base.length)), async (changes, cut) => {
        const image = Buffer.from(base);
        for (const { at, bytes } of changes) image.set(bytes.subarray(0, image.length - at), at);
        const path = write('rubbish', image.subarray(0, cut ?? undefined));
        const outcomes = await Promise.allSettled([
          kernelFormat(path),
          bzImageRelease(path),
          elfRelease(path),
          extractVmlinux(path, join(folder, 'unpacked')),
        ]);
        for (const outcome of outcomes) {
          expect(outcome.status === 'fulfilled' || outcome.reason instanceof MissingPieceError).toBe(true);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('whose banner lies across two pieces of the file tells its release', async () => {
    const at = 1024 * 1024 - 20;
    const image = Buffer.alloc(2 * 1024 * 1024);
    image.write('Linux version 6.1.0-99-long (debian)', at, 'latin1');
    expect(await elfRelease(write('across', image))).toBe('6.1.0-99-long');
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
