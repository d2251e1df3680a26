/** Keeps the last lines of a stream of text. */

/** Characters of a line that are kept; a guest may write without end. */
const MAX_LINE = 1024;

export class LineTail {
  readonly #lines: string[] = [];
  #unfinished = '';

  /**
   * @param limit lines kept
   * @param passing gets each line once it is whole, as it is kept
   */
  constructor(
    private readonly limit: number,
    private readonly passing: (line: string) => void = () => {},
  ) {}

  push(chunk: Buffer): void {
    const parts = (this.#unfinished + chunk.toString('latin1')).split('\n');
    this.#unfinished = (parts.pop() ?? '').slice(-MAX_LINE);
    for (const line of parts.map(clean)) {
      this.#lines.push(line);
      this.passing(line);
    }
    this.#lines.splice(0, this.#lines.length - this.limit);
  }

  /** Oldest first, without empty ones. */
  lines(): string[] {
    return [...this.#lines, clean(this.#unfinished)].filter((line) => line !== '');
  }
}

/** Without control characters and the sequences that one of them (ESC) begins: they are for terminals. */
function clean(line: string): string {
  return line
    .replaceAll(/\p{Cc}\[[0-9;?]*[A-Za-z]/gu, '')
    .replaceAll(/\p{Cc}/gu, '')
    .slice(0, MAX_LINE)
    .trimEnd();
}
