import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { addon } from '../../src/native/addon.js';
import type { MappedRegion } from '../../src/native/regions.js';
import { bindScratch, EFAULT, EINVAL, mappingsOf, runChild } from './support.js';

const regions: number[] = [];
const fds: number[] = [];

function memory(name: string, size: number): number {
  const fd = addon.createMemory(name, size);
  fds.push(fd);
  return fd;
}

function map(fd: number, offset: number, size: number): MappedRegion {
  const mapped = addon.mapRegion(fd, offset, size);
  regions.push(mapped.region);
  return mapped;
}

function unmap(region: number): void {
  regions.splice(regions.indexOf(region), 1);
  addon.unmapRegion(region);
}

afterEach(() => {
  for (const region of regions.splice(0)) addon.unmapRegion(region);
  for (const fd of fds.splice(0)) closeSync(fd);
});

describe('mapRegion', () => {
  it('shows what another mapping of the same memfd writes, at any offset', () => {
    const fd = memory('slipway-two', 3 * 4096);
    const whole = new Uint8Array(map(fd, 0, 3 * 4096).buffer);
    const part = new Uint8Array(map(fd, 4096 + 123, 4096).buffer);
    expect(part.length).toBe(4096);
    part[0] = 0xab;
    part[4095] = 0xcd;
    expect(whole[4096 + 123]).toBe(0xab);
    expect(whole[2 * 4096 + 122]).toBe(0xcd);
    whole[4096 + 124] = 0xef;
    expect(part[1]).toBe(0xef);
  });

  it('writes through to a file on disk', () => {
    const folder = mkdtempSync(join(tmpdir(), 'slipway-native-'));
    try {
      const path = join(folder, 'memory');
      writeFileSync(path, 'hello');
      const fd = openSync(path, 'r+');
      fds.push(fd);
      new Uint8Array(map(fd, 0, 5).buffer)[0] = 'j'.charCodeAt(0);
      expect(readFileSync(path, 'utf8')).toBe('jello');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('maps 4 GiB in one region, of a sparse file', () => {
    const fd = memory('slipway-4g', 2 ** 32);
    const { buffer } = map(fd, 0, 2 ** 32);
    expect(buffer.byteLength).toBe(2 ** 32);
    const end = new Uint8Array(buffer, 2 ** 32 - 1);
    end[0] = 1;
    expect(end[0]).toBe(1);
  });

  it('refuses a range beyond the end of the file', () => {
    const fd = memory('slipway-end', 4096);
    expect(() => addon.mapRegion(fd, 0, 4097)).toThrow(expect.objectContaining({ code: 'ERANGE' }));
    expect(() => addon.mapRegion(fd, 4096, 1)).toThrow(expect.objectContaining({ code: 'ERANGE' }));
    expect(() => addon.mapRegion(fd, 2 ** 53 - 1, 2 ** 32)).toThrow(expect.objectContaining({ code: 'ERANGE' }));
  });

  it.each([
    [0, 0],
    [-1, 1],
    [0.5, 1],
    [0, Number.NaN],
    [0, 2 ** 32 + 1],
    [2 ** 60, 1],
  ])('refuses offset %d, size %d', (offset, size) => {
    const fd = memory('slipway-bad', 4096);
    expect(() => addon.mapRegion(fd, offset, size)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('refuses what is no regular file', () => {
    const [left, right] = addon.socketPair();
    fds.push(left, right, addon.eventfdCreate(), openSync('/dev/zero', 'r+'));
    for (const fd of fds) {
      expect(() => addon.mapRegion(fd, 0, 1)).toThrow(
        expect.objectContaining({ code: 'EINVAL', message: 'mmap: not a regular file or memfd' }),
      );
    }
  });

  it('refuses a closed descriptor and one open for reading only, as the kernel does', () => {
    const folder = mkdtempSync(join(tmpdir(), 'slipway-native-'));
    try {
      writeFileSync(join(folder, 'memory'), 'x');
      const fd = openSync(join(folder, 'memory'), 'r');
      fds.push(fd);
      expect(() => addon.mapRegion(fd, 0, 1)).toThrow(expect.objectContaining({ code: 'EACCES', syscall: 'mmap' }));
    } finally {
      rmSync(folder, { recursive: true });
    }
    expect(() => addon.mapRegion(2 ** 20, 0, 1)).toThrow(
      expect.objectContaining({ code: 'EBADF', errno: 9, syscall: 'fstat', message: 'fstat: Bad file descriptor' }),
    );
  });

  it('gives the lowest free index, again and again', () => {
    const fd = memory('slipway-index', 4096);
    const first = map(fd, 0, 4096).region;
    const second = map(fd, 0, 4096).region;
    expect(second).not.toBe(first);
    unmap(first);
    expect(map(fd, 0, 4096).region).toBe(first);
    for (let i = 0; i < 10_000; i++) unmap(map(fd, 0, 4096).region);
    expect(mappingsOf('slipway-index')).toBe(2);
  });
});

describe('the guard against SIGBUS', () => {
  it('has room for 4,096 regions, and for new ones when old ones go', () => {
    const fd = memory('slipway-many', 4096);
    for (let i = 0; i < 4096; i++) map(fd, 0, 4096);
    expect(() => addon.mapRegion(fd, 0, 4096)).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
    expect(mappingsOf('slipway-many')).toBe(4096);
    unmap(regions[1000] ?? -1);
    expect(map(fd, 0, 4096).buffer.byteLength).toBe(4096);
  });
});

describe('unmapRegion', () => {
  it('detaches the buffer: later accesses find nothing and harm nothing', () => {
    const { region, buffer } = map(memory('slipway-gone', 4096), 0, 4096);
    const bytes = new Uint8Array(buffer);
    const view = new DataView(buffer);
    bytes[0] = 1;
    unmap(region);
    expect(buffer.byteLength).toBe(0);
    expect(bytes[0]).toBeUndefined();
    bytes[0] = 2;
    expect(() => view.getUint8(0)).toThrow(TypeError);
    expect(mappingsOf('slipway-gone')).toBe(0);
  });

  it('refuses a region that is not there', () => {
    const { region } = map(memory('slipway-twice', 4096), 0, 4096);
    unmap(region);
    for (const absent of [region, 10_000, 2 ** 32 - 1]) {
      expect(() => addon.unmapRegion(absent)).toThrow(expect.objectContaining({ code: 'ERANGE' }));
      expect(() => addon.regionFaulted(absent)).toThrow(expect.objectContaining({ code: 'ERANGE' }));
    }
    expect(() => addon.unmapRegion(-1)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  const transfers = 'transfer' in ArrayBuffer.prototype;
  it.skipIf(!transfers)('leaves memory mapped for an ArrayBuffer that took it over (Node 22 and later)', () => {
    const { region, buffer } = map(memory('slipway-moved', 4096), 0, 4096);
    const moved = Reflect.apply(Reflect.get(buffer, 'transfer'), buffer, []) as ArrayBuffer;
    expect(() => unmap(region)).not.toThrow();
    expect(mappingsOf('slipway-moved')).toBe(1);
    expect(new Uint8Array(moved)[0]).toBe(0);
  });
});

describe('createRegion', () => {
  it('gives zeroes of exactly that size', () => {
    const { region, buffer } = addon.createRegion(5000);
    expect(buffer.byteLength).toBe(5000);
    expect(new Uint8Array(buffer).every((byte) => byte === 0)).toBe(true);
    expect(addon.regionFaulted(region)).toBe(false);
    addon.unmapRegion(region);
    expect(() => addon.createRegion(0)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });
});

describe('a file that shrinks under its mapping', () => {
  it('leaves zeroes, and says so', () => {
    const fd = memory('slipway-shrink', 8 * 4096);
    const { region, buffer } = map(fd, 100, 5 * 4096);
    const other = map(fd, 0, 4096);
    const bytes = new Uint8Array(buffer).fill(0xff);
    ftruncateSync(fd, 0);
    expect(addon.regionFaulted(region)).toBe(false);
    expect(bytes[4 * 4096]).toBe(0);
    expect(addon.regionFaulted(region)).toBe(true);
    expect(bytes.every((byte) => byte === 0)).toBe(true);
    bytes[0] = 7;
    expect(bytes[0]).toBe(7);
    expect(addon.regionFaulted(other.region)).toBe(false);
    unmap(region);
    expect(() => addon.regionFaulted(region)).toThrow(expect.objectContaining({ code: 'ERANGE' }));
  });

  it('is no danger to native code either: checksum finds zeroes, system calls give -EFAULT', () => {
    const { iovecs } = bindScratch();
    const fd = memory('slipway-shrink', 4096);
    const { region, buffer } = map(fd, 0, 4096);
    new Uint8Array(buffer).fill(0xff);
    ftruncateSync(fd, 0);
    iovecs.set([region, 0, 4096]);
    const [left, right] = addon.socketPair();
    fds.push(left, right);
    expect(addon.sendmsg(left, 0, 1, 0)).toBe(-EFAULT);
    expect(addon.checksum(0, 1, 0)).toBe(0);
    expect(addon.regionFaulted(region)).toBe(true);
    expect(addon.sendmsg(left, 0, 1, 0)).toBe(4096);
  });
});

describe('iovec triples', () => {
  it('must lie in their region', () => {
    const { iovecs } = bindScratch();
    const { region } = map(memory('slipway-triple', 8192), 0, 8192);
    const good = [
      [region, 0, 8192],
      [region, 8191, 1],
      [region, 8192, 0],
    ];
    const bad = [
      [region, 0, 8193],
      [region, 8192, 1],
      [region, 1, 0xffffffff],
      [region, 0xffffffff, 1],
      [region, 0xffffffff, 0xffffffff],
      [region + 1, 0, 0],
      [0xffffffff, 0, 0],
    ];
    for (const triple of good) {
      iovecs.set(triple);
      expect(addon.checksum(0, 1, 0)).toBe(0);
    }
    for (const triple of bad) {
      iovecs.set(triple);
      expect(addon.checksum(0, 1, 0)).toBe(-EFAULT);
      // Nothing of a message is sent or received if any triple is bad, whatever the descriptor.
      iovecs.set([region, 0, 1, ...triple]);
      expect(addon.sendmsg(-1, 0, 2, 0)).toBe(-EFAULT);
      expect(addon.recvmsg(-1, 0, 2, 0)).toBe(-EFAULT);
    }
  });

  it('must not name a region that was unmapped', () => {
    const { iovecs } = bindScratch();
    const { region } = map(memory('slipway-triple', 4096), 0, 4096);
    unmap(region);
    iovecs.set([region, 0, 0]);
    expect(addon.checksum(0, 1, 0)).toBe(-EFAULT);
  });

  it('must lie in the scratch, 1,024 at most', () => {
    bindScratch(4);
    expect(addon.checksum(0, 0, 0)).toBe(0);
    expect(addon.checksum(4, 0, 0)).toBe(0);
    expect(addon.checksum(5, 0, 0)).toBe(-EINVAL);
    expect(addon.checksum(4, 1, 0)).toBe(-EINVAL);
    expect(addon.checksum(0xffffffff, 1, 0)).toBe(-EINVAL);
    expect(addon.checksum(0, -1, 0)).toBe(-EINVAL);
    const { iovecs } = bindScratch(1025);
    const { region } = map(memory('slipway-triple', 4096), 0, 4096);
    for (let i = 0; i < 1025; i++) iovecs.set([region, 0, 1], 3 * i);
    expect(addon.checksum(0, 1024, 0)).toBe(0);
    expect(addon.checksum(0, 1025, 0)).toBe(-EINVAL);
  });
});

describe('bindScratch', () => {
  it('takes arrays over an ArrayBuffer, and does without them once they are detached', () => {
    const clock = new Int32Array(2);
    const iovecs = new Uint32Array(3);
    addon.bindScratch(iovecs, new Int32Array(3), clock);
    addon.readClock();
    expect(clock.some((element) => element !== 0)).toBe(true);
    structuredClone(iovecs.buffer, { transfer: [iovecs.buffer] });
    expect(addon.checksum(0, 1, 0)).toBe(-EINVAL);
  });

  it('keeps its arrays from the garbage collector', async () => {
    const { code, output } = await runChild(`
        const { setFlagsFromString } = require('node:v8');
        setFlagsFromString('--expose-gc');
        const gc = require('node:vm').runInNewContext('gc');
        const { region } = addon.createRegion(4096);
        const iovecs = () => Uint32Array.of(region, 0, 4096);
        addon.bindScratch(iovecs(), new Int32Array(3), new Int32Array(2));
        for (let i = 0; i < 20; i++) { gc(); Array.from({ length: 100 }, () => new Uint32Array(3).fill(0xffffffff)); }
        console.log(addon.checksum(0, 1, 5));
      `);
    expect({ code, output }).toEqual({ code: 0, output: '5\n' });
  });

  it('refuses other types, arrays that are too short, and resizable memory', () => {
    const words = new Uint32Array(3);
    const events = new Int32Array(3);
    const clock = new Int32Array(2);
    const refusal = expect.objectContaining({ code: 'EINVAL', syscall: 'bindScratch' });
    expect(() => addon.bindScratch(new Uint32Array(2), events, clock)).toThrow(refusal);
    expect(() => addon.bindScratch(words, new Int32Array(2), clock)).toThrow(refusal);
    expect(() => addon.bindScratch(words, events, new Int32Array(1))).toThrow(refusal);
    expect(() => addon.bindScratch(events as unknown as Uint32Array, events, clock)).toThrow(refusal);
    const resizable = Reflect.construct(ArrayBuffer, [12, { maxByteLength: 24 }]) as ArrayBuffer;
    expect(() => addon.bindScratch(words, new Int32Array(resizable), clock)).toThrow(refusal);
  });

  it('is needed before hot functions', async () => {
    const { output } = await runChild(
      'console.log(addon.checksum(0, 0, 0), addon.readClock(), addon.epollWait(0, 0));',
    );
    expect(output).toBe(`${-EINVAL} ${-EINVAL} ${-EINVAL}\n`);
  });
});

describe('createMemory', () => {
  it('makes a memfd of that name and size', () => {
    const fd = memory('slipway-named', 12345);
    expect(addon.fdInfo(fd)).toMatchObject({ kind: 'file', size: 12345 });
    map(fd, 0, 12345);
    expect(mappingsOf('slipway-named')).toBe(1);
  });

  it('refuses bad names and sizes', () => {
    expect(() => addon.createMemory('a\0b', 1)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => addon.createMemory('x'.repeat(300), 1)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => addon.createMemory('x', -1)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });
});
