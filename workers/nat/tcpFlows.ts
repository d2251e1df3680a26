/**
 * TCP flows from SYN to the last acknowledgment: what input, output and timers share.
 *
 * A flow's life:
 *
 *     guest's SYN        CONNECTING     socket opened, connect(2) under way; the SYN isn't answered yet
 *     socket writable    SYN_RECEIVED   SYN-ACK sent
 *     guest's ACK        ESTABLISHED    bytes go both ways; FIN_RECEIVED and END_OF_STREAM/FIN_SENT come in any order
 *     both FINs acked    closed; by way of TIME_WAIT if the host's side finished first
 *
 * and at any time: a RST of the guest aborts the socket, an error of the socket sends a RST, silence ends the flow.
 *
 * No payload is buffered here. What the guest sends is acknowledged once the socket has taken it; what the socket
 * receives stays in it, peeked at, until the guest has acknowledged it.
 */
import { C } from '../counters.js';
import { EINPROGRESS } from '../engine/engine.js';
import {
  ACK_LATER,
  ACK_NOW,
  BARRIER,
  CONNECTING,
  DESTINATION,
  DEVICE,
  FD,
  FIN_RECEIVED,
  FIN_SENT,
  FLAGS,
  FLOW_WORDS,
  GENERATION,
  HELD_FIRST,
  HELD_LAST,
  IRS,
  ISS,
  KEY,
  LAST_ACTIVE,
  LOOPBACK,
  MAC_HIGH,
  MAC_LOW,
  MSS,
  PAIR,
  PEEK_OFFSET,
  PORTS,
  RCV_ADV,
  RCV_NXT,
  RTO_DEADLINE,
  SEND_SPACE,
  SND_MAX,
  SND_NXT,
  SND_UNA,
  SND_WND,
  SND_WND_SHIFT,
  SOURCE,
  STATE,
  TIME_WAIT,
} from '../flow.js';
import { FlowList } from '../flowList.js';
import { hashTuple } from '../shared/hash.js';
import { u16, u32 } from '../wire/bytes.js';
import { HOST_LOOPBACK } from './egress.js';
import { Flows } from './flows.js';

/** First retransmission, ms; it doubles from there. A virtio ring loses nothing: the guest itself does, rarely. */
const RTO_MS = 200;
const RTO_MAX_MS = 60_000;
/** How long an acknowledgment waits for data to travel with: an answer of a server nearby comes sooner. */
const ACK_DELAY_MS = 2;
/** The window offered before the socket was asked what it takes, bytes. */
const FIRST_WINDOW = 65_535;

export class TcpFlows extends Flows {
  /** Flows whose acknowledgment waits for something to travel with. */
  readonly delayed = new FlowList(this.shard.capacity);
  private delayedSince = 0;

  /**
   * Opens a record for a guest's SYN, in state CONNECTING, without a socket yet. `bytes[offset…]` is the Ethernet header.
   * @returns the flow, or -1 when the shard is full
   */
  open(
    bytes: Uint8Array,
    offset: number,
    device: number,
    source: number,
    destination: number,
    ports: number,
    sequence: number,
  ): number {
    const flow = this.shard.allocate();
    if (flow < 0) return -1;
    const { records: r } = this;
    const f = flow * FLOW_WORDS;
    r[f + STATE] = CONNECTING;
    r[f + DEVICE] = device;
    r[f + KEY] = device;
    r[f + SOURCE] = source;
    r[f + DESTINATION] = destination;
    r[f + PORTS] = ports;
    r[f + FD] = -1;
    r[f + MAC_HIGH] = u16(bytes, offset + 6);
    r[f + MAC_LOW] = u32(bytes, offset + 8);
    r[f + IRS] = sequence;
    r[f + RCV_NXT] = (sequence + 1) | 0;
    r[f + RCV_ADV] = (sequence + 1) | 0;
    r[f + SEND_SPACE] = FIRST_WINDOW;
    r[f + PEEK_OFFSET] = -1;
    r[f + HELD_FIRST] = -1;
    r[f + HELD_LAST] = -1;
    r[f + BARRIER] = 0;
    r[f + LAST_ACTIVE] = this.now;
    this.chooseIss(flow);
    this.shard.index.insert(flow);
    this.counters[C.flowsOpened]!++;
    return flow;
  }

  /** RFC 6528: a clock of 4 µs plus a keyed hash of the connection. */
  private chooseIss(flow: number): void {
    const { records: r } = this;
    const f = flow * FLOW_WORDS;
    const hash = hashTuple(
      this.settings.seed ^ 0x5bd1e995,
      r[f + SOURCE]!,
      r[f + DESTINATION]!,
      r[f + PORTS]!,
      r[f + DEVICE]!,
    );
    const iss = (hash + (this.engine.clock[1]! >> 2)) | 0;
    r[f + ISS] = iss;
    r[f + SND_UNA] = iss;
    r[f + SND_NXT] = iss;
    r[f + SND_MAX] = iss;
  }

  /** Takes what the guest's SYN says of itself. */
  setPeer(flow: number, window: number, mss: number, windowScale: number, pair: number): void {
    const { records: r } = this;
    const f = flow * FLOW_WORDS;
    r[f + SND_WND] = window;
    r[f + SND_WND_SHIFT] = windowScale;
    r[f + MSS] = mss;
    r[f + PAIR] = pair;
  }

  /** Opens the socket and starts to connect. Returns 0, or -errno: the flow has no socket then. */
  connect(flow: number, address: number): number {
    const { records: r, engine } = this;
    const f = flow * FLOW_WORDS;
    const fd = engine.tcpSocket();
    if (fd < 0) return fd;
    if (address === HOST_LOOPBACK) {
      // Nothing is lost or late on the way to the host itself: the timers that pace BBR's segments would only cost.
      engine.unpace(fd);
      r[f + FLAGS]! |= LOOPBACK;
    }
    let result = engine.connect(fd, address, r[f + PORTS]! & 0xffff);
    if (result === -EINPROGRESS) result = 0;
    if (result === 0) result = engine.watchSocket(fd, flow, r[f + GENERATION]!);
    if (result < 0) {
      engine.close(fd);
      return result;
    }
    r[f + FD] = fd;
    this.arm(flow, (this.now + this.settings.times.connect) | 0);
    return 0;
  }

  /** Lets an acknowledgment wait for data to travel with, ACK_DELAY_MS at most (RFC 9293 §3.8.6.3). */
  acknowledgeLater(flow: number): void {
    const f = flow * FLOW_WORDS;
    if ((this.records[f + FLAGS]! & (ACK_NOW | ACK_LATER)) !== 0) return;
    this.records[f + FLAGS]! |= ACK_LATER;
    if (this.delayed.length === 0) this.delayedSince = this.now;
    this.delayed.push(flow);
  }

  /** Ms until delayed acknowledgments are due; -1: there are none. */
  get delayLeft(): number {
    if (this.delayed.length === 0) return -1;
    return Math.max(0, ACK_DELAY_MS - ((this.now - this.delayedSince) | 0));
  }

  /** Sends the delayed acknowledgments that found nothing to travel with, once they are due. */
  flushDelayed(): void {
    if (this.delayLeft !== 0) return;
    for (let n = this.delayed.length; n > 0; n--) {
      const flow = this.delayed.shift();
      if ((this.records[flow * FLOW_WORDS + FLAGS]! & ACK_LATER) !== 0) this.acknowledge(flow);
    }
  }

  /** Whether the guest waits for an acknowledgment. */
  owesAcknowledgment(flow: number): boolean {
    return (this.records[flow * FLOW_WORDS + FLAGS]! & (ACK_NOW | ACK_LATER)) !== 0;
  }

  acknowledge(flow: number): void {
    this.records[flow * FLOW_WORDS + FLAGS]! |= ACK_NOW;
    this.list(flow);
  }

  /** Starts the clock of what is unacknowledged, or of a closed window. */
  armRetransmission(flow: number, retries: number): void {
    const delay = Math.min(RTO_MS * 2 ** Math.min(retries, 16), RTO_MAX_MS);
    const deadline = (this.now + delay) | 0;
    this.records[flow * FLOW_WORDS + RTO_DEADLINE] = deadline;
    this.arm(flow, deadline);
  }

  /** Both sides have finished and know it. */
  finished(flow: number): boolean {
    const { records: r } = this;
    const f = flow * FLOW_WORDS;
    const both = FIN_SENT | FIN_RECEIVED;
    return (r[f + FLAGS]! & both) === both && r[f + SND_UNA] === r[f + SND_MAX];
  }

  /** Closes the socket in order, with all of the peer's bytes read, and keeps the record for late FINs. */
  enterTimeWait(flow: number): void {
    const { records: r } = this;
    const f = flow * FLOW_WORDS;
    this.dropHeld(flow);
    this.engine.close(r[f + FD]!);
    r[f + FD] = -1;
    r[f + STATE] = TIME_WAIT;
    this.arm(flow, (this.now + this.settings.times.timeWait) | 0);
  }
}
