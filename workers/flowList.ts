/** A first-in first-out list of flows. A flow is in it once at most: pushed again, it keeps its place. */
export class FlowList {
  private readonly ring: Int32Array;
  private readonly present: Uint8Array;
  private first = 0;
  private count = 0;

  /** @param flows how many flows there are, numbered from 0 */
  constructor(flows: number) {
    let size = 1;
    while (size < flows) size *= 2;
    this.ring = new Int32Array(size);
    this.present = new Uint8Array(flows);
  }

  get length(): number {
    return this.count;
  }

  push(flow: number): void {
    if (this.present[flow] !== 0) return;
    this.present[flow] = 1;
    this.ring[(this.first + this.count++) & (this.ring.length - 1)] = flow;
  }

  /** The oldest entry; -1 when there is none. */
  shift(): number {
    if (this.count === 0) return -1;
    const flow = this.ring[this.first]!;
    this.first = (this.first + 1) & (this.ring.length - 1);
    this.count--;
    this.present[flow] = 0;
    return flow;
  }
}
