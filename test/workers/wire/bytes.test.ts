import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { setU16, setU32, u16, u32 } from '../../../workers/wire/bytes.js';

describe('big-endian fields', () => {
  it('agree with DataView, 32 bits as signed integers (RFC 791 Appendix B)', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 4, maxLength: 12 }), fc.nat(8), (bytes, at) => {
        const off = Math.min(at, bytes.length - 4);
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
        expect(u16(bytes, off)).toBe(view.getUint16(off));
        expect(u32(bytes, off)).toBe(view.getInt32(off));
      }),
    );
  });

  it('write as DataView does and touch nothing else', () => {
    fc.assert(
      fc.property(fc.integer(), fc.boolean(), (value, unsigned) => {
        const bytes = new Uint8Array(12).fill(0xa5);
        const expected = bytes.slice();
        const view = new DataView(expected.buffer);
        setU16(bytes, 1, value);
        view.setUint16(1, value);
        setU32(bytes, 5, unsigned ? value >>> 0 : value);
        view.setInt32(5, value);
        expect(bytes).toEqual(expected);
      }),
    );
  });
});
