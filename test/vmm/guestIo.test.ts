/** What a guest may do at ports and at memory that is none, and how guests end, on any /dev/kvm. */
import { fstatSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { x86_64Machine } from '../../arch/x86_64/machine.js';
import { ConfigSpace } from '../../device/pci/configSpace.js';
import { addon } from '../../src/native/addon.js';
import { Machine, type ClosablePciFunction, type MachineOptions } from '../../src/vmm/machine.js';
import { BareMetal, haveKvm } from './bareMetal.js';

/** A function whose registers are memory, and that remembers how it was written. */
class Memory implements ClosablePciFunction {
  readonly config = new ConfigSpace({
    vendor: 0x1234,
    device: 0x5678,
    revision: 0,
    classCode: 0xff_0000,
    subsystemVendor: 0,
    subsystem: 0,
    interruptPin: 0,
  });
  readonly bytes = Buffer.alloc(8192);
  readonly lengths = new Set<number>();

  constructor() {
    this.config.addMemoryBar(0, this.bytes.length);
  }

  readConfig(offset: number, length: number): number {
    return this.config.read(offset, length);
  }

  writeConfig(offset: number, length: number, value: number): void {
    this.config.write(offset, length, value);
  }

  readBar(_bar: number, offset: number, length: number): number {
    this.lengths.add(length);
    return this.bytes.readUIntLE(offset, length);
  }

  /** Each takes a while, as writes do that wait for the data plane. */
  async writeBar(_bar: number, offset: number, length: number, value: number): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.bytes.writeUIntLE(value, offset, length);
  }

  async close(): Promise<void> {}
}

function fail(): never {
  throw new Error('no such luck');
}

/** The alphabet from a letter on, again and again. */
function letters(first: number, count: number): string {
  return Buffer.from(Array.from({ length: count }, (_, n) => first + (n % 26))).toString('latin1');
}

/** `name=value` lines. */
function reported(text: string): Record<string, number> {
  return Object.fromEntries(Array.from(text.matchAll(/^(\w+)=(\d+)$/gm), ([, name, value]) => [name, Number(value)]));
}

describe.runIf(haveKvm())('a guest on /dev/kvm (skipped where there is none)', () => {
  let guests: BareMetal;
  const kernels: Record<string, string> = {};
  beforeAll(() => {
    guests = new BareMetal();
    for (const name of ['memory', 'io', 'ends']) kernels[name] = guests.build(name);
  });
  afterAll(() => guests[Symbol.dispose]());

  const create = async (name: string, options: Partial<MachineOptions> = {}) => {
    let output = '';
    const machine = await Machine.create({
      addon,
      arch: x86_64Machine,
      cpus: 1,
      memoryMiB: 16,
      kernel: kernels[name]!,
      onConsole: (bytes) => void (output += bytes.toString('latin1')),
      ...options,
    });
    return { machine, text: () => output };
  };

  it.each([
    [3072, [[0xc000_0000 - 0x10_0000, 0x10_0000]]],
    [
      5120,
      [
        [0xc000_0000 - 0x10_0000, 0x10_0000],
        [2 * 2 ** 30, 4 * 2 ** 30],
      ],
    ],
    [
      8192,
      [
        [0xc000_0000 - 0x10_0000, 0x10_0000],
        [5 * 2 ** 30, 4 * 2 ** 30],
      ],
    ],
  ])('of %i MiB has all of it, around the hole, zeroed and sparse', async (memoryMiB, high) => {
    const { machine, text } = await create('memory', { memoryMiB });
    await using _ = machine;
    machine.start();
    expect(await machine.ended).toEqual({ kind: 'powerOff' });
    const table = Array.from(text().matchAll(/^memory (\w+) (\w+) (\d)$/gm), ([, start, size, type]) => [
      Number.parseInt(start!, 16),
      Number.parseInt(size!, 16),
      Number(type),
    ]);
    expect(table.slice(2)).toEqual(high.map(([size, start]) => [start, size, 1]));
    const { touched, dirty, wrong } = reported(text());
    expect({ touched, dirty, wrong }).toEqual({ touched: 17 * high.length, dirty: 0, wrong: 0 });
    const { fd } = machine.memory[0]!;
    expect(fstatSync(fd).blocks * 512).toBeLessThan(8 * 2 ** 20);
  });

  it('gets every byte of string instructions, every width of ports, odd sizes and places in device memory', async () => {
    const { machine, text } = await create('io');
    await using _ = machine;
    const memory = machine.plug(() => new Memory());
    const echoed = Buffer.from(`${letters(65, 699)}\n`);
    machine.sendConsole(echoed);
    machine.start();
    expect(await machine.ended).toEqual({ kind: 'powerOff' });
    const [first, second] = text().split('\n');
    expect(first).toBe(letters(97, 4999));
    expect(`${second}\n`).toBe(echoed.toString());
    expect(reported(text())).toEqual({
      divisor0: 0x3456,
      divisor2: 0x3456,
      bridge0: 0x0008_1b36,
      bridge2: 0x0008_1b36,
      low: 0x34,
      high: 0x12,
      word: 0x1234,
      // Divisor, interrupt identification, line control.
      dword: 0x8301_1234,
      dword2: 0x83c1_12ab,
      edge: 0xff77,
      enable: 0x0120,
      status: 0x0120_0000,
      nobody8: 0xff,
      nobody16: 0xffff,
      nobody32: 0xffff_ffff,
      half: 0x0008,
      byte: 0x1b,
      begun: 0,
      over: 1,
      quad: 1,
      askew: 1,
      askew16: 1,
      across: 1,
      copied: 1,
      first: 0x4433_2211,
      absent8: 0xff,
      absent16: 0xffff,
      absent32: 0xffff_ffff,
      absent64: 1,
    });
    expect(memory.bytes.subarray(0x11, 0x15).toString('hex')).toBe('d4c3b2a1');
    expect(memory.bytes.subarray(4093, 4101).toString('hex')).toBe('1122334455667788');
    // Registers are 4 bytes wide at most, whatever the processor does.
    expect([...memory.lengths].toSorted()).toEqual([1, 2, 4]);
  });

  it.each([
    ['throws', { writeConfig: (): void => fail() }],
    ['rejects', { writeBar: async (): Promise<void> => fail() }],
  ])('whose device %s ends, and nothing else does', async (_, broken) => {
    const { machine } = await create('io');
    await using running = machine;
    running.plug(() => Object.assign(new Memory(), broken));
    running.sendConsole(Buffer.alloc(700));
    running.start();
    expect(await running.ended).toEqual({ kind: 'failed', vcpu: 0, message: 'a device failed (no such luck)' });
  });

  it.each([
    ['t', { kind: 'tripleFault', vcpu: 0 }],
    ['2t', { kind: 'tripleFault', vcpu: 1 }],
    ['k', { kind: 'reset' }],
    ['2k', { kind: 'reset' }],
    ['r', { kind: 'reset' }],
    ['p', { kind: 'powerOff' }],
    ['j', { kind: 'failed', vcpu: 0, message: expect.stringMatching(/KVM can't go on .* instruction/) }],
  ])('that ends by %s', async (how, end) => {
    const { machine, text } = await create('ends', { cpus: 2 });
    await using _ = machine;
    machine.sendConsole(Buffer.from(how));
    machine.start();
    expect(await machine.ended).toEqual(end);
    expect(text()).toBe(`how?\nabout to end by ${how.at(-1)}\n`);
  });
});
