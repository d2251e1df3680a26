/** A kernel as an ELF file (elf(5)), put where its program headers say. */
import { MissingPieceError } from '../../src/errors.js';
import type { ImageFile } from './imageFile.js';
import { tooSmall } from './loadedKernel.js';
import { HIGH_MEMORY } from './memoryMap.js';

/** Elf64_Ehdr and Elf64_Phdr. */
const HEADER_BYTES = 64;
const CLASS = 4;
const CLASS_64 = 2;
const DATA = 5;
const DATA_LITTLE_ENDIAN = 1;
const MACHINE = 18;
const MACHINE_X86_64 = 62;
const ENTRY = 24;
const PROGRAM_HEADERS = 32;
const PROGRAM_HEADER_SIZE = 54;
const PROGRAM_HEADER_COUNT = 56;
const PROGRAM_HEADER_BYTES = 56;
const PT_LOAD = 1;

/** PT_LOAD: `fileSize` bytes of the file at `offset` go to `address`, zeroes behind them up to `memorySize`. */
interface Segment {
  readonly offset: number;
  readonly fileSize: number;
  readonly address: number;
  readonly memorySize: number;
}

/**
 * @param low memory from address 0 on
 * @returns where it starts, and the first byte behind it
 * @throws {MissingPieceError} if it is none that starts here; {SlipwayError} if memory is too small
 */
export async function loadElf(low: Buffer, file: ImageFile): Promise<{ entry: bigint; end: number }> {
  const broken = (why: string): MissingPieceError =>
    new MissingPieceError(`${file.path} is no kernel that starts here: ${why}`);
  const header = await file.start(HEADER_BYTES);
  const isOurs =
    header.length === HEADER_BYTES &&
    header[CLASS] === CLASS_64 &&
    header[DATA] === DATA_LITTLE_ENDIAN &&
    header.readUInt16LE(MACHINE) === MACHINE_X86_64;
  if (!isOurs) throw broken('it is no 64-bit ELF file for x86-64');
  const segments = (await readSegments(file, header, broken)).toSorted((a, b) => a.address - b.address);
  let end = HIGH_MEMORY;
  for (const { offset, fileSize, address, memorySize } of segments) {
    if (offset + fileSize > file.size || fileSize > memorySize) throw broken('it is cut off');
    if (address < HIGH_MEMORY) throw broken(`it wants memory at 0x${address.toString(16)}, below 1 MiB`);
    if (address + memorySize > low.length) throw tooSmall(low, 'the kernel', address + memorySize);
    if (address < end) throw broken('its segments overlap');
    end = address + memorySize;
  }
  const entry = header.readBigUInt64LE(ENTRY);
  if (!segments.some(({ address, memorySize }) => entry >= address && entry < address + memorySize)) {
    throw broken('its entry lies outside of it');
  }
  for (const { offset, fileSize, address } of segments) {
    await file.readInto(low.subarray(address, address + fileSize), offset);
  }
  return { entry, end };
}

async function readSegments(
  file: ImageFile,
  header: Buffer,
  broken: (why: string) => MissingPieceError,
): Promise<Segment[]> {
  const at = Number(header.readBigUInt64LE(PROGRAM_HEADERS));
  const count = header.readUInt16LE(PROGRAM_HEADER_COUNT);
  const size = count * PROGRAM_HEADER_BYTES;
  const isThere = header.readUInt16LE(PROGRAM_HEADER_SIZE) === PROGRAM_HEADER_BYTES && at + size <= file.size;
  if (count === 0 || !isThere) throw broken('it has no program headers');
  const table = Buffer.alloc(size);
  await file.readInto(table, at);
  const segments: Segment[] = [];
  for (let from = 0; from < size; from += PROGRAM_HEADER_BYTES) {
    const number = (offset: number): number => Number(table.readBigUInt64LE(from + offset));
    const memorySize = number(40);
    if (table.readUInt32LE(from) !== PT_LOAD || memorySize === 0) continue;
    segments.push({ offset: number(8), fileSize: number(32), address: number(24), memorySize });
  }
  return segments;
}
