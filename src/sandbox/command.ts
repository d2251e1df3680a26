/** A command that runs in a guest, as the host sees it. */
import { Readable } from 'node:stream';
import type { Writable } from 'node:stream';
import { SandboxError } from '../errors.js';
import { Deferred } from './deferred.js';
import { FrameType, words } from './frames.js';
import type { Frame } from './frames.js';
import { StdinPump } from './stdinPump.js';

export interface CommandResult {
  /** The command's, or 128 + the signal that ended it; 126 or 127 if it couldn't be started. */
  readonly exitCode: number;
  /** What it wrote, as UTF-8; empty for a stream that was given to `run`. Give a stream for bytes that are no text. */
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandStreams {
  /** Bytes or text for its standard input, or where to read them; nothing if left out. */
  readonly stdin?: Readable | Uint8Array | string | undefined;
  /** Where its output goes; collected into the result if left out. Neither is ended. */
  readonly stdout?: Writable | undefined;
  readonly stderr?: Writable | undefined;
}

/** Sends one frame about this command. */
export type SendFrame = (type: number, payload: Uint8Array) => void;

/** One of the two output streams. */
class Output {
  readonly #chunks: Buffer[] = [];
  #unwritten = 0;
  #whenWritten: (() => void) | undefined;

  constructor(
    private readonly target: Writable | undefined,
    private readonly consumed: (bytes: number) => void,
  ) {}

  write(payload: Buffer): void {
    if (this.target === undefined) {
      this.#chunks.push(payload);
      this.consumed(payload.length);
      return;
    }
    this.#unwritten += 1;
    // A target that fails (a closed pipe) swallows the rest: the command itself goes on.
    this.target.write(payload, () => {
      this.#unwritten -= 1;
      this.consumed(payload.length);
      if (this.#unwritten === 0) this.#whenWritten?.();
    });
  }

  /** Resolves once all is written. */
  async text(): Promise<string> {
    if (this.#unwritten > 0) await new Promise<void>((resolve) => (this.#whenWritten = resolve));
    return Buffer.concat(this.#chunks).toString('utf8');
  }
}

export class Command {
  /** Resolves when the command has ended and its output is written; rejects if the guest goes first. */
  readonly result: Promise<CommandResult>;
  readonly #outcome = new Deferred<CommandResult>();
  readonly #stdout: Output;
  readonly #stderr: Output;
  readonly #stdin: StdinPump | undefined;
  #over = false;

  constructor(
    streams: CommandStreams,
    private readonly send: SendFrame,
  ) {
    this.result = this.#outcome.promise;
    this.#stdout = new Output(streams.stdout, this.#credit(1));
    this.#stderr = new Output(streams.stderr, this.#credit(2));
    const { stdin } = streams;
    if (stdin === undefined) {
      send(FrameType.stdinEnd, words());
    } else {
      const source = stdin instanceof Readable ? stdin : Readable.from([Buffer.from(stdin)]);
      const data = (chunk: Buffer): void => send(FrameType.stdinData, chunk);
      this.#stdin = new StdinPump(source, { data, end: () => send(FrameType.stdinEnd, words()) });
    }
  }

  /** Sends a signal (its number) to the command and its children. */
  kill(signal: number): void {
    this.send(FrameType.signal, words(signal));
  }

  resize(rows: number, columns: number): void {
    this.send(FrameType.resize, words(rows, columns));
  }

  /** @returns whether the command has ended */
  handle({ type, payload }: Frame): boolean {
    if (type === FrameType.stdoutData) this.#stdout.write(payload);
    else if (type === FrameType.stderrData) this.#stderr.write(payload);
    else if (type === FrameType.credit) this.#stdin?.credit(payload.readUInt32LE(4));
    else if (type === FrameType.exit) void this.#finish(payload.readUInt32LE(0));
    else throw new SandboxError(`the guest's agent sent a frame of unknown type ${type}`);
    return this.#over;
  }

  fail(error: Error): void {
    this.#over = true;
    this.#stdin?.stop();
    this.#outcome.reject(error);
  }

  async #finish(exitCode: number): Promise<void> {
    this.#over = true;
    this.#stdin?.stop();
    const [stdout, stderr] = await Promise.all([this.#stdout.text(), this.#stderr.text()]);
    this.#outcome.resolve({ exitCode, stdout, stderr });
  }

  #credit(stream: number): (bytes: number) => void {
    return (bytes) => {
      if (!this.#over) this.send(FrameType.credit, words(stream, bytes));
    };
  }
}
