/** The flows that want to send, by the queue pair that each sends on; they take turns. A flow is in one list at most. */
import type { QueuePair } from './queuePair.js';

/** What a flow needs to be in a list. */
export interface Queued<Item> {
  /** The queue pair that it sends on. */
  readonly pair: number;
  queued: boolean;
  next: Item | undefined;
}

/** How far a flow came in its turn. */
export const Sent = { DONE: 0, MORE: 1, FULL: 2 } as const;

/** Gives flows their turns. */
export interface Sender<Item> {
  /** Sends something of the flow's. Returns a value of `Sent`: FULL if the queue had no room. */
  output(flow: Item): number;
}

/** Flows served for each queue pair in one turn. */
const SEND_BUDGET = 64;

export class SendLists<Item extends Queued<Item>> {
  private readonly heads: (Item | undefined)[];
  private readonly tails: (Item | undefined)[];

  constructor(
    private readonly pairs: readonly QueuePair[],
    private readonly sender: Sender<Item>,
  ) {
    this.heads = pairs.map(() => undefined);
    this.tails = pairs.map(() => undefined);
  }

  /** Adds a flow at the end of its pair's list, unless it is in a list. */
  add(flow: Item): void {
    if (flow.queued) return;
    const { pair } = flow;
    flow.queued = true;
    flow.next = undefined;
    const tail = this.tails[pair];
    if (tail === undefined) this.heads[pair] = flow;
    else tail.next = flow;
    this.tails[pair] = flow;
  }

  /** Lets flows send, in turns, and shows the device what they sent. Returns whether some have more. */
  flush(): boolean {
    let more = false;
    for (let pair = 0; pair < this.pairs.length; pair++) {
      for (let served = 0; this.heads[pair] !== undefined && served < SEND_BUDGET; served++) {
        const flow = this.take(pair);
        const sent = this.sender.output(flow);
        if (sent === Sent.MORE) this.add(flow);
        if (sent === Sent.FULL) {
          this.putBack(flow);
          break;
        }
      }
      more ||= this.heads[pair] !== undefined && !this.pairs[pair].blocked;
    }
    // After all lists: a flow that changed its pair has sent on another than its list's.
    for (let pair = 0; pair < this.pairs.length; pair++) this.pairs[pair].flush();
    return more;
  }

  /** Takes the first flow of a list that isn't empty. */
  private take(pair: number): Item {
    const flow = this.heads[pair] as Item;
    this.heads[pair] = flow.next;
    if (flow.next === undefined) this.tails[pair] = undefined;
    flow.next = undefined;
    flow.queued = false;
    return flow;
  }

  /** Back to the front of its list. A handler may have added it meanwhile: then it keeps that place. */
  private putBack(flow: Item): void {
    if (flow.queued) return;
    const { pair } = flow;
    flow.queued = true;
    flow.next = this.heads[pair];
    this.heads[pair] = flow;
    this.tails[pair] ??= flow;
  }
}
