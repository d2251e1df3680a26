/** Where things lie in a guest's physical memory on x86. */
import type { AddressRange } from '../machine.js';

const GIB = 1024 * 1024 * 1024;

/** Read at the start of a kernel, below 640 KiB. */
export const GDT = 0x500;
export const BOOT_PARAMS = 0x7000;
export const STACK = 0x8ff0;
/** Six pages: PML4, PDPT, and four page directories that map 4 GiB one to one. */
export const PAGE_TABLES = 0x9000;
export const COMMAND_LINE = 0x20000;
/** Ends the memory that software may use below 1 MiB. */
export const LOW_MEMORY_END = 0x9fc00;
/** Where ACPI's root pointer is looked for (ACPI 6.4 §5.2.5.1). */
export const ACPI_TABLES = 0xe0000;
export const HIGH_MEMORY = 0x10_0000;

/** Device memory: PCI registers, I/O APIC, local APICs, and what KVM needs for itself on Intel. */
export const HOLE_START = 3 * GIB;
export const HOLE_END = 4 * GIB;
export const PCI_MEMORY: AddressRange = { start: HOLE_START, size: 0xfec0_0000 - HOLE_START };
export const IO_APIC = 0xfec0_0000;
export const LOCAL_APIC = 0xfee0_0000;
export const IDENTITY_MAP = 0xfffb_c000;
export const TSS = 0xfffb_d000;

/** Ports of the power management registers (ACPI 6.4 §4.8.3), where nothing else is. */
export const PM_EVENT = 0x600;
export const PM_CONTROL = 0x604;
export const RESET_PORT = 0xcf9;
export const RESET_VALUE = 6;
/** The ACPI interrupt, which nothing here raises. */
export const SCI = 9;

/**
 * GSIs of slots' INTx: pins that nothing on the ISA bus has, of the I/O APIC and of the 8259s alike. So the number that a
 * slot's Interrupt Line register and ACPI name is right whichever of the two an operating system uses.
 */
const LINE_GSIS = [5, 10, 11, 12] as const;

export function lineGsi(slot: number): number {
  return LINE_GSIS[slot % LINE_GSIS.length]!;
}

/** The longest piece that one mapping holds. */
const WINDOW = 4 * GIB;

/** Memory below the hole, and what doesn't fit there above 4 GiB. */
export function memoryRanges(bytes: number): AddressRange[] {
  const ranges: AddressRange[] = [{ start: 0, size: Math.min(bytes, HOLE_START) }];
  for (let left = bytes - HOLE_START, start = HOLE_END; left > 0; left -= WINDOW, start += WINDOW) {
    ranges.push({ start, size: Math.min(left, WINDOW) });
  }
  return ranges;
}
