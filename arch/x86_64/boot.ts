/** Loads a kernel and starts it by Linux's 64-bit boot protocol (Documentation/arch/x86/boot.rst): an ELF file at its entry, a bzImage 0x200 behind its start. */
import { MissingPieceError, SlipwayError, UsageError } from '../../src/errors.js';
import type { GuestImage, GuestRam } from '../machine.js';
import { acpiTables } from './acpi.js';
import { loadElf } from './elfKernel.js';
import { ImageFile } from './imageFile.js';
import { kernelFormat } from './kernelImage.js';
import { mebibytes, tooSmall, type LoadedKernel } from './loadedKernel.js';
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
const ALIGNMENT = 0x230;
const RELOCATABLE = 0x234;
const XLOADFLAGS = 0x236;
const COMMAND_LINE_SIZE = 0x238;
const PREFERRED_ADDRESS = 0x258;
const INIT_SIZE = 0x260;
/** Behind the set-up header, wherever it ends, come other fields. */
const SETUP_HEADER_LIMIT = 0x290;
const E820_TABLE = 0x2d0;
const E820_RAM = 1;
const E820_RESERVED = 2;

const VERSION_2_12 = 0x20c;
const UNKNOWN_LOADER = 0xff;
const XLF_KERNEL_64 = 1;
/** The 64-bit entry lies that far behind the start of the protected-mode code. */
const ENTRY_64 = 0x200;
const LEAST_PROTECTED_MODE = 0x400;
/** What Linux's own header says on x86-64. */
const DEFAULT_RAMDISK_MAX = 0x7fff_ffff;
const DEFAULT_COMMAND_LINE_MAX = 2047;
/** What there is room for. */
const LONGEST_COMMAND_LINE = LOW_MEMORY_END - COMMAND_LINE - 1;

/** @throws {MissingPieceError} for what is no kernel; {SlipwayError} when memory is too small */
export async function loadGuest(ram: GuestRam, image: GuestImage, cpus: number): Promise<bigint> {
  const low = Buffer.from(ram.mappings[0]!.buffer, ram.mappings[0]!.byteOffset, ram.mappings[0]!.byteLength);
  const params = low.subarray(BOOT_PARAMS, BOOT_PARAMS + PAGE);
  const load = (await kernelFormat(image.kernel)) === 'elf' ? loadElfKernel : loadBzImage;
  await using file = await ImageFile.open(image.kernel, 'kernel');
  const kernel = await load(low, file, params);
  params[LOADER_TYPE] = UNKNOWN_LOADER;
  await loadInitramfs(low, image.initramfs, kernel, params);
  writeCommandLine(low, image.commandLine, kernel, params);
  acpiTables(cpus).copy(low, ACPI_TABLES);
  params.writeBigUInt64LE(BigInt(ACPI_TABLES), ACPI_RSDP);
  writeMemoryTable(ram, params);
  writeStartTables(low);
  return kernel.entry;
}

/** An ELF file has no set-up header: the loader makes one up. */
async function loadElfKernel(low: Buffer, file: ImageFile, params: Buffer): Promise<LoadedKernel> {
  const loaded = await loadElf(low, file);
  params.writeUInt16LE(0xaa55, BOOT_FLAG);
  params.write('HdrS', MAGIC, 'latin1');
  params.writeUInt16LE(VERSION_2_12, VERSION);
  return { ...loaded, ramdiskMax: DEFAULT_RAMDISK_MAX, commandLineMax: DEFAULT_COMMAND_LINE_MAX };
}

async function loadBzImage(low: Buffer, file: ImageFile, params: Buffer): Promise<LoadedKernel> {
  const head = await file.start(SETUP_HEADER_LIMIT);
  const setup = ((head[SETUP_HEADER] || 4) + 1) * 512;
  const headerEnd = Math.min(MAGIC + head[HEADER_LENGTH]!, SETUP_HEADER_LIMIT);
  if (file.size < setup + LEAST_PROTECTED_MODE) throw new MissingPieceError(`${file.path} is cut off`);
  const starts64 = head.readUInt16LE(VERSION) >= VERSION_2_12 && (head.readUInt16LE(XLOADFLAGS) & XLF_KERNEL_64) !== 0;
  if (!starts64 || headerEnd < INIT_SIZE + 4) {
    throw new MissingPieceError(`${file.path} has no 64-bit entry: it is a 32-bit kernel, or older than Linux 3.8`);
  }
  head.copy(params, SETUP_HEADER, SETUP_HEADER, headerEnd);
  const end = HIGH_MEMORY + file.size - setup;
  const needed = Math.max(end, runtimeStart(head) + head.readUInt32LE(INIT_SIZE));
  if (needed > low.length) throw tooSmall(low, 'the kernel', needed);
  await file.readInto(low.subarray(HIGH_MEMORY, end), setup);
  return {
    entry: BigInt(HIGH_MEMORY + ENTRY_64),
    end: needed,
    ramdiskMax: head.readUInt32LE(RAMDISK_MAX),
    commandLineMax: Math.min(head.readUInt32LE(COMMAND_LINE_SIZE), LONGEST_COMMAND_LINE),
  };
}

/** Where it unpacks itself to: boot.rst, init_size. */
function runtimeStart(head: Buffer): number {
  const preferred = Number(head.readBigUInt64LE(PREFERRED_ADDRESS));
  if (head[RELOCATABLE] === 0) return preferred;
  const alignment = head.readUInt32LE(ALIGNMENT) || 1;
  return Math.ceil(Math.max(HIGH_MEMORY, preferred) / alignment) * alignment;
}

async function loadInitramfs(
  low: Buffer,
  path: string | undefined,
  kernel: LoadedKernel,
  params: Buffer,
): Promise<void> {
  if (path === undefined) return;
  await using file = await ImageFile.open(path, 'initramfs');
  const place = (top: number): number => Math.floor((top - file.size) / PAGE) * PAGE;
  const at = place(Math.min(low.length, kernel.ramdiskMax + 1));
  if (at < kernel.end) {
    if (place(low.length) < kernel.end)
      throw tooSmall(low, 'the kernel with its initramfs', kernel.end + Math.ceil(file.size / PAGE) * PAGE);
    throw new SlipwayError(
      `the initramfs ${path} is too long: the kernel wants it below ${mebibytes(kernel.ramdiskMax)} MiB, ` +
        `where ${Math.max(0, mebibytes(kernel.ramdiskMax) - mebibytes(kernel.end))} MiB are free, and it has ${mebibytes(file.size)}`,
    );
  }
  await file.readInto(low.subarray(at, at + file.size), 0);
  params.writeUInt32LE(at, RAMDISK_ADDRESS);
  params.writeUInt32LE(file.size, RAMDISK_SIZE);
}

function writeCommandLine(low: Buffer, text: string, kernel: LoadedKernel, params: Buffer): void {
  const bytes = Buffer.from(`${text}\0`);
  if (text.includes('\0')) throw new UsageError("the kernel's command line must not hold NUL characters");
  if (bytes.length > kernel.commandLineMax + 1) {
    throw new UsageError(
      `the kernel's command line has ${bytes.length - 1} bytes, and it takes ${kernel.commandLineMax} at most: leave some out`,
    );
  }
  bytes.copy(low, COMMAND_LINE);
  params.writeUInt32LE(COMMAND_LINE, COMMAND_LINE_ADDRESS);
}

/** The "E820" map: address, size, type. Memory above the hole is one piece, in however many mappings. */
function writeMemoryTable({ ranges }: GuestRam, params: Buffer): void {
  const [first, ...others] = ranges;
  const above = others.reduce((sum, { size }) => sum + size, 0);
  const entries = [
    { start: 0, size: LOW_MEMORY_END, type: E820_RAM },
    { start: ACPI_TABLES, size: HIGH_MEMORY - ACPI_TABLES, type: E820_RESERVED },
    { start: HIGH_MEMORY, size: first!.size - HIGH_MEMORY, type: E820_RAM },
    ...others.slice(0, 1).map(({ start }) => ({ start, size: above, type: E820_RAM })),
  ];
  params[E820_ENTRIES] = entries.length;
  entries.forEach(({ start, size, type }, index) => {
    const at = E820_TABLE + 20 * index;
    params.writeBigUInt64LE(BigInt(start), at);
    params.writeBigUInt64LE(BigInt(size), at + 8);
    params.writeUInt32LE(type, at + 16);
  });
}
