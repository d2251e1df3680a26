/** What a guest says on its console, as far as errors tell of it. */
import { GuestPanicError } from '../errors.js';
import { LineTail } from './lineTail.js';

/** A panic with its registers and call trace has some fifty. */
const LINES = 100;

/** Lines that are looked for while they pass, however much follows. */
const PANIC = 'Kernel panic';
const COMPLAINT = 'slipway agent: ';

export class GuestConsole {
  readonly #tail = new LineTail(LINES, (line) => this.#look(line));
  #panic: string | undefined;
  #complaint: string | undefined;

  push(chunk: Buffer): void {
    this.#tail.push(chunk);
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
