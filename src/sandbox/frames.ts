/**
 * The frames between a sandbox and the agent in its guest (src/guest/agent.c): three little-endian 32-bit words (type,
 * run, payload length), then the payload.
 */
import { UsageError } from '../errors.js';

/** Frame types; the agent's `enum frame_type`. */
export const FrameType = {
  start: 1,
  stdinData: 2,
  stdinEnd: 3,
  signal: 4,
  credit: 5,
  resize: 6,
  ready: 16,
  stdoutData: 17,
  stderrData: 18,
  exit: 19,
} as const;

export interface Frame {
  readonly type: number;
  /** Which command it is about; 0 for none. */
  readonly run: number;
  readonly payload: Buffer;
}

/** Bytes of a payload at most. */
export const MAX_PAYLOAD = 32_768;
/** Bytes of a stream that may be on their way, not yet consumed by the receiver. */
export const WINDOW = 262_144;

const HEADER_BYTES = 12;
const TERMINAL = 1;
/** Strings of a START frame at most: folder, arguments and environment. */
const MAX_STRINGS = 4096;

/** What a START frame says. */
export interface StartRequest {
  readonly command: readonly string[];
  readonly folder: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly terminal: TerminalSize | undefined;
}

export interface TerminalSize {
  readonly rows: number;
  readonly columns: number;
}

export function encodeFrame(type: number, run: number, payload: Uint8Array): Buffer {
  const header = words(type, run, payload.length);
  return Buffer.concat([header, payload]);
}

/** Little-endian 32-bit words. */
export function words(...values: number[]): Buffer {
  const buffer = Buffer.alloc(4 * values.length);
  values.forEach((value, index) => buffer.writeUInt32LE(value, 4 * index));
  return buffer;
}

/**
 * The payload of a START frame.
 * @throws {UsageError} if the command is empty, holds a NUL, or is too long
 */
export function encodeStart({ command, folder, environment, terminal }: StartRequest): Buffer {
  const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  const strings = [folder, ...command, ...variables];
  if (command.length === 0 || command[0] === '') throw new UsageError('the command is empty');
  if (strings.some((text) => text.includes('\0'))) throw new UsageError('a command must not hold NUL characters');
  const header = words(
    terminal === undefined ? 0 : TERMINAL,
    terminal?.rows ?? 0,
    terminal?.columns ?? 0,
    command.length,
  );
  const payload = Buffer.concat([header, Buffer.from(strings.map((text) => `${text}\0`).join(''))]);
  if (payload.length > MAX_PAYLOAD || strings.length > MAX_STRINGS) {
    throw new UsageError(`the command and its environment are longer than ${MAX_PAYLOAD} bytes; pass data by stdin`);
  }
  return payload;
}

/** Cuts a stream of bytes into frames. */
export class FrameReader {
  #pending: Buffer = Buffer.alloc(0);

  /**
   * @returns the frames that `chunk` completes
   * @throws {RangeError} for a frame that is too long: the stream is then useless
   */
  push(chunk: Buffer): Frame[] {
    let rest = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    const frames: Frame[] = [];
    while (rest.length >= HEADER_BYTES) {
      const length = rest.readUInt32LE(8);
      if (length > MAX_PAYLOAD) throw new RangeError(`the guest's agent sent a frame of ${length} bytes`);
      if (rest.length < HEADER_BYTES + length) break;
      const payload = rest.subarray(HEADER_BYTES, HEADER_BYTES + length);
      frames.push({ type: rest.readUInt32LE(0), run: rest.readUInt32LE(4), payload });
      rest = rest.subarray(HEADER_BYTES + length);
    }
    this.#pending = rest;
    return frames;
  }
}
