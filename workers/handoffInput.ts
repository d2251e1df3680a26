/** What other workers handed over: their packets, answers to ours, and flows that move. */
import { ATTEMPTED, FLOW, type Handoff, MARK, MARK_BACK } from './handoff.js';
import type { Nat } from './nat/nat.js';
import type { TransmitPath } from './transmitPath.js';

/** Messages of one ring per cycle. */
export const HANDOFF_BUDGET = 256;

export class HandoffInput {
  /** @param worker whose input this is */
  constructor(
    private readonly worker: number,
    private readonly handoff: Handoff,
    private readonly nat: Nat,
    private readonly transmitPath: TransmitPath,
  ) {}

  /** Handles what is there, by budget. Whether there was anything. */
  receive(): boolean {
    const { incoming } = this.handoff;
    let any = false;
    for (let from = 0; from < incoming.length; from++) {
      if (from === this.worker) continue;
      const ring = incoming[from]!;
      for (let n = 0; n < HANDOFF_BUDGET; n++) {
        const at = ring.peek();
        if (at < 0) break;
        any = true;
        this.message(from, ring.data, at);
        ring.release();
        if (this.handoff.marked) this.rehomeMarked();
      }
    }
    this.nat.flush();
    return any;
  }

  private rehomeMarked(): void {
    this.nat.flush();
    this.handoff.rehomeMarked();
  }

  private message(from: number, data: Int32Array, at: number): void {
    const kind = data[at]!;
    if (kind === FLOW) this.handoff.install(from, data, at);
    else if (kind === MARK) this.handoff.markBack(from, data[at + 1]!, data[at + 2]!);
    else if (kind === MARK_BACK) this.handoff.markCameBack(data[at + 1]!, data[at + 2]!);
    else {
      const deadly = data[at + ATTEMPTED]! !== 0;
      data[at + ATTEMPTED] = 1;
      this.transmitPath.handed(kind, from, data[at + 1]!, data[at + 2]!, data[at + 3]!, deadly);
    }
  }
}
