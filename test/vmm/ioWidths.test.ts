/** Accesses of every width to ports and to device memory, as the processor makes them, on any /dev/kvm. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ConfigSpace } from '../../device/pci/configSpace.js';
import type { ClosablePciFunction } from '../../src/vmm/machine.js';
import { bareMachine } from './bareMachine.js';
import { BareMetal, describeOnKvm } from './bareMetal.js';

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

/** `name=value` lines. */
function reported(text: string): Record<string, number> {
  return Object.fromEntries(Array.from(text.matchAll(/^(\w+)=(\d+)$/gm), ([, name, value]) => [name, Number(value)]));
}

describeOnKvm('a guest that accesses devices', () => {
  let guests: BareMetal;
  let kernel: string;
  beforeAll(() => {
    guests = new BareMetal();
    kernel = guests.build('ioWidths');
  });
  afterAll(() => guests[Symbol.dispose]());

  it('by every width, at odd places and by strings, gets what a PC gives and loses nothing', async () => {
    const { machine, text } = await bareMachine(kernel, { cpus: 1 });
    await using _ = machine;
    const memory = machine.plug(() => new Memory());
    machine.start();
    expect(await machine.ended).toEqual({ kind: 'powerOff' });
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
    ['has a device that throws', { writeConfig: (): void => fail() }],
    ['has a device that rejects', { writeBar: async (): Promise<void> => fail() }],
  ])('that %s is ended, and nothing else is', async (_, broken) => {
    const { machine } = await bareMachine(kernel, { cpus: 1 });
    await using running = machine;
    running.plug(() => Object.assign(new Memory(), broken));
    running.start();
    const message = "vCPU 0 can't go on: a device failed (no such luck)";
    expect(await running.ended).toEqual({ kind: 'failed', vcpu: 0, reason: 'deviceFailed', message });
  });
});
