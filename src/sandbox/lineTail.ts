/** Keeps the last lines of a stream of text. */

/** Characters of a line that are kept; a guest may write without end. */
const MAX_LINE = 1024;

export class LineTail {
  readonly #lines: string[] = [];
  #unfinished = '';

  /** @param limit lines kept */
  constructor(private readonly limit: number) {}

  push(chunk: Buffer): void {
    const parts = (this.#unfinished + chunk.toString('latin1')).split('\n');
    this.#unfinished = (parts.pop() ?? '').slice(-MAX_LINE);
    for (const part of parts) this.#lines.push(clean(part));
    this.#lines.splice(0, this.#lines.length - this.limit);
  }

  /** Oldest first, without empty ones. */
  lines(): string[] {
    return [...this.#lines, clean(this.#unfinished)].filter((line) => line !== '');
  }
}

/** Without control characters: they are for terminals. */
function clean(line: string): string {
  return line
    .replaceAll(/\x1b\[[0-9;?]*[A-Za-z]/g, '')
    .replaceAll(/[\x00-\x08\x0b-\x1f\x7f]/g, '')
    .slice(0, MAX_LINE)
    .trimEnd();
}
