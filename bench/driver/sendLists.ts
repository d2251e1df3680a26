/** The flows that want to send, by the queue pair that each sends on; they take turns. A flow is in one list at most. */
import type { Flow } from './flow.js';

export class SendLists {
  private readonly heads: (Flow | undefined)[];
  private readonly tails: (Flow | undefined)[];

  constructor(pairs: number) {
    this.heads = Array.from({ length: pairs }, () => undefined);
    this.tails = Array.from({ length: pairs }, () => undefined);
  }

  isEmpty(pair: number): boolean {
    return this.heads[pair] === undefined;
  }

  /** Adds a flow at the end of its pair's list, unless it is in a list. */
  add(flow: Flow): void {
    if (flow.queued) return;
    const { pair } = flow;
    flow.queued = true;
    flow.next = undefined;
    const tail = this.tails[pair];
    if (tail === undefined) this.heads[pair] = flow;
    else tail.next = flow;
    this.tails[pair] = flow;
  }

  /** Takes the first flow of a list that isn't empty. */
  take(pair: number): Flow {
    const flow = this.heads[pair] as Flow;
    this.heads[pair] = flow.next;
    if (flow.next === undefined) this.tails[pair] = undefined;
    flow.next = undefined;
    flow.queued = false;
    return flow;
  }

  /** Back to the front of its list. A handler may have added it meanwhile: then it keeps that place. */
  putBack(flow: Flow): void {
    if (flow.queued) return;
    const { pair } = flow;
    flow.queued = true;
    flow.next = this.heads[pair];
    this.heads[pair] = flow;
    this.tails[pair] ??= flow;
  }
}
