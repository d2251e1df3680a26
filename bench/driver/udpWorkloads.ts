/** What flows of UDP do: the handlers of the load driver's modes. The servers' side is bench/native/datagrams.h. */
import { HistogramAt, Counter, flowBytes } from './statistics.js';
import { bucketOf } from './histogram.js';
import { DATAGRAM_NUMBER, PATTERN_LENGTH } from './pattern.js';
import type { Packet } from './queuePair.js';
import { clock } from './scratch.js';
import type { UdpFlow, UdpHandler } from './udp.js';
import { ServicePort } from './workloads.js';
import type { UdpWorkloadKind, WorkloadContext } from './workloads.js';

export abstract class UdpWorkload implements UdpHandler {
  protected readonly flows: UdpFlow[] = [];
  private bound: WorkloadContext | undefined;

  /** @param bytes of payload of each datagram */
  constructor(
    public bytes: number,
    private readonly port: number,
  ) {}

  bind(context: WorkloadContext): void {
    this.bound = context;
  }

  protected get context(): WorkloadContext {
    if (this.bound === undefined) throw new Error('a workload runs before it is bound to a thread');
    return this.bound;
  }

  /** Adds a flow to those that are to be started. */
  add(flow: UdpFlow): void {
    this.flows.push(flow);
  }

  /** Begins with all flows, or begins anew. */
  start(): void {
    const { address, portBase } = this.context.options;
    for (const flow of this.flows) {
      flow.remoteAddress = address;
      flow.remotePort = portBase + this.port;
      flow.waiting = false;
      this.context.udp.want(flow);
    }
  }

  /** The main flows are to end. */
  stop(): void {
    // They do by themselves.
  }

  /** Moves each flow to the next of so many queue pairs: datagrams need no order. */
  hop(pairs: number): void {
    for (const flow of this.flows) flow.pair = (flow.pair + 1) % pairs;
  }

  /** Gives up what has waited too long, and was overdue the last time already: this thread may have slept while it came. */
  tick(): void {
    for (const flow of this.flows) {
      if (!flow.waiting || ((clock[0] - flow.limitAt) | 0) < 0) continue;
      if (flow.overdue) this.lost(flow);
      flow.overdue = true;
    }
  }

  abstract sent(flow: UdpFlow): boolean;
  abstract received(flow: UdpFlow, packet: Packet, skip: number, length: number): void;
  protected abstract lost(flow: UdpFlow): void;

  protected count(counter: number): void {
    this.context.statistics[counter]++;
  }

  protected countBytes(flow: UdpFlow, bytes: number): void {
    this.context.statistics[flowBytes(this.context.pairs) + flow.index] += bytes;
  }

  /** Whether the pattern stands behind the number. */
  protected isPattern(packet: Packet, skip: number, number: number, length: number): boolean {
    const { bytes } = this.context.memory;
    let expected = this.context.pattern + ((number >>> 0) % PATTERN_LENGTH);
    let before = skip + DATAGRAM_NUMBER;
    let left = length - DATAGRAM_NUMBER;
    for (let n = 0; n < packet.pieces && left > 0; n++) {
      const piece = Math.max(Math.min(packet.lengths[n] - before, left), 0);
      const at = packet.offsets[n] + before;
      if (piece > 0 && bytes.compare(bytes, expected, expected + piece, at, at + piece) !== 0) return false;
      expected += piece;
      left -= piece;
      before = Math.max(before - packet.lengths[n], 0);
    }
    return left <= 0;
  }
}

/** Datagrams to the echo port, each after the echo of the one before. */
class UdpRrWorkload extends UdpWorkload {
  constructor(
    bytes: number,
    private readonly verify: boolean,
  ) {
    super(bytes, ServicePort.ECHO);
  }

  sent(flow: UdpFlow): boolean {
    flow.waiting = true;
    flow.overdue = false;
    flow.startedAt = clock[1];
    flow.limitAt = (clock[0] + this.context.timeoutMs) | 0;
    this.countBytes(flow, this.bytes);
    return false;
  }

  received(flow: UdpFlow, packet: Packet, skip: number, length: number): void {
    // What has been given up, or was answered already, comes late: the network neither loses nor changes it.
    if (!flow.waiting || !this.isNumbered(packet, skip, flow.number, length)) return this.count(Counter.stray);
    const right = length === this.bytes && (!this.verify || this.isPattern(packet, skip, flow.number, length));
    if (!right) this.count(Counter.badData);
    flow.waiting = false;
    this.countBytes(flow, length);
    this.count(Counter.operations);
    this.context.statistics[HistogramAt.response + bucketOf((clock[1] - flow.startedAt) | 0)]++;
    this.again(flow);
  }

  protected lost(flow: UdpFlow): void {
    flow.waiting = false;
    this.count(Counter.lost);
    this.again(flow);
  }

  private again(flow: UdpFlow): void {
    if (this.context.running) this.context.udp.want(flow);
  }

  /** Whether the datagram bears this number. */
  private isNumbered(packet: Packet, skip: number, number: number, length: number): boolean {
    const bytes = Math.min(length, DATAGRAM_NUMBER);
    if (bytes === 0 || skip + bytes > packet.lengths[0]) return false;
    const { u8 } = this.context.memory;
    for (let n = 0; n < bytes; n++) {
      if (u8[packet.offsets[0] + skip + n] !== ((number >>> (8 * n)) & 0xff)) return false;
    }
    return true;
  }
}

/** Datagrams to the sink as fast as they go. */
class UdpFloodWorkload extends UdpWorkload {
  constructor(bytes: number) {
    super(bytes, ServicePort.SINK);
  }

  sent(flow: UdpFlow): boolean {
    this.countBytes(flow, this.bytes);
    return this.context.running;
  }

  received(): void {
    // A sink sends nothing.
  }

  protected lost(): void {
    // Nothing is awaited.
  }
}

/** Datagrams from the source, which sends as fast as it can while it is asked to. */
class UdpFloodRxWorkload extends UdpWorkload {
  constructor(
    private readonly wanted: number,
    private readonly verify: boolean,
  ) {
    super(wanted, ServicePort.SOURCE);
  }

  override start(): void {
    this.bytes = this.wanted;
    super.start();
  }

  /** An empty request makes an end. */
  override stop(): void {
    this.bytes = 0;
    for (const flow of this.flows) this.context.udp.want(flow);
  }

  /** Asks again: the source stops soon, should the guest be gone. */
  override tick(): void {
    for (const flow of this.flows) this.context.udp.want(flow);
  }

  sent(): boolean {
    return false;
  }

  received(flow: UdpFlow, packet: Packet, skip: number, length: number): void {
    this.countBytes(flow, length);
    if (length !== this.wanted || (this.verify && !this.isRight(packet, skip, length))) this.count(Counter.badData);
  }

  protected lost(): void {
    // Nothing is awaited.
  }

  private isRight(packet: Packet, skip: number, length: number): boolean {
    if (length <= DATAGRAM_NUMBER) return true;
    if (skip + DATAGRAM_NUMBER > packet.lengths[0]) return false;
    let number = 0;
    for (let n = 0; n < DATAGRAM_NUMBER; n++) {
      number |= this.context.memory.u8[packet.offsets[0] + skip + n] << (8 * n);
    }
    return this.isPattern(packet, skip, number, length);
  }
}

export function createUdpWorkload(kind: UdpWorkloadKind, bytes: number, verify: boolean): UdpWorkload {
  switch (kind) {
    case 'udp-rr':
      return new UdpRrWorkload(bytes, verify);
    case 'udp-flood':
      return new UdpFloodWorkload(bytes);
    case 'udp-flood-rx':
      return new UdpFloodRxWorkload(bytes, verify);
  }
}
