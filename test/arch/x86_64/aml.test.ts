import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as aml from '../../../arch/x86_64/aml.js';
import { readAml, type Term } from './amlReader.js';

const segment = fc.stringMatching(/^[A-Z_][A-Z0-9_]{3}$/);
const path = fc.tuple(fc.constantFrom('', '\\'), segment).map(([root, name]) => root + name);
const integer = fc.oneof(
  fc.nat(0xff),
  fc.nat(0xffff_ffff),
  fc.constantFrom(0, 1, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff),
);

/** A term with what it must read back as. */
interface Written {
  readonly code: Buffer;
  readonly term: Term;
}
const { term } = fc.letrec<{ term: Written; list: Written }>((tie) => ({
  term: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    integer.map((value) => ({ code: aml.integer(value), term: value })),
    tie('list'),
    fc.tuple(path, tie('term')).map(([name, value]) => ({
      code: aml.name(name, value.code),
      term: { name, value: value.term },
    })),
    fc.tuple(path, fc.array(tie('term'), { maxLength: 4 })).map(([scope, terms]) => ({
      code: aml.scope(scope, ...terms.map(({ code }) => code)),
      term: { scope, terms: terms.map((inner) => inner.term) },
    })),
    fc.tuple(segment, fc.array(tie('term'), { maxLength: 4 })).map(([device, terms]) => ({
      code: aml.device(device, ...terms.map(({ code }) => code)),
      term: { device, terms: terms.map((inner) => inner.term) },
    })),
  ),
  list: fc.array(tie('term'), { maxLength: 4 }).map((elements) => ({
    code: aml.packageOf(...elements.map(({ code }) => code)),
    term: { list: elements.map((inner) => inner.term) },
  })),
}));

describe('AML (ACPI 6.4 §20.2)', () => {
  it('reads back as it was written', () => {
    fc.assert(
      fc.property(term, ({ code, term: expected }) => {
        expect(readAml(code)).toEqual([expected]);
      }),
    );
  });

  it('§20.2.4: package lengths of one and of two bytes, up to the longest', () => {
    // A buffer's body: its size as an integer, then its bytes with the end tag.
    for (let length = 1; length <= 4080; length += length < 300 ? 1 : 61) {
      expect(readAml(aml.resources(Buffer.alloc(length, 7)))).toEqual([
        Buffer.concat([Buffer.alloc(length, 7), Buffer.from([0x79, 0])]),
      ]);
    }
    expect(() => aml.resources(Buffer.alloc(4090))).toThrow(RangeError);
  });

  it('§19.3.4: EISA ids', () => {
    // As ACPICA's compiler encodes them.
    expect(aml.eisaId('PNP0A03').toString('hex')).toBe('0c41d00a03');
    expect(aml.eisaId('PNP0501').toString('hex')).toBe('0c41d00501');
  });

  it('§6.4.3.5: an address window names its first and last address and its length', () => {
    const window = aml.addressWindow('memory', 0xc000_0000, 0xfebf_ffff);
    expect(window.length).toBe(3 + window.readUInt16LE(1));
    expect([0, 1, 2, 3, 4].map((n) => window.readUInt32LE(6 + 4 * n))).toEqual([
      0, 0xc000_0000, 0xfebf_ffff, 0, 0x3ec0_0000,
    ]);
    const ports = aml.addressWindow('io', 0xd00, 0xffff);
    expect([0, 1, 2, 3, 4].map((n) => ports.readUInt16LE(6 + 2 * n))).toEqual([0, 0xd00, 0xffff, 0, 0xf300]);
  });
});
