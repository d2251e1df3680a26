import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addon } from '../../src/native/addon.js';
import { bindScratch } from './support.js';

const { iovecs } = bindScratch();
const { region, buffer } = addon.createRegion(1 << 17);
const memory = new Uint8Array(buffer);

/** RFC 1071 §1, word by word. */
function reference(bytes: readonly number[], seed: number): number {
  let sum = seed;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) + (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  return sum;
}

/** Lays the parts into memory, each at its own alignment, and their triples into the scratch. */
function lay(parts: readonly { bytes: readonly number[]; gap: number }[]): void {
  let offset = 0;
  for (const [index, { bytes, gap }] of parts.entries()) {
    offset += gap;
    memory.set(bytes, offset);
    iovecs.set([region, offset, bytes.length], 3 * index);
    offset += bytes.length;
  }
}

describe('checksum (RFC 1071)', () => {
  it('sums the example of §3', () => {
    lay([{ bytes: [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], gap: 0 }]);
    expect(addon.checksum(0, 1, 0)).toBe(0xddf2);
  });

  it('verifies an IPv4 header with its checksum in place', () => {
    const header = '450000730000400040 11b861c0a80001c0a800c7'.replace(' ', '');
    lay([{ bytes: [...Buffer.from(header, 'hex')], gap: 3 }]);
    expect(addon.checksum(0, 1, 0)).toBe(0xffff);
  });

  it('agrees with the reference, however the bytes are cut and aligned (§2)', () => {
    const part = fc.record({
      bytes: fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 80 }),
      gap: fc.integer({ min: 0, max: 9 }),
    });
    fc.assert(
      fc.property(fc.array(part, { maxLength: 8 }), fc.integer({ min: 0, max: 0xffffffff }), (parts, seed) => {
        lay(parts);
        const bytes = parts.flatMap((each) => each.bytes);
        expect(addon.checksum(0, parts.length, seed)).toBe(reference(bytes, seed));
      }),
    );
  });

  it.each([0, 1, 7, 8, 9, 65_535, 65_536, 100_001])('carries all the way round over %d bytes of ones', (length) => {
    memory.fill(0xff);
    iovecs.set([region, 1, length]);
    expect(addon.checksum(0, 1, 0)).toBe(
      reference(
        Array.from({ length }, () => 0xff),
        0,
      ),
    );
    expect(addon.checksum(0, 1, 0xffffffff)).toBe(
      reference(
        Array.from({ length }, () => 0xff),
        0xffffffff,
      ),
    );
  });

  it('folds only zeroes to zero', () => {
    memory.fill(0, 0, 64);
    iovecs.set([region, 0, 64]);
    expect(addon.checksum(0, 1, 0)).toBe(0);
    expect(addon.checksum(0, 1, 0xffff)).toBe(0xffff);
  });
});
