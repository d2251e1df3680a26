/**
 * Which flows of a worker's have the same address and port of the guest: they are one mapping, and look the same from outside
 * whatever peer they are with (RFC 4787 §4.1, REQ-1). One flow of each mapping is in an index, and leads to the others in a circle.
 */
import { FLOW_WORDS, FREE, GUEST_PORT, KEY, MAPPING_NEXT, MAPPING_PREV, SOURCE, STATE, UDP_KEY } from '../flow.js';
import type { Shard } from '../shard.js';
import { FlowIndex } from '../shared/flowIndex.js';

export class UdpMappings {
  private readonly records: Int32Array;
  private readonly index: FlowIndex;

  /** Finds what is in the records of a predecessor. */
  constructor(shard: Shard, seed: number) {
    const { records } = shard;
    this.records = records;
    let entries = 16;
    while (entries < 2 * shard.capacity) entries *= 2;
    const table = new Int32Array(entries);
    this.index = new FlowIndex(table, records, FLOW_WORDS, SOURCE, SOURCE, GUEST_PORT, KEY, seed);
    for (let flow = 0; flow < shard.capacity; flow++) {
      const f = flow * FLOW_WORDS;
      if (records[f + STATE] !== FREE && (records[f + KEY]! & UDP_KEY) !== 0) this.join(flow);
    }
  }

  /** A flow of the mapping; -1: there is none. */
  find(source: number, guestPort: number, key: number): number {
    return this.index.lookup(source, source, guestPort, key);
  }

  private leader(flow: number): number {
    const f = flow * FLOW_WORDS;
    return this.find(this.records[f + SOURCE]!, this.records[f + GUEST_PORT]!, this.records[f + KEY]!);
  }

  join(flow: number): void {
    const { records: r } = this;
    const leader = this.leader(flow);
    if (leader < 0) {
      this.link(flow, flow);
      this.index.insert(flow);
      return;
    }
    const last = r[leader * FLOW_WORDS + MAPPING_PREV]!;
    this.link(last, flow);
    this.link(flow, leader);
  }

  /** Takes a flow out, its record still as it was. Returns whether it was the last one of its mapping. */
  leave(flow: number): boolean {
    const f = flow * FLOW_WORDS;
    const next = this.records[f + MAPPING_NEXT]!;
    const leads = this.leader(flow) === flow;
    if (leads) this.index.remove(flow);
    if (next === flow) return true;
    this.link(this.records[f + MAPPING_PREV]!, next);
    if (leads) this.index.insert(next);
    return false;
  }

  private link(flow: number, next: number): void {
    this.records[flow * FLOW_WORDS + MAPPING_NEXT] = next;
    this.records[next * FLOW_WORDS + MAPPING_PREV] = flow;
  }
}
