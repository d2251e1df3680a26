import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { AddressRange } from '../../../arch/machine.js';
import { x86_64Machine } from '../../../arch/x86_64/machine.js';
import { HOLE_END, HOLE_START, memoryRanges } from '../../../arch/x86_64/memoryMap.js';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const edges = [4, 3 * 1024 - 1, 3 * 1024, 3 * 1024 + 1, 4 * 1024, 7 * 1024, 7 * 1024 + 1, 64 * 1024];
const megabytes = fc.oneof(fc.constantFrom(...edges), fc.integer({ min: 4, max: 512 * 1024 }));

const end = ({ start, size }: AddressRange): number => start + size;

describe('memory ranges', () => {
  it('hold all memory, in order, without overlap, outside of the hole, each within one mapping', () => {
    fc.assert(
      fc.property(megabytes, (mib) => {
        const ranges = memoryRanges(mib * MIB);
        expect(ranges.reduce((total, { size }) => total + size, 0)).toBe(mib * MIB);
        expect(ranges[0]!.start).toBe(0);
        const starts = ranges.slice(1).map(({ start }) => start);
        expect(starts).toEqual(ranges.slice(1).map((_, index) => (index === 0 ? HOLE_END : end(ranges[index]!))));
        ranges.forEach(({ start, size }) => {
          expect(size).toBeGreaterThan(0);
          expect(size).toBeLessThanOrEqual(4 * GIB);
          expect(start + size <= HOLE_START || start >= HOLE_END).toBe(true);
        });
      }),
    );
  });

  it.each([
    [3 * GIB - 4096, [[0, 3 * GIB - 4096]]],
    [3 * GIB, [[0, 3 * GIB]]],
    [
      3 * GIB + 4096,
      [
        [0, 3 * GIB],
        [4 * GIB, 4096],
      ],
    ],
    [
      7 * GIB + 4096,
      [
        [0, 3 * GIB],
        [4 * GIB, 4 * GIB],
        [8 * GIB, 4096],
      ],
    ],
  ])('of %i bytes', (bytes, expected) => {
    expect(memoryRanges(bytes).map(({ start, size }) => [start, size])).toEqual(expected);
  });

  it("PCI functions' registers lie in the hole, before the interrupt controllers", () => {
    const { start, size } = x86_64Machine.pciMemory;
    expect(start).toBeGreaterThanOrEqual(HOLE_START);
    expect(start + size).toBeLessThanOrEqual(0xfec0_0000);
  });
});
