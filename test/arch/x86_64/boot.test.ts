/** Linux's 64-bit boot protocol (Documentation/arch/x86/boot.rst), and images that are hostile. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadGuest } from '../../../arch/x86_64/boot.js';
import { ACPI_TABLES, memoryRanges } from '../../../arch/x86_64/memoryMap.js';
import { MissingPieceError, SlipwayError, UsageError } from '../../../src/errors.js';
import { bzImage, elf, type BzImageOptions } from './images.js';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const PARAMS = 0x7000;
const CODE = 0x10_0000;

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'slipway-boot-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function write(name: string, content: Buffer): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

interface Loading {
  readonly kernel?: Buffer | string;
  readonly initramfs?: Buffer | string;
  readonly commandLine?: string;
  readonly mib?: number;
  /** Used memory, instead of new. */
  readonly memory?: Buffer;
  /** What the memory table tells of, if that is more than there is. */
  readonly ranges?: { start: number; size: number }[];
}

/** Loads a guest into `mib` MiB of memory. */
async function load({ kernel = elf(), initramfs, commandLine = '', mib = 32, ranges, ...given }: Loading = {}) {
  const memory = given.memory ?? Buffer.alloc(mib * MIB);
  const path = (name: string, content: Buffer | string): string =>
    typeof content === 'string' ? content : write(name, content);
  const image = {
    kernel: path('kernel', kernel),
    initramfs: initramfs === undefined ? undefined : path('initramfs', initramfs),
    commandLine,
  };
  const ram = { ranges: ranges ?? [{ start: 0, size: memory.length }], mappings: [memory] };
  const entry = await loadGuest(ram, image, 2);
  return { memory, entry, params: memory.subarray(PARAMS, PARAMS + 4096) };
}

interface MemoryEntry {
  readonly start: number;
  readonly size: number;
  readonly type: number;
}
function memoryTable(params: Buffer): MemoryEntry[] {
  return Array.from({ length: params[0x1e8]! }, (_, n) => {
    const at = 0x2d0 + 20 * n;
    return {
      start: Number(params.readBigUInt64LE(at)),
      size: Number(params.readBigUInt64LE(at + 8)),
      type: params.readUInt32LE(at + 16),
    };
  });
}

describe('boot parameters', () => {
  it('have the set-up header that is made up for an ELF kernel', async () => {
    const { params, entry } = await load({ kernel: elf({ entry: 0x10_0008n }) });
    expect(entry).toBe(0x10_0008n);
    expect(params.readUInt16LE(0x1fe)).toBe(0xaa55);
    expect(params.toString('latin1', 0x202, 0x206)).toBe('HdrS');
    expect(params.readUInt16LE(0x206)).toBeGreaterThanOrEqual(0x20c);
    expect(params[0x210]).toBe(0xff);
    expect(Number(params.readBigUInt64LE(0x70))).toBe(ACPI_TABLES);
  });

  it("have a bzImage's own set-up header, from 0x1f1 to where it says that it ends; the rest is zero", async () => {
    const kernel = bzImage();
    const { params, entry, memory } = await load({ kernel });
    expect(entry).toBe(BigInt(CODE + 0x200));
    const expected = Buffer.from(kernel.subarray(0x1f1, 0x202 + 0x6a));
    // What the loader fills in: its type, and where the command line lies.
    expected[0x210 - 0x1f1] = 0xff;
    expected.writeUInt32LE(0x2_0000, 0x228 - 0x1f1);
    expect(params.subarray(0x1f1, 0x202 + 0x6a).equals(expected)).toBe(true);
    expect(params.subarray(0x202 + 0x6a, 0x2d0).every((byte) => byte === 0)).toBe(true);
    expect(memory.subarray(CODE, CODE + kernel.length - 1536).equals(kernel.subarray(1536))).toBe(true);
  });

  it('tell all memory once, around the hole, but nothing of what is reserved', async () => {
    const megabytes = fc.oneof(fc.constantFrom(4, 3072, 3073, 7168, 7169), fc.integer({ min: 4, max: 511 * 1024 }));
    await fc.assert(
      fc.asyncProperty(megabytes, async (mib) => {
        const { params } = await load({ mib: 4, ranges: memoryRanges(mib * MIB) });
        const table = memoryTable(params);
        table
          .slice(1)
          .forEach(({ start }, n) => expect(start).toBeGreaterThanOrEqual(table[n]!.start + table[n]!.size));
        const usable = table.filter(({ type }) => type === 1);
        expect(usable.every(({ start, size }) => start + size <= 3 * GIB || start >= 4 * GIB)).toBe(true);
        // From 639 KiB to 1 MiB is what a PC has for other things.
        expect(usable.reduce((total, { size }) => total + size, 0)).toBe(mib * MIB - (MIB - 0x9fc00));
        expect(usable.some(({ start, size }) => start < MIB && start + size > ACPI_TABLES)).toBe(false);
      }),
      { numRuns: 30 },
    );
  });

  it('have the command line, as long as the kernel takes it, and no longer', async () => {
    const { memory, params } = await load({ commandLine: 'console=ttyS0 quiet' });
    const at = params.readUInt32LE(0x228);
    expect(memory.toString('latin1', at, memory.indexOf(0, at))).toBe('console=ttyS0 quiet');
    await load({ commandLine: 'x'.repeat(2047) });
    await expect(load({ commandLine: 'x'.repeat(2048) })).rejects.toThrow(/has 2048 bytes, and it takes 2047/);
    // Bytes count, not characters.
    await expect(load({ commandLine: 'ß'.repeat(1024) })).rejects.toThrow(/has 2048 bytes/);
    const kernel = bzImage({ commandLineSize: 255 });
    await load({ kernel, commandLine: 'x'.repeat(255) });
    await expect(load({ kernel, commandLine: 'x'.repeat(256) })).rejects.toThrow(/takes 255 at most/);
    await expect(
      load({ kernel: bzImage({ commandLineSize: 0xffff_ffff }), commandLine: 'x'.repeat(600_000) }),
    ).rejects.toThrow(UsageError);
    await expect(load({ commandLine: 'a\0b' })).rejects.toThrow(/NUL/);
  });
});

const placed = ({ params }: { params: Buffer }) => ({
  at: params.readUInt32LE(0x218),
  size: params.readUInt32LE(0x21c),
});

describe('the initramfs', () => {
  it('lies whole above the kernel, page-aligned, below initrd_addr_max and the end of memory', async () => {
    const sizes = fc.record({
      length: fc.oneof(fc.constantFrom(1, 4095, 4096, 4097), fc.integer({ min: 1, max: 3 * MIB })),
      max: fc.integer({ min: 24 * MIB, max: 40 * MIB }),
      initSize: fc.integer({ min: 0, max: 4 * MIB }),
    });
    await fc.assert(
      fc.asyncProperty(sizes, async ({ length, max, initSize }) => {
        const initramfs = Buffer.alloc(length, 0x5a);
        const loaded = await load({ kernel: bzImage({ ramdiskMax: max, initSize }), initramfs });
        const { at, size } = placed(loaded);
        expect(size).toBe(length);
        expect(at % 4096).toBe(0);
        expect(at).toBeGreaterThanOrEqual(16 * MIB + initSize);
        expect(at + size).toBeLessThanOrEqual(Math.min(max + 1, 32 * MIB));
        expect(loaded.memory.subarray(at, at + size).equals(initramfs)).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  it('fits to the last page, and one byte more is told of with what there is', async () => {
    const kernel = bzImage({ initSize: 12 * MIB });
    expect(placed(await load({ kernel, initramfs: Buffer.alloc(4 * MIB) })).at).toBe(28 * MIB);
    await expect(load({ kernel, initramfs: Buffer.alloc(4 * MIB + 1) })).rejects.toThrow(
      /^32 MiB of guest memory are too few: the kernel with its initramfs alone takes all up to 33 MiB; give it more$/,
    );
  });

  it('that only initrd_addr_max keeps out is told of as such', async () => {
    const kernel = bzImage({ ramdiskMax: 20 * MIB - 1 });
    await expect(load({ kernel, initramfs: Buffer.alloc(4 * MIB) })).rejects.toThrow(
      /initramfs is too long: the kernel wants it below 20 MiB, where 3 MiB are free, and it has 4$/,
    );
    await expect(load({ kernel: bzImage({ ramdiskMax: 0 }), initramfs: Buffer.alloc(1) })).rejects.toThrow(/too long/);
  });

  it('that is missing, or no file, is told of', async () => {
    await expect(load({ initramfs: '/nonexistent/initramfs' })).rejects.toThrow(
      /^cannot read the initramfs \/nonexistent\/initramfs \(ENOENT/,
    );
    await expect(load({ initramfs: folder })).rejects.toThrow(/initramfs .*no regular file/);
  });
});

describe('a kernel', () => {
  it('takes what it needs while it unpacks itself (init_size from the place where it runs)', async () => {
    const needs = async (options: BzImageOptions, mib: number): Promise<void> => {
      await load({ kernel: bzImage(options), mib });
      await expect(load({ kernel: bzImage(options), mib: mib - 1 })).rejects.toThrow(
        new RegExp(`^${mib - 1} MiB of guest memory are too few: the kernel alone takes all up to ${mib} MiB`),
      );
    };
    await needs({ preferredAddress: 16n * BigInt(MIB), initSize: 8 * MIB }, 24);
    await needs({ preferredAddress: 16n * BigInt(MIB), initSize: 8 * MIB, relocatable: false }, 24);
    await needs({ preferredAddress: 17n * BigInt(MIB), initSize: 8 * MIB, alignment: 2 * MIB }, 26);
    await needs({ preferredAddress: 17n * BigInt(MIB), initSize: 8 * MIB, alignment: 2 * MIB, relocatable: false }, 25);
  });

  it("as an ELF file lies where its segments say, with zeroes behind the file's bytes", async () => {
    const content = Buffer.from('text of the kernel');
    const { memory } = await load({
      kernel: elf({
        segments: [
          { address: 0x40_0000n, content, memorySize: 0x1000n },
          { address: 0x10_0000n, content: Buffer.alloc(64, 0x90) },
          { type: 4, address: 0n, content: Buffer.from('a note') },
        ],
      }),
    });
    expect(memory.toString('latin1', 0x40_0000, 0x40_0000 + content.length)).toBe('text of the kernel');
    expect(memory.subarray(0x40_0000 + content.length, 0x40_1000).every((byte) => byte === 0)).toBe(true);
    expect(memory.subarray(0x10_0000, 0x10_0040).every((byte) => byte === 0x90)).toBe(true);
  });

  const HUGE = 0xffff_ffff_ffff_f000n;
  it.each<[string, Buffer, RegExp]>([
    ['for another processor', elf({ machine: 183 }), /no 64-bit ELF file for x86-64/],
    ['that ends in its header', elf().subarray(0, 40), /no 64-bit ELF file/],
    ['whose program headers are cut off', elf().subarray(0, 100), /no program headers/],
    ['without segments', elf({ segments: [] }), /no program headers/],
    ['whose segment is cut off', elf({ segments: [{ address: 0x10_0000n, offset: 1n << 40n }] }), /cut off/],
    ['with more in the file than in memory', elf({ segments: [{ address: 0x10_0000n, memorySize: 1n }] }), /cut off/],
    [
      'with p_filesz beyond all',
      elf({ segments: [{ address: 0x10_0000n, fileSize: HUGE, memorySize: HUGE }] }),
      /cut off/,
    ],
    ['with p_memsz beyond all', elf({ segments: [{ address: 0x10_0000n, memorySize: HUGE }] }), /32 MiB .* too few/],
    ['with p_paddr beyond all', elf({ segments: [{ address: HUGE }] }), /32 MiB .* too few/],
    ['that wants low memory', elf({ segments: [{ address: 0x7000n }] }), /wants memory at 0x7000, below 1 MiB/],
    ['whose segments overlap', elf({ segments: [{ address: 0x10_0000n }, { address: 0x10_000fn }] }), /overlap/],
    ['whose entry lies behind it', elf({ entry: 0x10_0010n }), /entry lies outside/],
    [
      'whose entry lies in a gap',
      elf({ entry: 0x10_0800n, segments: [{ address: 0x10_0000n }, { address: 0x10_1000n }] }),
      /entry lies outside/,
    ],
    ['that is an empty file', Buffer.alloc(0), /no Linux kernel/],
    ['that is a bzImage cut off in its header', bzImage().subarray(0, 0x220), /cut off/],
    ['that is a bzImage cut off in its set-up', bzImage().subarray(0, 1536), /cut off/],
    ['that is a bzImage of 32 bits', bzImage({ xloadflags: 0 }), /no 64-bit entry/],
    ['that is an old bzImage', bzImage({ version: 0x20b }), /no 64-bit entry/],
    ['that is a bzImage with a short header', bzImage({ headerLength: 2 }), /no 64-bit entry/],
    ['that is a bzImage with a huge init_size', bzImage({ initSize: 0xffff_ffff }), /32 MiB .* too few/],
    ['that is a bzImage which prefers an address beyond all', bzImage({ preferredAddress: HUGE }), /32 MiB .* too few/],
  ])('%s is refused', async (_, kernel, complaint) => {
    await expect(load({ kernel })).rejects.toThrow(complaint);
    await expect(load({ kernel })).rejects.toBeInstanceOf(SlipwayError);
  });

  it('that is a pipe, a device or a folder is refused at once', async () => {
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    for (const kernel of [pipe, '/dev/zero', folder]) {
      await expect(load({ kernel })).rejects.toThrow(/cannot read the kernel .*no regular file/);
    }
    await expect(load({ kernel: '/nonexistent/kernel' })).rejects.toBeInstanceOf(MissingPieceError);
  });

  it('in a file of a terabyte is loaded without reading that', async () => {
    const path = write('long', elf());
    truncateSync(path, 2 ** 40);
    expect((await load({ kernel: path })).entry).toBe(0x10_0000n);
    const image = write('long-bz', bzImage());
    truncateSync(image, 2 ** 40);
    await expect(load({ kernel: image })).rejects.toThrow(/32 MiB .* too few/);
    await expect(load({ initramfs: path })).rejects.toThrow(/32 MiB .* too few/);
  });

  /** Rubbish where the headers are, cut anywhere. */
  const mutations = fc.record({
    base: fc.constantFrom(elf(), elf({ segments: [{ address: 0x10_0000n }, { address: 0x20_0000n }] }), bzImage()),
    changes: fc.array(
      fc.record({
        at: fc.oneof(fc.nat(0x80), fc.integer({ min: 0x1f1, max: 0x270 })),
        bytes: fc.oneof(
          fc.uint8Array({ minLength: 1, maxLength: 8 }),
          fc.constantFrom(Buffer.alloc(8, 0xff), Buffer.alloc(8), Buffer.from([0, 0, 0x10, 0, 0, 0, 0, 0])),
        ),
      }),
      { minLength: 1, maxLength: 6 },
    ),
    cut: fc.option(fc.nat(3000)),
  });

  it('with rubbish in its headers is loaded within memory, or refused by a typed error', async () => {
    const memory = Buffer.alloc(18 * MIB);
    await fc.assert(
      fc.asyncProperty(mutations, async ({ base, changes, cut }) => {
        const kernel = Buffer.concat([base, Buffer.alloc(64)]);
        for (const { at, bytes } of changes)
          kernel.set(bytes.slice(0, Math.max(0, kernel.length - at)), Math.min(at, kernel.length - 8));
        const outcome = await load({ kernel: kernel.subarray(0, cut ?? undefined), memory }).catch(
          (error: unknown) => error,
        );
        const isTyped = outcome instanceof SlipwayError;
        const entry = isTyped ? BigInt(CODE) : (outcome as { entry: bigint }).entry;
        expect(entry >= BigInt(CODE) && entry < BigInt(memory.length)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });
});
