/** Linux kernel images of x86: the bzImage container and the ELF file inside. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { Transform, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { MissingPieceError, describeError } from '../../src/errors.js';
import { ImageFile } from './imageFile.js';

/** Offsets in a bzImage, from Documentation/arch/x86/boot.rst. */
const SETUP_SECTS = 0x1f1;
const HEADER_MAGIC = 0x202;
const KERNEL_VERSION = 0x20e;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const HEADER_END = 0x250;

const ELF_MAGIC = Buffer.from('\x7fELF', 'latin1');
const BANNER = 'Linux version ';
/** What is looked at behind a banner. */
const BANNER_BYTES = 128;

/** Compressed payloads by their first bytes, and who unpacks them. The kernel's build appends the unpacked size, 4 bytes, to all but gzip. */
const DECOMPRESSORS: readonly { magic: Buffer; program: string }[] = [
  { magic: Buffer.from('02214c18', 'hex'), program: 'lz4' },
  { magic: Buffer.from('28b52ffd', 'hex'), program: 'zstd' },
  { magic: Buffer.from('fd377a585a00', 'hex'), program: 'xz' },
];
const GZIP_MAGIC = Buffer.from('1f8b', 'hex');
const SIZE_SUFFIX = 4;
const LEAST_PAYLOAD = 16;
/** No kernel is longer; what unpacks to more, or is searched further, is none. */
const LONGEST_KERNEL = 1024 * 1024 * 1024;

export type KernelFormat = 'elf' | 'bzImage';

/**
 * What kind of kernel a file is.
 * @throws {MissingPieceError} if it can't be read or is none
 */
export async function kernelFormat(path: string): Promise<KernelFormat> {
  await using file = await ImageFile.open(path, 'kernel');
  const head = await file.start(HEADER_END);
  if (head.subarray(0, 4).equals(ELF_MAGIC)) return 'elf';
  if (head.toString('latin1', HEADER_MAGIC, HEADER_MAGIC + 4) !== 'HdrS')
    throw new MissingPieceError(`${path} is no Linux kernel for x86 (neither a bzImage nor an ELF file)`);
  if (head.length < HEADER_END) throw new MissingPieceError(`${path} is cut off`);
  return 'bzImage';
}

/** The release (`uname -r`) that a bzImage names in its header; undefined if it names none. */
export async function bzImageRelease(path: string): Promise<string | undefined> {
  await using file = await ImageFile.open(path, 'kernel');
  const head = await file.start(0x200 + 0xffff + BANNER_BYTES);
  if (head.length < HEADER_END) return undefined;
  const at = head.readUInt16LE(KERNEL_VERSION) + 0x200;
  return /^[\w.+~-]+/.exec(head.toString('latin1', at, at + BANNER_BYTES))?.[0];
}

/** The release of an ELF kernel, from its banner; undefined if it has none. */
export async function elfRelease(path: string): Promise<string | undefined> {
  let kept = Buffer.alloc(0);
  for await (const chunk of createReadStream(path, { end: LONGEST_KERNEL - 1, highWaterMark: 1024 * 1024 })) {
    const piece = Buffer.concat([kept, chunk as Buffer]);
    const release = releaseIn(piece);
    if (release !== undefined) return release;
    // A banner may lie across the pieces.
    kept = piece.subarray(-BANNER_BYTES);
  }
  return undefined;
}

/** A banner that names its release to the end. */
function releaseIn(piece: Buffer): string | undefined {
  for (let at = piece.indexOf(BANNER); at >= 0; at = piece.indexOf(BANNER, at + 1)) {
    const release = /^Linux version (\d+\.[\w.+~-]+)[^\w.+~-]/.exec(
      piece.toString('latin1', at, at + BANNER_BYTES),
    )?.[1];
    if (release !== undefined) return release;
  }
  return undefined;
}

/**
 * Writes the ELF kernel out of a bzImage.
 * @param longest bytes that it may unpack to
 * @returns false if it is packed in a way that nothing installed here unpacks
 * @throws {MissingPieceError} if the image is broken
 */
export async function extractVmlinux(bzImage: string, target: string, longest = LONGEST_KERNEL): Promise<boolean> {
  const { start, length, magic } = await payloadOf(bzImage);
  const payload = (bytes: number) => createReadStream(bzImage, { start, end: start + bytes - 1 });
  if (magic.subarray(0, GZIP_MAGIC.length).equals(GZIP_MAGIC)) {
    try {
      await pipeline(payload(length), createGunzip(), limitTo(bzImage, longest), createWriteStream(target));
    } catch (error) {
      if (error instanceof MissingPieceError) throw error;
      throw new MissingPieceError(`${bzImage} can't be unpacked (${describeError(error)})`);
    }
  } else {
    const decompressor = DECOMPRESSORS.find((known) => magic.subarray(0, known.magic.length).equals(known.magic));
    if (decompressor === undefined) return false;
    if (!(await unpack(decompressor.program, payload(length - SIZE_SUFFIX), limitTo(bzImage, longest), target)))
      return false;
  }
  if ((await kernelFormat(target)) !== 'elf') throw new MissingPieceError(`${bzImage} holds no ELF kernel`);
  return true;
}

async function payloadOf(path: string): Promise<{ start: number; length: number; magic: Buffer }> {
  await using file = await ImageFile.open(path, 'kernel');
  const head = await file.start(HEADER_END);
  if (head.length < HEADER_END) throw new MissingPieceError(`${path} is cut off`);
  const protectedMode = ((head[SETUP_SECTS] || 4) + 1) * 512;
  const start = protectedMode + head.readUInt32LE(PAYLOAD_OFFSET);
  const length = head.readUInt32LE(PAYLOAD_LENGTH);
  if (start + length > file.size || length < LEAST_PAYLOAD) throw new MissingPieceError(`${path} is cut off`);
  const magic = Buffer.alloc(8);
  await file.readInto(magic, start);
  return { start, length, magic };
}

/** Ends what unpacks without end. */
function limitTo(path: string, longest: number): Transform {
  let passed = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done): void {
      passed += chunk.length;
      if (passed <= longest) done(null, chunk);
      else done(new MissingPieceError(`${path} unpacks to more than ${longest} bytes: it is no kernel`));
    },
  });
}

/** @returns false if the program isn't installed, or can't make sense of it */
async function unpack(program: string, packed: Readable, limit: Transform, target: string): Promise<boolean> {
  const child = spawn(program, ['-dc'], { stdio: ['pipe', 'pipe', 'ignore'] });
  // A program that gives up early makes itself known by its exit code, not by this pipe.
  pipeline(packed, child.stdin).catch(() => {});
  try {
    await Promise.all([once(child, 'close'), pipeline(child.stdout, limit, createWriteStream(target))]);
  } catch (error) {
    child.kill();
    if (error instanceof MissingPieceError) throw error;
    return false;
  }
  return child.exitCode === 0;
}
