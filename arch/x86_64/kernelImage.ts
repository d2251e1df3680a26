/** Linux kernel images of x86: the bzImage container and the ELF file inside. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { open, readFile, writeFile } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { gunzipSync } from 'node:zlib';
import { MissingPieceError } from '../../src/errors.js';

/** Offsets in a bzImage, from Documentation/arch/x86/boot.rst. */
const SETUP_SECTS = 0x1f1;
const HEADER_MAGIC = 0x202;
const KERNEL_VERSION = 0x20e;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;

const ELF_MAGIC = Buffer.from('\x7fELF', 'latin1');

/** Compressed payloads by their first bytes, and who unpacks them. The kernel's build appends the unpacked size, 4 bytes, to all but gzip. */
const DECOMPRESSORS: readonly { magic: Buffer; program: string }[] = [
  { magic: Buffer.from('02214c18', 'hex'), program: 'lz4' },
  { magic: Buffer.from('28b52ffd', 'hex'), program: 'zstd' },
  { magic: Buffer.from('fd377a585a00', 'hex'), program: 'xz' },
];
const GZIP_MAGIC = Buffer.from('1f8b', 'hex');
const SIZE_SUFFIX = 4;

export type KernelFormat = 'elf' | 'bzImage';

/**
 * What kind of kernel a file is.
 * @throws {MissingPieceError} if it can't be read or is none
 */
export async function kernelFormat(path: string): Promise<KernelFormat> {
  const head = await readStart(path, 0x210);
  if (head.subarray(0, 4).equals(ELF_MAGIC)) return 'elf';
  if (head.toString('latin1', HEADER_MAGIC, HEADER_MAGIC + 4) === 'HdrS') return 'bzImage';
  throw new MissingPieceError(`${path} is no Linux kernel for x86 (neither a bzImage nor an ELF file)`);
}

/** The release (`uname -r`) that a bzImage names in its header; undefined if it names none. */
export async function bzImageRelease(path: string): Promise<string | undefined> {
  const head = await readStart(path, 0x8000);
  const at = head.readUInt16LE(KERNEL_VERSION) + 0x200;
  return /^[\w.+~-]+/.exec(head.toString('latin1', at, at + 128))?.[0];
}

/** The release of an ELF kernel, from its banner; undefined if it has none. */
export async function elfRelease(path: string): Promise<string | undefined> {
  const image = await readFile(path);
  for (let at = image.indexOf('Linux version '); at >= 0; at = image.indexOf('Linux version ', at + 1)) {
    const release = /^Linux version (\d+\.[\w.+~-]+)/.exec(image.toString('latin1', at, at + 128))?.[1];
    if (release !== undefined) return release;
  }
  return undefined;
}

/**
 * Writes the ELF kernel out of a bzImage.
 * @returns false if it is packed in a way that nothing installed here unpacks
 * @throws {MissingPieceError} if the image is broken
 */
export async function extractVmlinux(bzImage: string, target: string): Promise<boolean> {
  const payload = payloadOf(await readFile(bzImage), bzImage);
  if (payload.subarray(0, 2).equals(GZIP_MAGIC)) {
    await writeFile(target, gunzipSync(payload));
    return true;
  }
  const decompressor = DECOMPRESSORS.find(({ magic }) => payload.subarray(0, magic.length).equals(magic));
  if (decompressor === undefined) return false;
  if (!(await unpack(decompressor.program, payload.subarray(0, -SIZE_SUFFIX), target))) return false;
  if ((await kernelFormat(target)) !== 'elf') throw new MissingPieceError(`${bzImage} holds no ELF kernel`);
  return true;
}

function payloadOf(image: Buffer, path: string): Buffer {
  const protectedMode = ((image[SETUP_SECTS] || 4) + 1) * 512;
  const start = protectedMode + image.readUInt32LE(PAYLOAD_OFFSET);
  const end = start + image.readUInt32LE(PAYLOAD_LENGTH);
  if (end > image.length || end - start < 16) throw new MissingPieceError(`${path} is cut off`);
  return image.subarray(start, end);
}

/** @returns false if the program isn't installed, or can't make sense of it */
async function unpack(program: string, packed: Buffer, target: string): Promise<boolean> {
  const child = spawn(program, ['-dc'], { stdio: ['pipe', 'pipe', 'ignore'] });
  // A program that gives up early makes itself known by its exit code, not by this pipe.
  child.stdin.on('error', () => {});
  child.stdin.end(packed);
  try {
    await Promise.all([once(child, 'close'), pipeline(child.stdout, createWriteStream(target))]);
  } catch {
    return false;
  }
  return child.exitCode === 0;
}

async function readStart(path: string, length: number): Promise<Buffer> {
  try {
    await using file = await open(path);
    const buffer = Buffer.alloc(length);
    await file.read(buffer, 0, length, 0);
    return buffer;
  } catch (error) {
    throw new MissingPieceError(`cannot read the kernel ${path} (${error instanceof Error ? error.message : ''})`);
  }
}
