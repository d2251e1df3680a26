/** What a vCPU makes of its exits (linux/kvm.h, Documentation/virt/kvm/api.rst §5). */
import { setImmediate as turn } from 'node:timers/promises';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Deferred } from '../../src/sandbox/deferred.js';
import type { AddressSpace } from '../../src/vmm/vcpu.js';
import { FakeVcpu } from './fakeVcpu.js';

const EXIT_SHUTDOWN = 8;
const EXIT_FAIL_ENTRY = 9;
const EXIT_INTR = 10;
const EXIT_INTERNAL_ERROR = 17;
const EXIT_SYSTEM_EVENT = 24;

interface Access {
  readonly space: AddressSpace;
  readonly address: number;
  readonly length: number;
  readonly value: number;
}

/** A device that remembers what is written, reads as a running number, and answers writes when it is told to. */
class Device {
  readonly writes: Access[] = [];
  readonly reads: Access[] = [];
  answer: Promise<void> | undefined;

  read(space: AddressSpace, address: number, length: number): number {
    const value = (0x0101_0101 * (this.reads.length + 1)) % 2 ** (8 * length);
    this.reads.push({ space, address, length, value });
    return value;
  }

  write(space: AddressSpace, address: number, length: number, value: number): void | Promise<void> {
    this.writes.push({ space, address, length, value });
    return this.answer;
  }
}

const littleEndian = (accesses: readonly Access[]): number[] =>
  accesses.flatMap(({ length, value }) => Array.from({ length }, (_, n) => Math.floor(value / 2 ** (8 * n)) & 0xff));

describe('KVM_EXIT_IO', () => {
  const size = fc.constantFrom(1, 2, 4);
  const count = fc.oneof(fc.constant(1), fc.integer({ min: 2, max: 100 }));
  const port = fc.integer({ min: 0, max: 0xffff });

  it('a string of items is as many writes to the same port, in order', async () => {
    await fc.assert(
      fc.asyncProperty(
        port,
        size,
        count,
        fc.infiniteStream(fc.integer({ min: 0, max: 255 })),
        async (at, width, items, bytes) => {
          const device = new Device();
          const fake = new FakeVcpu(device);
          const data = Uint8Array.from({ length: width * items }, () => bytes.next().value as number);
          fake.portExit(true, at, width, items, data);
          await turn();
          expect(littleEndian(device.writes)).toEqual([...data]);
          for (const access of device.writes) expect(access).toMatchObject({ space: 'io', address: at, length: width });
          expect(fake.running).toBe(true);
          expect(fake.counts.io).toBe(1);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('and as many reads, which the guest gets in order', async () => {
    await fc.assert(
      fc.asyncProperty(port, size, count, async (at, width, items) => {
        const device = new Device();
        const fake = new FakeVcpu(device);
        const got = fake.portExit(false, at, width, items);
        await turn();
        expect(device.reads).toHaveLength(items);
        expect([...got]).toEqual(littleEndian(device.reads));
        expect(fake.running).toBe(true);
      }),
      { numRuns: 50 },
    );
  });
});

describe('KVM_EXIT_MMIO', () => {
  it('of any length goes in pieces of 1, 2 or 4 bytes, the low ones first (virtio 1.2 §4.1.3.1)', async () => {
    const length = fc.integer({ min: 1, max: 8 });
    const address = fc.integer({ min: 0, max: 2 ** 52 });
    await fc.assert(
      fc.asyncProperty(address, length, fc.uint8Array({ minLength: 8, maxLength: 8 }), async (at, bytes, content) => {
        const device = new Device();
        const fake = new FakeVcpu(device);
        fake.memoryExit(true, at, bytes, content);
        await turn();
        expect(littleEndian(device.writes)).toEqual([...content.subarray(0, bytes)]);
        const read = fake.memoryExit(false, at, bytes);
        await turn();
        expect([...read]).toEqual(littleEndian(device.reads));
        for (const accesses of [device.writes, device.reads]) {
          let next = at;
          for (const piece of accesses) {
            expect(piece.address).toBe(next);
            expect([1, 2, 4]).toContain(piece.length);
            next += piece.length;
          }
        }
        expect(fake.running).toBe(true);
      }),
      { numRuns: 50 },
    );
  });
});

describe('an answer that takes its time', () => {
  it('is waited for by this vCPU alone', async () => {
    const device = new Device();
    const answered = new Deferred<void>();
    device.answer = answered.promise;
    const fake = new FakeVcpu(device);
    fake.portExit(true, 0x80, 1, 1);
    await turn();
    expect(fake.running).toBe(false);
    answered.resolve();
    await turn();
    expect(fake.running).toBe(true);
    expect(fake.entries).toBe(2);
  });

  it('is not overtaken by pause and resume: the vCPU stands still only after it, and enters once', async () => {
    const device = new Device();
    const answered = new Deferred<void>();
    device.answer = answered.promise;
    const fake = new FakeVcpu(device);
    fake.portExit(true, 0x80, 1, 1);
    fake.vcpu.pause();
    expect(fake.vcpu.stopped).toBe(false);
    fake.vcpu.resume();
    expect(fake.running).toBe(false);
    fake.vcpu.pause();
    answered.resolve();
    await turn();
    expect(fake.vcpu.stopped).toBe(true);
    expect(fake.running).toBe(false);
    fake.vcpu.resume();
    expect(fake.running).toBe(true);
    expect(fake.entries).toBe(2);
  });

  it('comes too late for a vCPU that was closed, whose kvm_run is gone', async () => {
    const device = new Device();
    const answered = new Deferred<void>();
    device.answer = answered.promise;
    const fake = new FakeVcpu(device);
    fake.portExit(true, 0x80, 1, 5);
    fake.vcpu.close();
    answered.resolve();
    await turn();
    expect(device.writes).toHaveLength(1);
    expect(fake.running).toBe(false);
  });
});

describe('a vCPU that can go on no more', () => {
  const end = (make: (fake: FakeVcpu) => void): unknown => {
    const fake = new FakeVcpu(new Device(), 3);
    make(fake);
    expect(fake.running).toBe(false);
    expect(fake.ends).toHaveLength(1);
    return fake.ends[0];
  };

  it.each([
    ['a triple fault', (fake: FakeVcpu) => fake.exit(EXIT_SHUTDOWN), 'tripleFault', /^vCPU 3 .*triple fault/],
    [
      'KVM_EXIT_FAIL_ENTRY',
      (fake: FakeVcpu) => fake.exit(EXIT_FAIL_ENTRY, 0x8000_0021, 0x1),
      'entryRefused',
      /^vCPU 3 .*0x180000021/,
    ],
    ['KVM_EXIT_INTERNAL_ERROR', (fake: FakeVcpu) => fake.exit(EXIT_INTERNAL_ERROR, 3, 0), 'internalError', /3/],
    [
      'an instruction that KVM does not emulate',
      // ndata, flags (instruction bytes are there), their number and the bytes.
      (fake: FakeVcpu) => fake.exit(EXIT_INTERNAL_ERROR, 1, 4, 1, 0, 0x2d_ae_0f_03, 0),
      'internalError',
      /^vCPU 3 .*instruction .*: 0f ae 2d$/,
    ],
    ['an exit that nobody knows', (fake: FakeVcpu) => fake.exit(77), 'unknownExit', /^vCPU 3 .*77/],
    ['KVM_RUN that fails', (fake: FakeVcpu) => fake.fail(14), 'runFailed', /^vCPU 3 .*EFAULT/],
  ] as const)('says so: %s', (_, make, reason, message) => {
    const failure = end(make);
    expect(failure).toMatchObject({ kind: 'failed', vcpu: 3, reason });
    expect((failure as { message: string }).message).toMatch(message);
  });

  it.each([
    [
      'throws',
      (): Promise<void> => {
        throw new Error('a bug');
      },
    ],
    ['rejects', (): Promise<void> => Promise.reject(new Error('a bug'))],
  ])('ends its guest alone when a device %s', async (_, write) => {
    const device = new Device();
    device.write = write;
    const fake = new FakeVcpu(device, 3);
    fake.portExit(true, 0x80, 1, 1);
    await turn();
    expect(fake.running).toBe(false);
    expect(fake.ends).toMatchObject([{ kind: 'failed', vcpu: 3, reason: 'deviceFailed' }]);
  });

  it('KVM_EXIT_SYSTEM_EVENT tells power-off and reset', () => {
    expect(end((fake) => fake.exit(EXIT_SYSTEM_EVENT, 1))).toEqual({ kind: 'powerOff' });
    expect(end((fake) => fake.exit(EXIT_SYSTEM_EVENT, 2))).toEqual({ kind: 'reset' });
  });

  it('a kick, and a vCPU that nobody has started yet, are no end', () => {
    const fake = new FakeVcpu(new Device());
    fake.fail(4);
    fake.fail(11);
    fake.exit(EXIT_INTR);
    expect(fake.running).toBe(true);
    expect(fake.counts.interrupted).toBe(3);
    expect(fake.ends).toEqual([]);
  });
});
