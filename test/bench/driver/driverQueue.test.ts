import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DriverQueue, queueSizes } from '../../../bench/driver/driverQueue.js';
import { MappedMemory, MemoryPlan, guestAddress, guestRegions } from '../../../bench/driver/guestMemory.js';
import type { GuestMemoryShape } from '../../../bench/driver/guestMemory.js';
import { addon } from '../../../src/native/addon.js';
import { ModelMemory, ModelQueue } from './modelQueue.js';

const INDIRECT_ENTRIES = 4;

interface Bench {
  readonly shape: GuestMemoryShape;
  readonly memory: MappedMemory;
  readonly driver: DriverQueue;
  readonly device: ModelQueue;
  readonly deviceMemory: ModelMemory;
  readonly callFd: number;
  readonly buffers: number;
}

function bench(size: number, eventIdx: boolean, regionSize = Infinity): Bench {
  const plan = new MemoryPlan(regionSize);
  const sizes = queueSizes(size);
  const layout = {
    size,
    descTable: plan.place(sizes.descTable, 4096),
    availRing: plan.place(sizes.availRing, 64),
    usedRing: plan.place(sizes.usedRing, 4096),
    indirectTables: plan.place(size * INDIRECT_ENTRIES * 16, 4096),
    indirectEntries: INDIRECT_ENTRIES,
  };
  const buffers = plan.place(4096, 4096);
  const shape = plan.create(regionSize === Infinity ? 0 : 0x1000_0000, 0x1_4000_0000);
  const memory = new MappedMemory(shape);
  const regions = guestRegions(shape).map((region) => ({ ...region, fd: shape.fd }));
  const deviceMemory = new ModelMemory(regions);
  const callFd = addon.eventfdCreate();
  const at = (offset: number): number => guestAddress(shape, offset);
  const setup = {
    size,
    descTable: at(layout.descTable),
    availRing: at(layout.availRing),
    usedRing: at(layout.usedRing),
    lastAvailIdx: 0,
    kickFd: -1,
    callFd,
  };
  const driver = new DriverQueue(memory, layout, eventIdx);
  return {
    shape,
    memory,
    driver,
    device: new ModelQueue(deviceMemory, setup, eventIdx),
    deviceMemory,
    callFd,
    buffers,
  };
}

function release({ shape, memory, deviceMemory, callFd }: Bench): void {
  memory.unmap();
  deviceMemory.unmap();
  addon.close(shape.fd);
  addon.close(callFd);
}

/** Sends a chain of buffers of these lengths, the last `writable` of them for the device to write. */
function sendChain(
  { driver, buffers }: Bench,
  lengths: readonly number[],
  writable: number,
  indirect: boolean,
): number {
  driver.beginChain(indirect);
  for (const [n, length] of lengths.entries()) {
    driver.addBuffer(buffers + 64 * n, length, n >= lengths.length - writable);
  }
  return driver.endChain();
}

const chains = fc.array(
  fc.record({
    lengths: fc.array(fc.integer({ min: 1, max: 64 }), { minLength: 1, maxLength: INDIRECT_ENTRIES }),
    writable: fc.nat(INDIRECT_ENTRIES),
    indirect: fc.boolean(),
  }),
  { minLength: 1, maxLength: 200 },
);

describe('virtio 1.2 §2.7: split virtqueues, the driver’s side', () => {
  test('every chain arrives as it was made, and comes back once, in whatever order the device uses them', () => {
    fc.assert(
      fc.property(chains, fc.boolean(), fc.infiniteStream(fc.nat(1000)), (list, eventIdx, choices) => {
        const it = bench(16, eventIdx);
        const choose = (n: number): number => (choices.next().value as number) % n;
        const pending: { head: number; written: number }[] = [];
        const outstanding = new Set<number>();
        const takeBack = (): void => {
          for (let head = it.driver.takeUsed(); head >= 0; head = it.driver.takeUsed()) {
            expect(outstanding.delete(head)).toBe(true);
            expect(it.driver.usedLength).toBe(head * 3);
          }
        };
        for (const { lengths, writable, indirect } of list) {
          while (it.driver.freeCount < (indirect ? 1 : lengths.length)) {
            const [{ head, written }] = pending.splice(choose(pending.length), 1);
            it.device.use(head, written);
            it.device.publish();
            takeBack();
          }
          const head = sendChain(it, lengths, writable, indirect);
          expect(outstanding.has(head)).toBe(false);
          outstanding.add(head);
          expect(it.device.available()).toBe(0);
          it.driver.publish();
          const chain = it.device.take();
          const readable = lengths.slice(0, Math.max(lengths.length - writable, 0));
          expect(chain?.head).toBe(head);
          expect(chain?.indirect).toBe(indirect);
          expect(chain?.readable.map((piece) => piece.length)).toEqual(readable);
          expect(chain?.writable.map((piece) => piece.length)).toEqual(lengths.slice(readable.length));
          pending.push({ head, written: head * 3 });
        }
        for (const { head, written } of pending) it.device.use(head, written);
        it.device.publish();
        takeBack();
        expect(outstanding.size).toBe(0);
        expect(it.driver.freeCount).toBe(16);
        expect(it.driver.ringErrors).toBe(0);
        release(it);
      }),
      { numRuns: 50 },
    );
  });

  test('guest addresses above 4 GiB, and regions with holes between them', () => {
    const it = bench(16, true, 8192);
    const offset = 3 * 8192 + 128;
    expect(guestAddress(it.shape, offset)).toBe(0x1_4000_0000 + offset + 3 * 0x1000_0000);
    it.memory.u8.fill(0x5a, it.buffers, it.buffers + 10);
    sendChain(it, [10], 0, false);
    it.driver.publish();
    expect([...(it.device.take()?.readable[0] ?? [])]).toEqual(Array.from({ length: 10 }, () => 0x5a));
    release(it);
  });

  test('a region too small for a structure is refused', () => {
    expect(() => new MemoryPlan(4096).place(4097, 16)).toThrow('a region of 4096 bytes is too small');
  });

  test('§2.7.8: a used element that names no chain in flight is counted and passed over', () => {
    const it = bench(16, true);
    const [head] = Array.from({ length: 6 }, () => sendChain(it, [10], 0, false));
    it.driver.publish();
    for (const wrong of [16, 70_000, 0xffff_ffff, 15]) it.device.use(wrong, 0);
    it.device.use(head, 7);
    it.device.use(head, 7);
    it.device.publish();
    expect(it.driver.takeUsed()).toBe(head);
    expect(it.driver.usedLength).toBe(7);
    expect(it.driver.takeUsed()).toBe(-1);
    expect(it.driver.ringErrors).toBe(5);
    expect(it.driver.fault).toBe('a used element names descriptor 16, whose chain is not in flight');
    release(it);
  });

  test.each([3, 16, 17, 65_535])(
    '§2.7.8: a used index %i chains ahead, with two in flight, gives nothing back',
    (ahead) => {
      const it = bench(16, true);
      const heads = [0, 1].map(() => sendChain(it, [10], 0, false));
      it.driver.publish();
      for (let n = 0; n < ahead; n++) it.device.use(heads[n % 2], 0);
      it.device.publish();
      expect(it.driver.takeUsed()).toBe(-1);
      expect(it.driver.fault).toBe(`the used index is ${ahead} chains ahead, with 2 in flight`);
      release(it);
    },
  );
});

describe.each([true, false])('notification suppression, EVENT_IDX %s', (eventIdx) => {
  let it: Bench;
  beforeEach(() => {
    it = bench(16, eventIdx);
  });
  afterEach(() => release(it));

  const send = (): void => {
    sendChain(it, [10], 0, false);
    it.driver.publish();
  };
  const use = (): boolean => {
    const chain = it.device.take();
    it.device.use(chain?.head ?? -1, 0);
    return it.device.publish();
  };

  test('§2.7.10: the driver kicks if the device asked, once for a batch, and not for nothing', () => {
    it.device.wantKicks(true);
    expect(it.driver.needsNotification()).toBe(false);
    send();
    send();
    expect(it.driver.needsNotification()).toBe(true);
    expect(it.driver.needsNotification()).toBe(false);
    it.device.take();
    it.device.take();
    it.device.wantKicks(false);
    send();
    expect(it.driver.needsNotification()).toBe(false);
  });

  test('§2.7.7: the device interrupts while interrupts are on, and only then', () => {
    it.driver.disableInterrupts();
    send();
    expect(use()).toBe(false);
    it.driver.takeUsed();
    send();
    expect(it.driver.enableInterrupts(0)).toBe(true);
    expect(use()).toBe(true);
    expect(it.driver.enableInterrupts(0)).toBe(false);
    it.driver.takeUsed();
    it.driver.disableInterrupts();
    send();
    expect(use()).toBe(false);
  });

  test('§2.7.7.1: with EVENT_IDX an interrupt can be asked for after some more chains', () => {
    for (let n = 0; n < 3; n++) send();
    it.driver.disableInterrupts();
    expect(it.driver.enableInterrupts(2)).toBe(true);
    expect([use(), use(), use()]).toEqual(eventIdx ? [false, false, true] : [true, true, true]);
  });

  test('indices wrap at 65,536', () => {
    for (let n = 0; n < 70_000; n++) {
      send();
      use();
      if (it.driver.takeUsed() < 0) throw new Error(`chain ${n} did not come back`);
    }
    it.device.wantKicks(true);
    send();
    expect(it.driver.needsNotification()).toBe(true);
  });
});
