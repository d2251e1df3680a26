import { ftruncateSync } from 'node:fs';
import * as fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { GuestMemory } from '../../device/guestMemory.js';
import { addon } from '../../src/native/addon.js';

const PAGE = 4096;
const cleanUps: (() => void)[] = [];

afterEach(() => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) cleanUp();
});

function file(size: number): number {
  const fd = addon.createMemory('guest-memory-test', size);
  cleanUps.push(() => addon.close(fd));
  return fd;
}

function memory(): GuestMemory {
  const guest = new GuestMemory(addon);
  cleanUps.push(() => guest.clear());
  return guest;
}

describe('find', () => {
  const layout = fc.array(fc.record({ gap: fc.integer({ min: 0, max: 3 }), pages: fc.integer({ min: 1, max: 3 }) }), {
    minLength: 1,
    maxLength: 6,
  });

  it('names the window that holds an address, whatever was asked before', () => {
    const fd = file(18 * PAGE);
    fc.assert(
      fc.property(
        layout,
        fc.constantFrom(0, 0xffff_f000, 2 ** 40, 2 ** 52 - 40 * PAGE),
        fc.array(fc.integer({ min: 0, max: 36 * PAGE }), { minLength: 1 }),
        (windows, base, asked) => {
          const guest = new GuestMemory(addon);
          const ranges: [number, number][] = [];
          let at = base;
          let fileOffset = 0;
          for (const { gap, pages } of windows) {
            at += gap * PAGE;
            guest.map({ guestAddress: at, size: pages * PAGE, fd, fileOffset });
            ranges.push([at, at + pages * PAGE]);
            at += pages * PAGE;
            fileOffset += pages * PAGE;
          }
          const edges = ranges.flatMap(([start, end]) => [start - 1, start, end - 1, end]);
          for (const address of [...asked.map((offset) => base + offset), ...edges]) {
            expect(guest.find(address)).toBe(ranges.findIndex(([start, end]) => address >= start && address < end));
          }
          guest.clear();
        },
      ),
      { numRuns: 60 },
    );
  });

  it('finds a span only if one window holds all of it, though the next begins where it ends', () => {
    const guest = memory();
    const fd = file(3 * PAGE);
    guest.map({ guestAddress: 0x1000, size: PAGE, fd, fileOffset: 0 });
    guest.map({ guestAddress: 0x2000, size: 2 * PAGE, fd, fileOffset: PAGE });
    expect(guest.findSpan(0x1000, PAGE)).toBe(0);
    expect(guest.findSpan(0x1001, PAGE)).toBe(-1);
    expect(guest.findSpan(0x1fff, 1)).toBe(0);
    expect(guest.findSpan(0x2000, 2 * PAGE)).toBe(1);
    expect(guest.findSpan(0x2000, 2 ** 53)).toBe(-1);
    expect(guest.findSpan(0x4000, 0)).toBe(-1);
    expect(guest.find(2 ** 64)).toBe(-1);
  });
});

describe('map and clear', () => {
  it('shows the bytes of the file at the offset asked for, in each width and by the name of the mapping', () => {
    const guest = memory();
    const fd = file(2 * PAGE);
    guest.map({ guestAddress: 0, size: 2 * PAGE, fd, fileOffset: 0 });
    guest.map({ guestAddress: 0x10_0000, size: PAGE, fd, fileOffset: PAGE });
    guest.u32[1]![2] = 0x04030201;
    expect([...guest.u8[0]!.subarray(PAGE + 8, PAGE + 12)]).toEqual([1, 2, 3, 4]);
    expect(guest.u16[0]![(PAGE + 8) / 2]).toBe(0x0201);
    expect(guest.bytesOf(guest.region[1]!)[9]).toBe(2);
  });

  it('throws for what the file does not hold and stays as it was', () => {
    const guest = memory();
    const fd = file(PAGE);
    guest.map({ guestAddress: 0, size: PAGE, fd, fileOffset: 0 });
    expect(() => guest.map({ guestAddress: PAGE, size: PAGE, fd, fileOffset: PAGE })).toThrow(
      expect.objectContaining({ code: 'ERANGE' }),
    );
    expect(guest.count).toBe(1);
    expect(guest.find(PAGE)).toBe(-1);
  });

  it('after clear holds no address, and stale views hold no bytes', () => {
    const guest = memory();
    const fd = file(PAGE);
    guest.map({ guestAddress: 0x5000, size: PAGE, fd, fileOffset: 0 });
    const stale = guest.u8[0]!;
    expect(guest.find(0x5000)).toBe(0);
    guest.clear();
    expect(stale.length).toBe(0);
    expect(guest.find(0x5000)).toBe(-1);
    guest.map({ guestAddress: 0x9000, size: PAGE, fd, fileOffset: 0 });
    expect(guest.find(0x5000)).toBe(-1);
    expect(guest.find(0x9000)).toBe(0);
  });

  it('tells when the file shrank under a window', () => {
    const guest = memory();
    const fd = file(2 * PAGE);
    guest.map({ guestAddress: 0, size: PAGE, fd, fileOffset: 0 });
    guest.map({ guestAddress: PAGE, size: PAGE, fd, fileOffset: PAGE });
    expect(guest.faulted()).toBe(false);
    ftruncateSync(fd, PAGE);
    expect(guest.u8[1]![0]).toBe(0);
    expect(guest.faulted()).toBe(true);
  });
});
