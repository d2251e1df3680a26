/** A first-in first-out list of flows, fixed in size. */
export class FlowList {
  private readonly ring: Int32Array;
  private first = 0;
  private count = 0;

  /** @param flows how many flows there are; each may be in the list a few times over, as its record is used again */
  constructor(flows: number) {
    let size = 16;
    while (size < 4 * flows) size *= 2;
    this.ring = new Int32Array(size);
  }

  get length(): number {
    return this.count;
  }

  push(flow: number): void {
    this.ring[(this.first + this.count++) & (this.ring.length - 1)] = flow;
  }

  /** The oldest entry; -1 when there is none. */
  shift(): number {
    if (this.count === 0) return -1;
    const flow = this.ring[this.first]!;
    this.first = (this.first + 1) & (this.ring.length - 1);
    this.count--;
    return flow;
  }
}
