/** A log that whoever is on the other side of a socket can't fill: so many warnings in a while, then how many were left out. */
import type { VhostUserLog } from './session.js';

const LINES = 100;
const WINDOW_MS = 10_000;

export class LimitedLog implements VhostUserLog {
  private left = LINES;
  private omitted = 0;
  private windowEnd = 0;

  /** @param now the time in ms */
  constructor(
    private readonly log: VhostUserLog,
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
      if (this.omitted > 0) this.log.warn(`vhost-user: ${this.omitted} warnings were left out`);
      this.left = LINES;
      this.omitted = 0;
      this.windowEnd = now + WINDOW_MS;
    }
    if (this.left > 0) {
      this.left--;
      return true;
    }
    if (this.omitted++ === 0)
      this.log.warn(`vhost-user: more warnings than ${LINES} in ${WINDOW_MS / 1000} s are left out`);
    return false;
  }
}
