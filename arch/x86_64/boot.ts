/** Loads a kernel and starts it by Linux's 64-bit boot protocol (Documentation/arch/x86/boot.rst): an ELF file at its entry, a bzImage 0x200 behind its start. */
import { readFile } from 'node:fs/promises';
import { MissingPieceError, SlipwayError, describeError } from '../../src/errors.js';
import type { GuestImage, GuestRam } from '../machine.js';
import { acpiTables } from './acpi.js';
import { kernelFormat } from './kernelImage.js';
import { ACPI_TABLES, BOOT_PARAMS, COMMAND_LINE, HIGH_MEMORY, LOW_MEMORY_END } from './memoryMap.js';
import { writeStartTables } from './vcpu.js';

const PAGE = 4096;

/** Fields of struct boot_params (zero page), the set-up header among them. */
const ACPI_RSDP = 0x70;
const E820_ENTRIES = 0x1e8;
const SETUP_HEADER = 0x1f1;
const BOOT_FLAG = 0x1fe;
const HEADER_LENGTH = 0x201;
const MAGIC = 0x202;
const VERSION = 0x206;
const LOADER_TYPE = 0x210;
const RAMDISK_ADDRESS = 0x218;
const RAMDISK_SIZE = 0x21c;
const COMMAND_LINE_ADDRESS = 0x228;
const RAMDISK_MAX = 0x22c;
const RELOCATABLE = 0x234;
const XLOADFLAGS = 0x236;
const COMMAND_LINE_SIZE = 0x238;
const INIT_SIZE = 0x260;
const E820_TABLE = 0x2d0;
const E820_RAM = 1;
const E820_RESERVED = 2;
const MAX_COMMAND_LINE = 2047;
const XLF_KERNEL_64 = 1;
const DEFAULT_RAMDISK_MAX = 0x7fff_ffff;

/** Elf64_Ehdr and Elf64_Phdr (elf(5)). */
const ELF_CLASS_64 = 2;
const MACHINE_X86_64 = 62;
const PT_LOAD = 1;

interface LoadedKernel {
  readonly entry: bigint;
  /** First byte behind it, and what it takes while it starts. */
  readonly end: number;
  /** The initramfs ends before this. */
  readonly ramdiskMax: number;
}

/** @throws {MissingPieceError} for what is no kernel; {SlipwayError} when memory is too small */
export async function loadGuest(ram: GuestRam, image: GuestImage, cpus: number): Promise<bigint> {
  const low = Buffer.from(ram.mappings[0]!.buffer, ram.mappings[0]!.byteOffset, ram.mappings[0]!.byteLength);
  const format = await kernelFormat(image.kernel);
  const file = await readFile(image.kernel);
  const params = low.subarray(BOOT_PARAMS, BOOT_PARAMS + PAGE);
  const kernel =
    format === 'elf' ? loadElf(low, file, image.kernel, params) : loadBzImage(low, file, image.kernel, params);
  await loadInitramfs(low, image.initramfs, kernel, params);
  writeCommandLine(low, image.commandLine, params);
  acpiTables(cpus).copy(low, ACPI_TABLES);
  params.writeBigUInt64LE(BigInt(ACPI_TABLES), ACPI_RSDP);
  writeMemoryTable(ram, params);
  writeStartTables(low);
  return kernel.entry;
}

function tooSmall(low: Buffer, what: string, needed: number): SlipwayError {
  const have = Math.floor(low.length / 2 ** 20);
  return new SlipwayError(
    `${have} MiB of guest memory are too few: ${what} alone takes all up to ${Math.ceil(needed / 2 ** 20)} MiB`,
  );
}

function loadElf(low: Buffer, file: Buffer, path: string, params: Buffer): LoadedKernel {
  const broken = (why: string): MissingPieceError =>
    new MissingPieceError(`${path} is no kernel that starts here: ${why}`);
  if (file.length < 64 || file[4] !== ELF_CLASS_64 || file.readUInt16LE(18) !== MACHINE_X86_64) {
    throw broken('it is no 64-bit ELF file for x86-64');
  }
  const entry = file.readBigUInt64LE(24);
  const headers = Number(file.readBigUInt64LE(32));
  const size = file.readUInt16LE(54);
  const count = file.readUInt16LE(56);
  if (count === 0 || size < 56 || headers + count * size > file.length) throw broken('it has no program headers');
  let end = 0;
  for (let n = 0; n < count; n++) {
    const header = file.subarray(headers + n * size, headers + (n + 1) * size);
    if (header.readUInt32LE(0) !== PT_LOAD) continue;
    const [offset, , address, fileSize, memorySize] = [8, 16, 24, 32, 40].map((at) =>
      Number(header.readBigUInt64LE(at)),
    ) as [number, number, number, number, number];
    if (offset + fileSize > file.length || fileSize > memorySize) throw broken('it is cut off');
    if (address < HIGH_MEMORY) throw broken(`it wants memory at 0x${address.toString(16)}, below 1 MiB`);
    if (address + memorySize > low.length) throw tooSmall(low, 'the kernel', address + memorySize);
    file.copy(low, address, offset, offset + fileSize);
    end = Math.max(end, address + memorySize);
  }
  if (entry < HIGH_MEMORY || entry >= end) throw broken('its entry lies outside of it');
  params.writeUInt16LE(0xaa55, BOOT_FLAG);
  params.write('HdrS', MAGIC, 'latin1');
  params.writeUInt16LE(0x20c, VERSION);
  params[LOADER_TYPE] = 0xff;
  return { entry, end, ramdiskMax: DEFAULT_RAMDISK_MAX };
}

function loadBzImage(low: Buffer, file: Buffer, path: string, params: Buffer): LoadedKernel {
  const setup = ((file[SETUP_HEADER] || 4) + 1) * 512;
  if (file.length < setup + 0x400) throw new MissingPieceError(`${path} is cut off`);
  const starts64 = file.readUInt16LE(VERSION) >= 0x20c && (file.readUInt16LE(XLOADFLAGS) & XLF_KERNEL_64) !== 0;
  if (!starts64)
    throw new MissingPieceError(`${path} has no 64-bit entry: it is a 32-bit kernel, or older than Linux 3.8`);
  file.copy(params, SETUP_HEADER, SETUP_HEADER, Math.min(MAGIC + file[HEADER_LENGTH]!, 0x290));
  params[LOADER_TYPE] = 0xff;
  const end = HIGH_MEMORY + Math.max(file.length - setup, 0);
  // It unpacks itself to where it prefers to be.
  const preferred = Number(file.readBigUInt64LE(0x258));
  const needed = Math.max(end, (file[RELOCATABLE] === 0 ? HIGH_MEMORY : preferred) + file.readUInt32LE(INIT_SIZE));
  if (needed > low.length) throw tooSmall(low, 'the kernel', needed);
  file.copy(low, HIGH_MEMORY, setup);
  return { entry: BigInt(HIGH_MEMORY + 0x200), end: needed, ramdiskMax: file.readUInt32LE(RAMDISK_MAX) };
}

async function loadInitramfs(
  low: Buffer,
  path: string | undefined,
  kernel: LoadedKernel,
  params: Buffer,
): Promise<void> {
  if (path === undefined) return;
  let content: Buffer;
  try {
    content = await readFile(path);
  } catch (error) {
    throw new MissingPieceError(`cannot read the initramfs ${path} (${describeError(error)})`);
  }
  const top = Math.min(low.length, kernel.ramdiskMax + 1);
  const at = Math.floor((top - content.length) / PAGE) * PAGE;
  if (at < kernel.end) throw tooSmall(low, 'the kernel with its initramfs', kernel.end + content.length);
  content.copy(low, at);
  params.writeUInt32LE(at, RAMDISK_ADDRESS);
  params.writeUInt32LE(content.length, RAMDISK_SIZE);
}

function writeCommandLine(low: Buffer, text: string, params: Buffer): void {
  const bytes = Buffer.from(`${text}\0`);
  if (bytes.length > MAX_COMMAND_LINE + 1) {
    throw new SlipwayError(`the kernel's command line has ${bytes.length - 1} bytes; ${MAX_COMMAND_LINE} fit`);
  }
  bytes.copy(low, COMMAND_LINE);
  params.writeUInt32LE(COMMAND_LINE, COMMAND_LINE_ADDRESS);
  params.writeUInt32LE(bytes.length - 1, COMMAND_LINE_SIZE);
}

/** The "E820" map: address, size, type. */
function writeMemoryTable({ ranges }: GuestRam, params: Buffer): void {
  const [first, ...others] = ranges;
  const entries = [
    { start: 0, size: LOW_MEMORY_END, type: E820_RAM },
    { start: ACPI_TABLES, size: HIGH_MEMORY - ACPI_TABLES, type: E820_RESERVED },
    { start: HIGH_MEMORY, size: first!.size - HIGH_MEMORY, type: E820_RAM },
    ...others.map(({ start, size }) => ({ start, size, type: E820_RAM })),
  ];
  params[E820_ENTRIES] = entries.length;
  entries.forEach(({ start, size, type }, index) => {
    const at = E820_TABLE + 20 * index;
    params.writeBigUInt64LE(BigInt(start), at);
    params.writeBigUInt64LE(BigInt(size), at + 8);
    params.writeUInt32LE(type, at + 16);
  });
}
