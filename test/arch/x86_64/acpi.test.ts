/** The tables tell of the machine that is there (ACPI 6.4 §5.2). */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { acpiTables } from '../../../arch/x86_64/acpi.js';
import { x86_64Machine } from '../../../arch/x86_64/machine.js';
import { ACPI_TABLES, HIGH_MEMORY, IO_APIC, LOCAL_APIC, SCI } from '../../../arch/x86_64/memoryMap.js';
import { PciBus } from '../../../device/pci/bus.js';
import { Uart } from '../../../src/vmm/uart.js';
import type { GuestEnd } from '../../../src/vmm/vcpu.js';
import { readAml, type Term } from './amlReader.js';

const HEADER = 36;

const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);

const hex = (bytes: Buffer): string => bytes.toString('hex');

/** The tables as an operating system finds them, from the root pointer on. */
function find(cpus: number): { root: Buffer; tables: Map<string, Buffer> } {
  const memory = acpiTables(cpus);
  const at = (address: bigint): Buffer => {
    const table = memory.subarray(Number(address) - ACPI_TABLES);
    return table.subarray(0, table.readUInt32LE(4));
  };
  const tables = new Map<string, Buffer>();
  const add = (table: Buffer): void => void tables.set(table.toString('latin1', 0, 4), table);
  const root = memory.subarray(0, 36);
  const xsdt = at(root.readBigUInt64LE(24));
  add(xsdt);
  for (let entry = HEADER; entry < xsdt.length; entry += 8) add(at(xsdt.readBigUInt64LE(entry)));
  add(at(tables.get('FACP')!.readBigUInt64LE(140)));
  return { root, tables };
}

/** §5.2.12: the entries behind the header. */
function interruptControllers(madt: Buffer): Buffer[] {
  const entries: Buffer[] = [];
  for (let at = HEADER + 8; at < madt.length; at += madt[at + 1]!) entries.push(madt.subarray(at, at + madt[at + 1]!));
  return entries;
}

/** What a name of the DSDT has as its value. */
function named(terms: Term[], name: string): Term {
  for (const term of terms) {
    if (typeof term === 'number' || term instanceof Buffer) continue;
    if ('name' in term && term.name === name) return term.value;
    if ('terms' in term) {
      const found = named(term.terms, name);
      if (found !== -1) return found;
    }
  }
  return -1;
}

const elements = (term: Term): Term[] => (term as { list: Term[] }).list;

/** A board, and how its guest ended. */
function board() {
  const ends: GuestEnd[] = [];
  const handler = x86_64Machine.board({
    console: new Uart(
      () => undefined,
      () => undefined,
    ),
    pci: new PciBus(),
    ended: (end) => ends.push(end),
  });
  return { handler, ends };
}

describe('ACPI tables', () => {
  const cpuCounts = fc.oneof(fc.constantFrom(1, 2, 254), fc.integer({ min: 1, max: 254 }));

  it('§5.2.5.3, §5.2.6: every checksum is right, lengths and signatures too, whatever the number of vCPUs', () => {
    fc.assert(
      fc.property(cpuCounts, (cpus) => {
        const { root, tables } = find(cpus);
        expect(root.toString('latin1', 0, 8)).toBe('RSD PTR ');
        expect(root[15]).toBe(2);
        expect(sum(root.subarray(0, 20))).toBe(0);
        expect(sum(root)).toBe(0);
        // No MCFG: the machine has configuration mechanism #1 alone.
        expect([...tables.keys()]).toEqual(['XSDT', 'FACP', 'APIC', 'DSDT']);
        for (const table of tables.values()) expect(sum(table)).toBe(0);
      }),
      { numRuns: 30 },
    );
  });

  it('§5.2.5.1: lie on 16-byte boundaries in the 128 KiB below 1 MiB', () => {
    expect(ACPI_TABLES % 16).toBe(0);
    expect(ACPI_TABLES + acpiTables(254).length).toBeLessThanOrEqual(HIGH_MEMORY);
    const { root, tables } = find(3);
    expect(root.readBigUInt64LE(24) % 16n).toBe(0n);
    expect(tables.get('FACP')!.readBigUInt64LE(140) % 16n).toBe(0n);
  });

  it('§5.2.12: name every vCPU by its APIC id, and the I/O APIC with an id of its own', () => {
    fc.assert(
      fc.property(cpuCounts, (cpus) => {
        const madt = find(cpus).tables.get('APIC')!;
        expect(madt.readUInt32LE(HEADER)).toBe(LOCAL_APIC);
        const ioApic = Buffer.from([1, 12, cpus, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        ioApic.writeUInt32LE(IO_APIC, 4);
        const locals = Array.from({ length: cpus }, (_, id) => Buffer.from([0, 8, id, id, 1, 0, 0, 0]));
        expect(interruptControllers(madt).map(hex)).toEqual([...locals, ioApic].map(hex));
      }),
      { numRuns: 30 },
    );
  });

  it('§5.2.9: the FADT has registers twice, the same; the SCI is a pin of the I/O APIC', () => {
    const fadt = find(1).tables.get('FACP')!;
    expect(fadt.length).toBe(276);
    expect(BigInt(fadt.readUInt32LE(40))).toBe(fadt.readBigUInt64LE(140));
    expect(BigInt(fadt.readUInt32LE(56))).toBe(fadt.readBigUInt64LE(152));
    expect(BigInt(fadt.readUInt32LE(64))).toBe(fadt.readBigUInt64LE(176));
    expect([fadt[88], fadt[89]]).toEqual([fadt[149]! / 8, fadt[173]! / 8]);
    expect(fadt.readUInt16LE(46)).toBe(SCI);
    expect(
      x86_64Machine.routes.some((route) => route.kind === 'irqchip' && route.chip === 2 && route.pin === SCI),
    ).toBe(true);
  });

  it('§7.4.2.5: what \\_S5 says, written to the PM1 control register of the FADT, by a word or its high byte, powers off', () => {
    const { tables } = find(1);
    const [sleepType] = elements(named(readAml(tables.get('DSDT')!.subarray(HEADER)), '\\_S5_'));
    const control = tables.get('FACP')!.readUInt32LE(64);
    const { handler, ends } = board();
    for (let type = 0; type < 8; type++) {
      if (type !== sleepType) void handler.write('io', control, 2, (type << 10) | 0x2000);
    }
    void handler.write('io', control, 2, (sleepType as number) << 10);
    expect(ends).toEqual([]);
    void handler.write('io', control, 2, ((sleepType as number) << 10) | 0x2000);
    void handler.write('io', control + 1, 1, ((sleepType as number) << 2) | 0x20);
    expect(ends).toEqual([{ kind: 'powerOff' }, { kind: 'powerOff' }]);
  });

  it('§4.8.3.6: the reset register of the FADT resets', () => {
    const fadt = find(1).tables.get('FACP')!;
    expect(fadt.readUInt32LE(112) & (1 << 10)).not.toBe(0);
    const { handler, ends } = board();
    void handler.write('io', Number(fadt.readBigUInt64LE(120)), 1, fadt[128]!);
    expect(ends).toEqual([{ kind: 'reset' }]);
  });

  it('§6.2.13: _PRT leads the INTA of each slot to the GSI that the machine gives it', () => {
    const entries = elements(named(readAml(find(1).tables.get('DSDT')!.subarray(HEADER)), '_PRT')).map(elements);
    expect(entries).toEqual(
      Array.from({ length: 31 }, (_, n) => [(n + 1) * 0x1_0000 + 0xffff, 0, 0, x86_64Machine.lineGsi(n + 1)]),
    );
  });

  it("a slot's line is a pin of an 8259 and of the I/O APIC, and nobody else's: the same number is right with either", () => {
    /** Timer, keyboard, cascade, both serial ports, clock, ACPI, coprocessor, disk. */
    const taken = [0, 1, 2, 3, x86_64Machine.consoleGsi, 8, SCI, 13, 14];
    for (let slot = 1; slot < 32; slot++) {
      const gsi = x86_64Machine.lineGsi(slot);
      expect(taken).not.toContain(gsi);
      const chips = x86_64Machine.routes.flatMap((route) =>
        route.kind === 'irqchip' && route.gsi === gsi ? [[route.chip, route.pin]] : [],
      );
      expect(chips).toEqual([
        [gsi >> 3, gsi & 7],
        [2, gsi],
      ]);
    }
  });

  it("§6.2.2: _CRS has the bridge's memory window as the machine places registers", () => {
    const resources = named(readAml(find(1).tables.get('DSDT')!.subarray(HEADER)), '_CRS') as Buffer;
    const windows: number[][] = [];
    for (let at = 0; resources[at] !== 0x79;) {
      const isLarge = (resources[at]! & 0x80) !== 0;
      if (resources[at] === 0x87) windows.push([10, 14].map((offset) => resources.readUInt32LE(at + offset)));
      at += isLarge ? 3 + resources.readUInt16LE(at + 1) : 1 + (resources[at]! & 7);
    }
    const { start, size } = x86_64Machine.pciMemory;
    expect(windows).toEqual([[start, start + size - 1]]);
  });
});
