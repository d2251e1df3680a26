/** A kernel or an initramfs on disk, read piece by piece: nothing is allocated because a file says so. */
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { MissingPieceError, describeError } from '../../src/errors.js';

/** What one call of read(2) takes on Linux, in whole pages. */
const LONGEST_READ = 0x7fff_f000;

export class ImageFile implements AsyncDisposable {
  private constructor(
    readonly path: string,
    readonly size: number,
    private readonly handle: FileHandle,
  ) {}

  /**
   * @param what the file is to be, for the error
   * @throws {MissingPieceError} if it can't be opened, or is a folder, pipe or device
   */
  static async open(path: string, what: string): Promise<ImageFile> {
    let handle: FileHandle | undefined;
    try {
      // Opening a pipe that nobody writes to would wait for ever.
      handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
      const status = await handle.stat();
      if (!status.isFile()) throw new Error('it is no regular file');
      return new ImageFile(path, status.size, handle);
    } catch (error) {
      await handle?.close();
      throw new MissingPieceError(`cannot read the ${what} ${path} (${describeError(error)})`);
    }
  }

  /** Fills `target` with the bytes from `at` on. @throws {MissingPieceError} if the file ends before */
  async readInto(target: Uint8Array, at: number): Promise<void> {
    if (at + target.length > this.size) throw new MissingPieceError(`${this.path} is cut off`);
    for (let done = 0; done < target.length;) {
      const length = Math.min(target.length - done, LONGEST_READ);
      const { bytesRead } = await this.handle.read(target.subarray(done, done + length), 0, length, at + done);
      if (bytesRead === 0) throw new MissingPieceError(`${this.path} was cut off while it was read`);
      done += bytesRead;
    }
  }

  /** The first bytes, as many as there are up to `length`. */
  async start(length: number): Promise<Buffer> {
    const buffer = Buffer.alloc(Math.min(length, this.size));
    await this.readInto(buffer, 0);
    return buffer;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.handle.close();
  }
}
