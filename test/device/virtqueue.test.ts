import * as fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import {
  BROKEN_REASONS,
  MAX_IOVECS,
  QUEUE_CHAINS,
  QUEUE_LAST_AVAIL,
  QUEUE_PUBLISHED,
  QUEUE_USED,
} from '../../device/virtqueue.js';
import { action, Model } from './queueModel.js';
import { INDIRECT, MockDriver, type MockOptions, NEXT, WRITE } from './mockDriver.js';

const opened: MockDriver[] = [];

function open(options?: MockOptions): MockDriver {
  const mock = new MockDriver(options);
  opened.push(mock);
  return mock;
}

afterEach(() => {
  for (const mock of opened.splice(0)) mock[Symbol.dispose]();
});

/** Places the queue anew, some of its parts elsewhere. */
function place(mock: MockDriver, change: object): boolean {
  const { size, descTable, availRing, usedRing } = mock.driver.layout;
  return mock.queue.place({
    size,
    descTable: mock.address(descTable),
    availRing: mock.address(availRing),
    usedRing: mock.address(usedRing),
    eventIdx: false,
    indirect: false,
    ...change,
  });
}

/** Walks the chain at `head` into the scratch's beginning. */
const walk = (mock: MockDriver, head = 0): boolean => mock.queue.walk(head, 0);

describe('§2.7 placing a queue', () => {
  it.each([
    ['descTable', 16],
    ['availRing', 2],
    ['usedRing', 4],
  ] as const)('refuses a %s that is not aligned to %i bytes', (part, alignment) => {
    const mock = open();
    const at = mock.address(mock.data + 64 - (mock.data % 16));
    expect(place(mock, { [part]: at })).toBe(true);
    for (let off = 1; off < alignment; off++) expect(place(mock, { [part]: at + off })).toBe(false);
  });

  it.each([
    ['descTable', 128, 16],
    ['availRing', 6 + 16, 2],
    ['usedRing', 6 + 64, 4],
  ] as const)('takes a %s that ends where memory ends, and none that ends behind', (part, bytes, alignment) => {
    const mock = open();
    const end = mock.address(0) + mock.shape.size;
    const last = Math.floor((end - bytes) / alignment) * alignment;
    expect(place(mock, { [part]: last })).toBe(true);
    expect(place(mock, { [part]: last + alignment })).toBe(false);
    expect(place(mock, { [part]: end })).toBe(false);
    expect(place(mock, { [part]: 0 })).toBe(false);
  });

  it('refuses a part that crosses from one window to the next', () => {
    const mock = open({ regionSize: 4096 });
    expect(place(mock, { descTable: mock.address(4096) - 16 })).toBe(false);
  });

  it.each(Array.from({ length: 16 }, (_, power) => 2 ** power))('serves a queue of %i entries, full, twice', (size) => {
    const mock = open({ size, dataBytes: 64, indirectEntries: 0, indirect: false });
    const { driver, queue } = mock;
    for (let round = 0; round < 2; round++) {
      for (let n = 0; n < size; n++) {
        driver.beginChain(false);
        driver.addBuffer(mock.data, 1 + (n % 64), n % 2 === 0);
        driver.endChain();
      }
      driver.publish();
      expect(queue.poll()).toBe(size);
      let good = 0;
      for (let n = 0; n < size; n++) {
        const head = queue.headAt(0);
        queue.take(1);
        const bytes = 1 + (n % 64);
        if (queue.walk(head, 0) && (n % 2 === 0 ? queue.writableBytes : queue.readableBytes) === bytes) good++;
        queue.pushUsed(head, bytes);
      }
      expect(good).toBe(size);
      expect(queue.poll()).toBe(0);
      expect(queue.publish()).toBe(true);
      let back = 0;
      for (let n = 0; n < size; n++) if (driver.takeUsed() >= 0 && driver.usedLength === 1 + (n % 64)) back++;
      expect([back, driver.ringErrors, driver.takeUsed()]).toEqual([size, 0, -1]);
    }
  });
});

describe('§2.7.4, §2.7.5 descriptors', () => {
  it('reads a chain in its order, device-readable parts before device-writable ones', () => {
    const mock = open();
    const at = mock.address(mock.data);
    mock.descriptor(5, at, 10, NEXT, 2);
    mock.descriptor(2, at + 100, 20, NEXT | WRITE, 7);
    mock.descriptor(7, at + 200, 30, WRITE);
    expect(walk(mock, 5)).toBe(true);
    expect(mock.buffers()).toEqual([
      [at, 10],
      [at + 100, 20],
      [at + 200, 30],
    ]);
    const { readable, count, readableBytes, writableBytes } = mock.queue;
    expect({ readable, count, readableBytes, writableBytes }).toEqual({
      readable: 1,
      count: 3,
      readableBytes: 10,
      writableBytes: 50,
    });
  });

  it('§2.7.4.2 refuses a readable buffer after a writable one', () => {
    const mock = open();
    const at = mock.address(mock.data);
    mock.descriptor(0, at, 10, NEXT | WRITE, 1);
    mock.descriptor(1, at, 10, 0);
    expect(walk(mock)).toBe(false);
  });

  it('§2.7.5.2 refuses loops, of one descriptor and of all', () => {
    const mock = open();
    const at = mock.address(mock.data);
    mock.descriptor(0, at, 1, NEXT, 0);
    expect(walk(mock)).toBe(false);
    for (let n = 0; n < 8; n++) mock.descriptor(n, at, 1, NEXT, (n + 1) % 8);
    expect(walk(mock)).toBe(false);
    mock.descriptor(7, at, 1, 0);
    expect(walk(mock)).toBe(true);
    expect(mock.queue.count).toBe(8);
  });

  it('refuses loops of zero-length descriptors', () => {
    const mock = open();
    mock.descriptor(0, mock.address(mock.data), 0, NEXT, 0);
    expect(walk(mock)).toBe(false);
  });

  it('does not follow a chain for longer than the longest that could be used', () => {
    const mock = open({ size: 32_768, indirectEntries: 0 });
    for (let n = 0; n < 2048; n++) mock.descriptor(n, 0, 0, n < 2047 ? NEXT : 0, n + 1);
    expect(walk(mock, 1024)).toBe(true);
    expect(walk(mock, 1023)).toBe(false);
  });

  it.each([8, 9, 0xffff])('refuses next = %i in a table of 8', (next) => {
    const mock = open();
    mock.descriptor(0, mock.address(mock.data), 1, NEXT, next);
    expect(walk(mock)).toBe(false);
  });

  it('passes over zero-length descriptors wherever they point', () => {
    const mock = open();
    const at = mock.address(mock.data);
    mock.descriptor(0, 0, 0, NEXT, 1);
    mock.descriptor(1, at, 5, NEXT, 2);
    mock.descriptor(2, 2 ** 52, 0, NEXT, 3);
    mock.descriptor(3, at + 9, 6, 0);
    expect(walk(mock)).toBe(true);
    expect(mock.buffers()).toEqual([
      [at, 5],
      [at + 9, 6],
    ]);
  });

  it('ignores flags that are not defined', () => {
    const mock = open();
    mock.descriptor(0, mock.address(mock.data), 5, 0xfff8);
    expect(walk(mock)).toBe(true);
    expect(mock.queue.readableBytes).toBe(5);
  });

  it(`refuses chains of more than ${MAX_IOVECS} pieces, takes one of as many, and writes nothing beyond`, () => {
    const mock = open({ size: 2048, indirectEntries: 0 });
    const at = mock.address(mock.data);
    for (let n = 0; n < MAX_IOVECS; n++) mock.descriptor(n, at, 1, n + 1 < MAX_IOVECS ? NEXT : 0, n + 1);
    expect(walk(mock)).toBe(true);
    expect(mock.queue.count).toBe(MAX_IOVECS);
    mock.descriptor(MAX_IOVECS - 1, at, 1, NEXT, MAX_IOVECS);
    mock.descriptor(MAX_IOVECS, at, 1, 0);
    mock.iovecs.fill(0xdeadbeef, 3 * MAX_IOVECS);
    expect(walk(mock)).toBe(false);
    expect(mock.iovecs.subarray(3 * MAX_IOVECS).every((word) => word === 0xdeadbeef)).toBe(true);
  });

  it('counts pieces, not buffers, where buffers cross windows', () => {
    const mock = open({ size: 1024, indirectEntries: 0, regionSize: 32_768, dataBytes: 65_536 });
    for (let n = 0; n < 1000; n++) mock.descriptor(n, mock.address(32_768) - 1, 2, n < 999 ? NEXT : 0, n + 1);
    mock.iovecs.fill(0xdeadbeef, 3 * MAX_IOVECS);
    expect(walk(mock, 488)).toBe(true);
    expect(mock.queue.count).toBe(MAX_IOVECS);
    expect(walk(mock, 487)).toBe(false);
    expect(mock.iovecs.subarray(3 * MAX_IOVECS).every((word) => word === 0xdeadbeef)).toBe(true);
  });

  it('puts the triples where it is told', () => {
    const mock = open();
    mock.descriptor(0, mock.address(mock.data), 5, WRITE);
    expect(mock.queue.walk(0, 1100)).toBe(true);
    expect(mock.queue.first).toBe(1100);
    expect(mock.buffers()).toEqual([[mock.address(mock.data), 5]]);
  });
});

describe('buffers and windows', () => {
  it('splits a buffer where it crosses from one window to the next', () => {
    const mock = open({ regionSize: 4096, dataBytes: 16_384 });
    const start = mock.address(4096) - 10;
    mock.descriptor(0, start, 4096 + 30, WRITE);
    expect(walk(mock)).toBe(true);
    expect(mock.buffers()).toEqual([
      [start, 10],
      [start + 10, 4096],
      [start + 10 + 4096, 20],
    ]);
    expect(mock.queue.writableBytes).toBe(4096 + 30);
  });

  it('refuses a buffer that reaches into a gap, begins in one, or reaches over one', () => {
    const mock = open({ regionSize: 4096, gap: 4096, dataBytes: 8192 });
    const end = mock.address(0) + 4096;
    for (const [at, length, good] of [
      [end - 10, 10, true],
      [end - 10, 11, false],
      [end, 1, false],
      [end + 4095, 1, false],
      [end + 4095, 2, false],
      [end + 4096, 1, true],
      [end - 10, 4096 + 20, false],
      [mock.address(0) - 1, 1, false],
      [mock.address(0) - 1, 2, false],
    ] as const) {
      mock.descriptor(0, at, length, 0);
      expect([at - end, length, walk(mock)]).toEqual([at - end, length, good]);
    }
  });

  it.each([2 ** 53, 2 ** 63, 2 ** 64 - 4096])('refuses address %i', (address) => {
    const mock = open();
    mock.descriptor(0, address, 16, 0);
    expect(walk(mock)).toBe(false);
  });

  it('refuses a length that wraps around the address space', () => {
    const mock = open();
    mock.descriptor(0, mock.address(mock.data), 0xffff_ffff, WRITE);
    expect(walk(mock)).toBe(false);
  });

  it('covers exactly the bytes that the descriptors name, for any descriptors', () => {
    const piece = fc.record({ at: fc.integer({ min: 0, max: 5 * 4096 }), length: fc.integer({ min: 0, max: 9000 }) });
    fc.assert(
      fc.property(fc.array(piece, { minLength: 1, maxLength: 8 }), fc.boolean(), (pieces, gaps) => {
        using mock = new MockDriver({ regionSize: 4096, gap: gaps ? 8192 : 0, dataBytes: 8192 });
        const base = mock.address(0);
        const inMemory = (address: number): boolean => mock.guest.find(address) >= 0;
        pieces.forEach(({ at, length }, n) =>
          mock.descriptor(n, base + at, length, n + 1 < pieces.length ? NEXT : 0, n + 1),
        );
        const named = pieces.flatMap(({ at, length }) => Array.from({ length }, (_, n) => base + at + n));
        const good = walk(mock);
        expect(good).toBe(named.every(inMemory));
        const covered = good ? mock.buffers().flatMap(([at, n]) => Array.from({ length: n }, (_, k) => at + k)) : [];
        expect(covered).toEqual(good ? named : []);
      }),
      { numRuns: 40 },
    );
  });
});

describe('§2.7.5.3 indirect descriptors', () => {
  /** Descriptor 0 names an indirect table of `entries` one-byte buffers. */
  function table(mock: MockDriver, entries: number, flags = INDIRECT): number {
    const offset = mock.data + 4096 - (mock.data % 4096);
    for (let n = 0; n < entries; n++) {
      mock.descriptor(n, mock.address(mock.data + n), 1, n + 1 < entries ? NEXT : 0, n + 1, offset);
    }
    mock.descriptor(0, mock.address(offset), 16 * entries, flags);
    return offset;
  }

  it('reads the table, which may be longer than the queue', () => {
    const mock = open();
    table(mock, 100);
    expect(walk(mock)).toBe(true);
    expect(mock.buffers()).toEqual(Array.from({ length: 100 }, (_, n) => [mock.address(mock.data + n), 1]));
  });

  it('§2.7.5.3.2 ignores WRITE on the descriptor that names the table', () => {
    const mock = open();
    table(mock, 3, INDIRECT | WRITE);
    expect(walk(mock)).toBe(true);
    expect([mock.queue.readableBytes, mock.queue.writableBytes]).toEqual([3, 0]);
  });

  it('§2.7.5.3.2 takes ordinary descriptors before the one that names the table', () => {
    const mock = open();
    const offset = table(mock, 3);
    mock.descriptor(4, mock.address(mock.data + 50), 7, NEXT, 0);
    mock.descriptor(2, mock.address(mock.data), 1, WRITE, 0, offset);
    expect(walk(mock, 4)).toBe(true);
    expect(mock.buffers().map(([, length]) => length)).toEqual([7, 1, 1, 1]);
    expect([mock.queue.readableBytes, mock.queue.writableBytes]).toEqual([9, 1]);
  });

  it('§2.7.5.3.1 refuses a table within a table', () => {
    const mock = open();
    const offset = table(mock, 3);
    mock.descriptor(0, mock.address(mock.data), 1, 0, 0, offset + 1024);
    mock.descriptor(1, mock.address(offset + 1024), 16, INDIRECT, 0, offset);
    expect(walk(mock)).toBe(false);
  });

  it('§2.7.5.3.1 refuses INDIRECT with NEXT', () => {
    const mock = open();
    table(mock, 3, INDIRECT | NEXT);
    expect(walk(mock)).toBe(false);
  });

  it('§2.7.5.3.1 refuses INDIRECT where the feature was not negotiated', () => {
    const mock = open({ indirect: false });
    table(mock, 3);
    expect(walk(mock)).toBe(false);
  });

  it.each([0, 1, 15, 17, 40])('refuses a table of %i bytes', (length) => {
    const mock = open();
    const offset = table(mock, 3);
    mock.descriptor(0, mock.address(offset), length, INDIRECT);
    expect(walk(mock)).toBe(false);
  });

  it.each([1, 2, 3])('refuses a table that lies %i bytes from where words lie', (off) => {
    const mock = open();
    const offset = table(mock, 3);
    mock.descriptor(0, mock.address(offset) + off, 48, INDIRECT);
    expect(walk(mock)).toBe(false);
  });

  it('refuses a table that lies outside memory, or in two windows', () => {
    const mock = open({ regionSize: 4096 });
    const end = mock.address(0) + mock.shape.size;
    for (const at of [0, end, end - 16, mock.address(4096) - 16]) {
      mock.descriptor(0, at, 32, INDIRECT);
      expect(walk(mock)).toBe(false);
    }
  });

  it('takes next wherever it points in a table, however long the table', () => {
    const mock = open({ dataBytes: 1 << 16 });
    const offset = table(mock, 2048);
    mock.descriptor(0, mock.address(mock.data), 1, NEXT, 2047, offset);
    expect(walk(mock)).toBe(true);
    expect(mock.queue.count).toBe(2);
  });

  it('refuses next beyond the table, even where the ring has such a descriptor', () => {
    const mock = open();
    const offset = table(mock, 3);
    mock.descriptor(1, mock.address(mock.data), 1, NEXT, 3, offset);
    expect(walk(mock)).toBe(false);
  });

  it('refuses a loop within the table', () => {
    const mock = open();
    const offset = table(mock, 3);
    mock.descriptor(2, mock.address(mock.data), 1, NEXT, 0, offset);
    expect(walk(mock)).toBe(false);
  });

  it('refuses readable after writable across the border of the table', () => {
    const mock = open();
    table(mock, 1);
    mock.descriptor(4, mock.address(mock.data), 1, NEXT | WRITE, 0);
    expect(walk(mock, 4)).toBe(false);
  });
});

describe('§2.7.6 available ring', () => {
  it('§2.7.13.3 an index that is ahead by more than the size breaks the queue for good', () => {
    const mock = open({ startIdx: 65_533 });
    mock.setAvailIdx((65_533 + 8) & 0xffff);
    expect([mock.queue.poll(), mock.queue.broken]).toEqual([8, 0]);
    mock.setAvailIdx((65_533 + 9) & 0xffff);
    expect(mock.queue.poll()).toBe(0);
    expect(BROKEN_REASONS[mock.queue.broken]).toContain('§2.7.13.3');
    mock.setAvailIdx(65_533);
    expect([mock.queue.poll(), mock.queue.broken]).toEqual([0, 1]);
  });

  it('an index that goes back breaks the queue', () => {
    const mock = open({ startIdx: 5 });
    mock.setAvailIdx(4);
    expect([mock.queue.poll(), mock.queue.broken]).toEqual([0, 1]);
  });

  it.each([8, 9, 0xffff])('a head of %i in a queue of 8 breaks it', (head) => {
    const mock = open();
    mock.offer(head);
    expect(mock.queue.poll()).toBe(1);
    expect(mock.queue.headAt(0)).toBe(-1);
    expect(BROKEN_REASONS[mock.queue.broken]).toContain('head');
    expect(mock.queue.poll()).toBe(0);
  });

  it('a bad head that lies ahead is told only when it is looked at', () => {
    const mock = open();
    mock.offer(3);
    mock.offer(8);
    mock.queue.poll();
    expect([mock.queue.headAt(0), mock.queue.broken]).toEqual([3, 0]);
    expect([mock.queue.headAt(1), mock.queue.broken]).toEqual([-1, 2]);
  });

  it('a chain that was put back comes again', () => {
    const mock = open({ startIdx: 65_535 });
    mock.offer(4);
    expect(mock.takeHead()).toBe(4);
    mock.queue.take(-1);
    expect(mock.state[QUEUE_LAST_AVAIL]).toBe(65_535);
    expect(mock.takeHead()).toBe(4);
  });

  it('goes on over the wrap-around of the indices, 65535 → 0', () => {
    const mock = open({ startIdx: 65_530, size: 4 });
    for (let n = 0; n < 20; n++) {
      mock.offer(n % 4);
      expect(mock.takeHead()).toBe(n % 4);
      mock.queue.pushUsed(n % 4, n);
      mock.queue.publish();
      expect(mock.takeUsed()).toEqual([{ id: n % 4, len: n }]);
    }
    expect(mock.usedIdx).toBe((65_530 + 20) & 0xffff);
    expect(mock.state[QUEUE_LAST_AVAIL]).toBe(mock.usedIdx);
    expect(mock.state[QUEUE_CHAINS]).toBe(20);
  });
});

describe('§2.7.8 used ring', () => {
  it('shows what was staged at publish, all at once', () => {
    const mock = open();
    for (let n = 0; n < 3; n++) mock.queue.pushUsed(n, 10 * n);
    expect(mock.takeUsed()).toEqual([]);
    mock.queue.publish();
    expect(mock.takeUsed()).toEqual([
      { id: 0, len: 0 },
      { id: 1, len: 10 },
      { id: 2, len: 20 },
    ]);
  });

  it('publishes nothing, and wants no interrupt, where nothing was staged', () => {
    const mock = open();
    expect(mock.queue.publish()).toBe(false);
    expect(mock.usedIdx).toBe(0);
  });
});

describe('§2.7.7 used buffer notification suppression', () => {
  it('without EVENT_IDX obeys NO_INTERRUPT', () => {
    const mock = open();
    mock.queue.pushUsed(0, 0);
    expect(mock.queue.publish()).toBe(true);
    mock.availFlags = 1;
    mock.queue.pushUsed(0, 0);
    expect(mock.queue.publish()).toBe(false);
  });

  it('with EVENT_IDX ignores NO_INTERRUPT', () => {
    const mock = open({ eventIdx: true });
    mock.availFlags = 1;
    mock.usedEvent = 0;
    mock.queue.pushUsed(0, 0);
    expect(mock.queue.publish()).toBe(true);
  });

  it('with EVENT_IDX interrupts if and only if the element with index used_event was among those shown', () => {
    const size = 32;
    const mock = open({ eventIdx: true, size });
    const near = fc.integer({ min: -40, max: 40 });
    const index = fc.oneof(fc.constantFrom(0, 65_535, 32_768, 65_520), fc.integer({ min: 0, max: 65_535 }));
    fc.assert(
      fc.property(index, fc.integer({ min: 1, max: size }), fc.oneof(near, fc.integer()), (old, shown, distance) => {
        const event = (old + distance) & 0xffff;
        mock.state[QUEUE_PUBLISHED] = mock.state[QUEUE_USED] = old;
        mock.usedEvent = event;
        const indices = Array.from({ length: shown }, (_, n) => (old + n) & 0xffff);
        for (const n of indices) mock.queue.pushUsed(n % size, 0);
        expect(mock.queue.publish()).toBe(indices.includes(event));
        expect(mock.usedIdx).toBe((old + shown) & 0xffff);
      }),
      { numRuns: 500 },
    );
  });
});

describe('§2.7.10 available buffer notification suppression', () => {
  it('without EVENT_IDX sets and clears NO_NOTIFY', () => {
    const mock = open();
    mock.queue.disableNotifications();
    expect(mock.usedFlags).toBe(1);
    mock.queue.enableNotifications();
    expect(mock.usedFlags).toBe(0);
  });

  it('with EVENT_IDX asks for the next chain, by avail_event; flags stay 0', () => {
    const mock = open({ eventIdx: true, startIdx: 65_535 });
    mock.offer(0);
    mock.takeHead();
    mock.queue.disableNotifications();
    expect(mock.availEvent).toBe(0);
    mock.offer(1);
    mock.takeHead();
    expect(mock.queue.enableNotifications()).toBe(0);
    expect([mock.availEvent, mock.usedFlags]).toEqual([1, 0]);
  });

  it.each([true, false])('finds a chain that came while notifications were off (EVENT_IDX %s)', (eventIdx) => {
    const mock = open({ eventIdx });
    mock.queue.poll();
    mock.queue.disableNotifications();
    mock.offer(2);
    expect(mock.queue.enableNotifications()).toBe(1);
    expect(mock.queue.headAt(0)).toBe(2);
  });

  it.each([true, false])(
    'a driver notifies of a chain that comes after enableNotifications (EVENT_IDX %s)',
    (eventIdx) => {
      const mock = open({ eventIdx, size: 4 });
      const { driver, queue } = mock;
      const offer = (): boolean => {
        driver.beginChain(false);
        driver.addBuffer(mock.data, 1, false);
        driver.endChain();
        driver.publish();
        return driver.needsNotification();
      };
      let notified = 0;
      for (let n = 0; n < 66_000; n++) {
        if (queue.enableNotifications() !== 0) break;
        if (offer()) notified++;
        queue.disableNotifications();
        if (offer()) break;
        for (let k = 0; k < 2; k++) queue.pushUsed(mock.takeHead(), 0);
        queue.publish();
        while (driver.takeUsed() >= 0);
      }
      expect(notified).toBe(66_000);
    },
  );
});

describe('a queue and its plain model', () => {
  it('chains come as they were made, and back as they were used, in any interleaving', () => {
    fc.assert(
      fc.property(
        fc.boolean(),
        fc.constantFrom(1, 2, 8, 32),
        fc.array(action, { maxLength: 200, size: 'max' }),
        (eventIdx, size, actions) => {
          using mock = new MockDriver({ size, eventIdx, indirectEntries: 6, regionSize: 4096 });
          const model = new Model(mock, eventIdx);
          for (const step of actions) model.run(step);
        },
      ),
      { numRuns: 200 },
    );
  });
});
