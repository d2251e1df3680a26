/**
 * The ACPI tables of a machine (ACPI 6.4 §5.2): RSDP, XSDT, FADT, MADT, DSDT. ACPI rather than MP tables (Intel MP 1.4):
 * they tell interrupts of PCI slots too, but know no power-off and no more than 255 APIC ids, and kernels drop them.
 *
 * It is no hardware-reduced ACPI: that would take PIC and PIT from Linux, which KVM gives it.
 */
import * as aml from './aml.js';
import {
  ACPI_TABLES,
  IO_APIC,
  LOCAL_APIC,
  PCI_MEMORY,
  PM_CONTROL,
  PM_EVENT,
  RESET_PORT,
  RESET_VALUE,
  SCI,
  lineGsi,
} from './memoryMap.js';

const SYSTEM_IO = 1;

const HEADER = 36;
const RSDP = 36;
const PCI_SLOTS = 32;

/** SLP_TYP of the state S5, which the guest writes to power off; the number is ours to choose. */
export const SLEEP_TYPE_OFF = 5;

/** FADT flags (table 5.10): WBINVD works, C1 works, no power and no sleep button, reset register, APIC-flat not forced. */
const FADT_FLAGS = 0x1 | 0x4 | 0x10 | 0x20 | 0x400;
/** Boot flags (table 5.11): no VGA, no CMOS clock; and no 8042, which the bit not set says. */
const BOOT_ARCH = 0x4 | 0x20;

/** The tables as they lie from ACPI_TABLES on; the root pointer comes first. */
export function acpiTables(cpus: number): Buffer {
  const dsdtAt = ACPI_TABLES + align(RSDP);
  const dsdt = table('DSDT', 2, dsdtBody());
  const fadtAt = dsdtAt + align(dsdt.length);
  const fadt = table('FACP', 6, fadtBody(dsdtAt));
  const madtAt = fadtAt + align(fadt.length);
  const madt = table('APIC', 5, madtBody(cpus));
  const xsdtAt = madtAt + align(madt.length);
  const pointers = Buffer.alloc(16);
  pointers.writeBigUInt64LE(BigInt(fadtAt), 0);
  pointers.writeBigUInt64LE(BigInt(madtAt), 8);
  const xsdt = table('XSDT', 1, pointers);
  const parts = [rootPointer(xsdtAt), dsdt, fadt, madt, xsdt];
  return Buffer.concat(parts.map((part) => Buffer.concat([part, Buffer.alloc(align(part.length) - part.length)])));
}

function align(length: number): number {
  return (length + 15) & ~15;
}

/** All bytes of a range add up to 0 with the one at `at`. */
function setChecksum(buffer: Buffer, at: number, length: number): void {
  buffer[at] = 0;
  buffer[at] = -buffer.subarray(0, length).reduce((sum, byte) => sum + byte, 0) & 0xff;
}

function table(signature: string, revision: number, body: Buffer): Buffer {
  const header = Buffer.alloc(HEADER);
  header.write(signature, 0, 'latin1');
  header.writeUInt32LE(HEADER + body.length, 4);
  header[8] = revision;
  header.write('SLIPWYSLIPWAY ', 10, 'latin1');
  header.writeUInt32LE(1, 24);
  header.write('SLIP', 28, 'latin1');
  header.writeUInt32LE(1, 32);
  const whole = Buffer.concat([header, body]);
  setChecksum(whole, 9, whole.length);
  return whole;
}

/** §5.2.5.3. */
function rootPointer(xsdt: number): Buffer {
  const pointer = Buffer.alloc(RSDP);
  pointer.write('RSD PTR ', 0, 'latin1');
  pointer.write('SLIPWY', 9, 'latin1');
  pointer[15] = 2;
  pointer.writeUInt32LE(RSDP, 20);
  pointer.writeBigUInt64LE(BigInt(xsdt), 24);
  setChecksum(pointer, 8, 20);
  setChecksum(pointer, 32, RSDP);
  return pointer;
}

/** §5.2.3.2: a register's place. */
function writeAddress(buffer: Buffer, at: number, space: number, bits: number, address: number): void {
  buffer[at] = space;
  buffer[at + 1] = bits;
  buffer[at + 3] = bits === 8 ? 1 : bits === 16 ? 2 : 3;
  buffer.writeBigUInt64LE(BigInt(address), at + 4);
}

/** §5.2.9; offsets are the whole table's less the header's 36. */
function fadtBody(dsdt: number): Buffer {
  const body = Buffer.alloc(276 - HEADER);
  const at = (offset: number): number => offset - HEADER;
  body.writeUInt32LE(dsdt, at(40));
  body.writeUInt16LE(SCI, at(46));
  body.writeUInt32LE(PM_EVENT, at(56));
  body.writeUInt32LE(PM_CONTROL, at(64));
  body[at(88)] = 4;
  body[at(89)] = 2;
  // Latencies beyond these mean that C2 and C3 aren't there.
  body.writeUInt16LE(101, at(96));
  body.writeUInt16LE(1001, at(98));
  body.writeUInt16LE(BOOT_ARCH, at(109));
  body.writeUInt32LE(FADT_FLAGS, at(112));
  writeAddress(body, at(116), SYSTEM_IO, 8, RESET_PORT);
  body[at(128)] = RESET_VALUE;
  body[at(131)] = 4;
  body.writeBigUInt64LE(BigInt(dsdt), at(140));
  writeAddress(body, at(148), SYSTEM_IO, 32, PM_EVENT);
  writeAddress(body, at(172), SYSTEM_IO, 16, PM_CONTROL);
  return body;
}

/** §5.2.12: a local APIC for each vCPU, and the I/O APIC, whose first pins are the ISA bus's. */
function madtBody(cpus: number): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(LOCAL_APIC, 0);
  // There is a pair of 8259s.
  head.writeUInt32LE(1, 4);
  const locals = Array.from({ length: cpus }, (_, id) => Buffer.from([0, 8, id, id, 1, 0, 0, 0]));
  const ioApic = Buffer.from([1, 12, cpus, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  ioApic.writeUInt32LE(IO_APIC, 4);
  return Buffer.concat([head, ...locals, ioApic]);
}

function dsdtBody(): Buffer {
  const lines = Array.from({ length: PCI_SLOTS - 1 }, (_, n) => {
    const slot = n + 1;
    const line = aml.integer(lineGsi(slot));
    return aml.packageOf(aml.integer(slot * 0x1_0000 + 0xffff), aml.integer(0), aml.integer(0), line);
  });
  const bridge = aml.device(
    'PCI0',
    aml.name('_HID', aml.eisaId('PNP0A03')),
    aml.name('_UID', aml.integer(0)),
    aml.name(
      '_CRS',
      aml.resources(
        aml.addressWindow('bus', 0, 0),
        aml.ports(0xcf8, 8),
        aml.addressWindow('io', 0x0d00, 0xffff),
        aml.addressWindow('memory', PCI_MEMORY.start, PCI_MEMORY.start + PCI_MEMORY.size - 1),
      ),
    ),
    aml.name('_PRT', aml.packageOf(...lines)),
  );
  const off = aml.integer(SLEEP_TYPE_OFF);
  return Buffer.concat([
    aml.scope('\\_SB_', bridge),
    aml.name('\\_S5_', aml.packageOf(off, off, aml.integer(0), aml.integer(0))),
  ]);
}
