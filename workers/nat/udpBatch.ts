/**
 * Datagrams of one flow on their way to its socket: those that come one after the other go in one system call, by UDP_SEGMENT if
 * they are of one size. Their chains count as used already, but no driver is shown so before the batch is flushed.
 */
import { C } from '../counters.js';
import { EAGAIN } from '../engine/engine.js';
import { FD, FLAGS, FLOW_WORDS, NO_SEGMENTS } from '../flow.js';
import type { Flows } from './flows.js';
import type { FrameSource } from './guestLink.js';
import type { IcmpErrors } from './icmpErrors.js';

const MAX_DATAGRAMS = 32;
const MAX_TRIPLES = 1024;
/** The longest UDP payload over IPv4, which is what the kernel cuts up at most. */
const MAX_SEGMENTED = 65_507;
const EINVAL = 22;
const EIO = 5;
const EMSGSIZE = 90;
const ENOBUFS = 105;

/** Triples of scratch that a batch needs. */
export const BATCH_IOVECS = MAX_DATAGRAMS + MAX_TRIPLES;

export class UdpBatch {
  private flow = -1;
  private count = 0;
  private triples = 0;
  private bytes = 0;
  /** Bytes of the first datagram, and whether all are alike, but for the last, which may be shorter. */
  private size = 0;
  private alike = false;
  private lastSize = 0;
  private readonly data: number;

  /**
   * @param iovecs scratch of [region, offset, length] triples
   * @param first the first of BATCH_IOVECS triples that nobody else uses
   */
  constructor(
    private readonly flows: Flows,
    private readonly icmp: IcmpErrors,
    private readonly iovecs: Uint32Array,
    private readonly first: number,
  ) {
    this.data = first + MAX_DATAGRAMS;
  }

  /** Adds a datagram whose `length` bytes of payload begin `at` bytes into the frame. */
  add(flow: number, frame: FrameSource, at: number, length: number): void {
    if (length > 0) frame.payload(at, length);
    const parts = length > 0 ? frame.payloadCount : 0;
    const full = this.count === MAX_DATAGRAMS || this.triples + parts > MAX_TRIPLES;
    if (flow !== this.flow || full) this.flush();
    const { iovecs } = this;
    const from = 3 * frame.payloadFirst;
    const to = 3 * (this.data + this.triples);
    for (let word = 0; word < 3 * parts; word++) iovecs[to + word] = iovecs[from + word]!;
    iovecs[3 * (this.first + this.count)] = parts;
    this.noteSize(length);
    this.flow = flow;
    this.count++;
    this.triples += parts;
    this.bytes += length;
  }

  private noteSize(length: number): void {
    if (this.count === 0) {
      this.size = length;
      this.alike = length > 0;
    } else if (this.lastSize !== this.size || length > this.size || length === 0) this.alike = false;
    this.lastSize = length;
  }

  /** Sends what is there. */
  flush(): void {
    if (this.count === 0) return;
    const { counters, records } = this.flows;
    const sent = records[this.flow * FLOW_WORDS + FD]! < 0 ? 0 : this.send();
    counters[C.datagramsFromGuest]! += sent;
    counters[C.datagramsDropped]! += this.count - sent;
    this.flow = -1;
    this.count = 0;
    this.triples = 0;
    this.bytes = 0;
  }

  /** Returns how many datagrams the socket took. */
  private send(): number {
    const { records: r, engine, counters } = this.flows;
    const f = this.flow * FLOW_WORDS;
    const { count } = this;
    if (count === 1 || !this.alike || this.bytes > MAX_SEGMENTED) return this.sendEach();
    if ((r[f + FLAGS]! & NO_SEGMENTS) !== 0) return this.sendEach();
    const result = engine.sendSegments(r[f + FD]!, this.data, this.triples, this.size);
    if (result >= 0) {
      counters[C.bytesFromGuest]! += this.bytes;
      return count;
    }
    if (result === -EAGAIN || result === -ENOBUFS) return 0;
    // Longer than the way's MTU, or the card sums no checksums (udp(7)); else an error of an earlier datagram was told.
    if (result === -EINVAL || result === -EIO || result === -EMSGSIZE) r[f + FLAGS]! |= NO_SEGMENTS;
    return this.sendEach();
  }

  private sendEach(): number {
    const { records: r, engine, counters } = this.flows;
    const fd = r[this.flow * FLOW_WORDS + FD]!;
    let sent = 0;
    let data = this.data;
    let told = false;
    for (let next = 0; next < this.count;) {
      const result = engine.sendDatagrams(fd, this.first + next, this.count - next, data);
      if (result === -EAGAIN || result === -ENOBUFS) break;
      // An error may be that of an earlier datagram, told now: then the same goes through the next time.
      if (result <= 0 && !told) {
        told = true;
        continue;
      }
      if (result <= 0) this.icmp.refused(this.flow, -result);
      else sent += result;
      told = false;
      for (const end = next + Math.max(1, result); next < end; next++) {
        for (let parts = this.iovecs[3 * (this.first + next)]!; parts > 0; parts--) {
          if (result > 0) counters[C.bytesFromGuest]! += this.iovecs[3 * data + 2]!;
          data++;
        }
      }
    }
    return sent;
  }
}
