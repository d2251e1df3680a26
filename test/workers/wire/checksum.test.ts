import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { setU16 } from '../../../workers/wire/bytes.js';
import { pseudoHeaderSum, sum16 } from '../../../workers/wire/checksum.js';

/** RFC 1071 §4.1, word by word with an end-around carry at each. */
function reference(bytes: Uint8Array, seed: number): number {
  let sum = seed;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += bytes[i] * 256 + (i + 1 < bytes.length ? bytes[i + 1] : 0);
    if (sum > 0xffff) sum -= 0xffff;
  }
  return sum;
}

const seed = fc.nat(0xffff);

describe('sum16 (RFC 1071)', () => {
  it('has the sum of the example in §3', () => {
    const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
    expect(sum16(bytes, 0, 8, 0)).toBe(0xddf2);
  });

  it('§1: is the one’s complement sum of the range, an odd byte padded with zero', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), seed, fc.nat(5), (bytes, start, off) => {
        const buffer = new Uint8Array(bytes.length + off + 5).fill(0xee);
        buffer.set(bytes, off);
        expect(sum16(buffer, off, bytes.length, start)).toBe(reference(bytes, start));
      }),
    );
  });

  it('carries a sum from one piece to the next', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(100), seed, (bytes, half, start) => {
        const cut = Math.min(half * 2, bytes.length & ~1);
        const first = sum16(bytes, 0, cut, start);
        expect(sum16(bytes, cut, bytes.length - cut, first)).toBe(sum16(bytes, 0, bytes.length, start));
      }),
    );
  });

  it('§1: adds the carry that adding the carry leaves', () => {
    expect(sum16(Uint8Array.of(0xff, 0xff, 0xff, 0xff), 0, 4, 1)).toBe(1);
    expect(pseudoHeaderSum(-1, 0, 0, 1)).toBe(1);
  });

  it('does not overflow with the largest datagram', () => {
    const bytes = new Uint8Array(65535).fill(0xff);
    expect(sum16(bytes, 0, 65534, 0xffff)).toBe(0xffff);
    expect(sum16(bytes, 0, 65535, 0xffff)).toBe(0xff00);
  });

  it('§1: with the inverse in the checksum field, the range sums to 0xffff', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 2, maxLength: 100 }), seed, (bytes, start) => {
        setU16(bytes, 0, 0);
        setU16(bytes, 0, ~sum16(bytes, 0, bytes.length, start));
        expect(sum16(bytes, 0, bytes.length, start)).toBe(0xffff);
      }),
    );
  });
});

describe('pseudoHeaderSum (RFC 9293 §3.1, RFC 768)', () => {
  it('is the sum of the pseudo-header’s twelve bytes', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer(), fc.nat(255), fc.nat(65535), (source, destination, protocol, length) => {
        const header = new DataView(new ArrayBuffer(12));
        header.setInt32(0, source);
        header.setInt32(4, destination);
        header.setUint8(9, protocol);
        header.setUint16(10, length);
        const sum = pseudoHeaderSum(source, destination, protocol, length);
        expect(sum).toBe(reference(new Uint8Array(header.buffer), 0));
      }),
    );
  });
});
