/** A log that a guest, or whoever is on the other side of a socket, can't fill: so many warnings in a while, then how many were left out. */

const LINES = 100;
const WINDOW_MS = 10_000;

/** Where a front writes its lines; pino's loggers are such. */
export interface FrontLog {
  info(message: string): void;
  warn(message: string): void;
}

export class LimitedLog implements FrontLog {
  private left = LINES;
  private omitted = 0;
  private windowEnd = 0;

  /**
   * @param who is warned of
   * @param now the time in ms
   */
  constructor(
    private readonly log: FrontLog,
    private readonly who: string,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Not counted: whoever wants to know who comes and goes gets it all. */
  info(message: string): void {
    this.log.info(message);
  }

  warn(message: string): void {
    if (this.admit()) this.log.warn(message);
  }

  private admit(): boolean {
    const now = this.now();
    if (now >= this.windowEnd) {
      if (this.omitted > 0) this.log.warn(`${this.who}: ${this.omitted} warnings were left out`);
      this.left = LINES;
      this.omitted = 0;
      this.windowEnd = now + WINDOW_MS;
    }
    if (this.left > 0) {
      this.left--;
      return true;
    }
    if (this.omitted++ === 0)
      this.log.warn(`${this.who}: more warnings than ${LINES} in ${WINDOW_MS / 1000} s are left out`);
    return false;
  }
}
