/** What a guest says on its console: handed on, and kept as far as errors tell of it. */
import type { Writable } from 'node:stream';
import { GuestPanicError } from '../errors.js';
import { LineTail } from './lineTail.js';

/** A panic with its registers and call trace has some fifty. */
const LINES = 100;

/** Bytes that wait for who listens, at most: what a guest says beyond that is not handed on, or it would fill our memory. */
const MOST_WAITING = 1 << 20;

/** Lines that are looked for while they pass, however much follows. */
const PANIC = 'Kernel panic';
const COMPLAINT = 'slipway agent: ';

export class GuestConsole {
  readonly #tail = new LineTail(LINES, (line) => this.#look(line));
  #panic: string | undefined;
  #complaint: string | undefined;
  readonly #listener: Writable | undefined;

  /** @param listener where it goes, beside the tail kept for errors */
  constructor(listener?: Writable) {
    this.#listener = listener;
  }

  push(chunk: Buffer): void {
    this.#tail.push(chunk);
    const listener = this.#listener;
    if (listener !== undefined && listener.writableLength + chunk.length <= MOST_WAITING) listener.write(chunk);
  }

  /** The last lines, oldest first. */
  lines(): string[] {
    return this.#tail.lines();
  }

  /** Why the guest's kernel panicked, if it did: what our agent complained of, or the kernel's own words. */
  panic(): GuestPanicError | undefined {
    if (this.#panic === undefined) return undefined;
    return new GuestPanicError(`the guest's kernel panicked: ${this.#complaint ?? this.#panic}`, this.lines());
  }

  #look(line: string): void {
    if (line.includes(PANIC)) this.#panic ??= line;
    else if (line.startsWith(COMPLAINT)) this.#complaint ??= line;
  }
}
