/** The client's UDP: flows that have a local port each, and send in turns. */
import type { FrameReader } from './frameReader.js';
import type { FrameWriter } from './frameWriter.js';
import { firstPort } from './flowTable.js';
import type { Packet, QueuePair } from './queuePair.js';
import { SendLists, Sent } from './sendLists.js';
import type { Sender } from './sendLists.js';
import { Counter } from './statistics.js';

/** What a workload does with its flows. All are called from the thread's event loop. */
export interface UdpHandler {
  /** Bytes of payload of the next datagram. */
  readonly bytes: number;
  /** Datagram `flow.number` is on its way. Returns whether the flow wants to send another one. */
  sent(flow: UdpFlow): boolean;
  /** A datagram from the flow's other end: its `length` bytes of payload begin `skip` bytes into the frame. */
  received(flow: UdpFlow, packet: Packet, skip: number, length: number): void;
}

/** A local port that sends numbered datagrams to one other end. */
export class UdpFlow {
  localPort = 0;
  remotePort = 0;
  remoteAddress = 0;
  /** Of the datagram sent last, 32 bits. Flows begin far apart, so that one can't take another's datagrams for its own. */
  number: number;

  /** An echo of that one is awaited; since when, µs modulo 2^32, and until when, ms modulo 2^32. */
  waiting = false;
  startedAt = 0;
  limitAt = 0;
  /** That time is over. */
  overdue = false;

  queued = false;
  next: UdpFlow | undefined = undefined;

  /**
   * @param index of the main flows of all threads
   * @param pair the queue pair that it sends on, an index of the thread's pairs
   */
  constructor(
    readonly index: number,
    public pair: number,
    readonly handler: UdpHandler,
  ) {
    this.number = Math.imul(index, 0x9e3779b1);
  }
}

export class UdpStack implements Sender<UdpFlow> {
  private readonly lists: SendLists<UdpFlow>;
  private readonly firstPort: number;

  /**
   * @param flows the thread's flows
   * @param thread local ports that are this number modulo `threads` are the thread's
   */
  constructor(
    private readonly pairs: readonly QueuePair[],
    private readonly flows: readonly UdpFlow[],
    private readonly reader: FrameReader,
    private readonly writer: FrameWriter,
    private readonly statistics: Float64Array,
    thread: number,
    private readonly threads: number,
  ) {
    this.lists = new SendLists(pairs, this);
    this.firstPort = firstPort(thread, threads);
    for (const [n, flow] of flows.entries()) flow.localPort = this.firstPort + n * threads;
  }

  /** The flow wants to send a datagram: it gets a turn. */
  want(flow: UdpFlow): void {
    this.lists.add(flow);
  }

  /** Sends what flows want to send, in turns. Returns whether some have more. */
  flush(): boolean {
    return this.lists.flush();
  }

  /** Sends one datagram. */
  output(flow: UdpFlow): number {
    const { handler, localPort, remoteAddress, remotePort } = flow;
    const number = (flow.number + 1) | 0;
    if (!this.writer.udp(this.pairs[flow.pair], remoteAddress, localPort, remotePort, number, handler.bytes)) {
      return Sent.FULL;
    }
    flow.number = number;
    this.statistics[Counter.datagramsSent]++;
    this.statistics[Counter.bytesSent] += handler.bytes;
    return handler.sent(flow) ? Sent.MORE : Sent.DONE;
  }

  /** Handles the datagram that the reader has just read; `pair` is the one that it came in on, or -1 for another thread's. */
  input(packet: Packet, pair: number): void {
    const { reader, statistics } = this;
    const flow = this.find(reader.destinationPort);
    if (flow === undefined || flow.remotePort !== reader.sourcePort || flow.remoteAddress !== reader.sourceAddress) {
      statistics[Counter.stray]++;
      return;
    }
    if (pair !== flow.pair) statistics[Counter.cross]++;
    statistics[Counter.datagramsReceived]++;
    statistics[Counter.bytesReceived] += reader.payloadLength;
    flow.handler.received(flow, packet, reader.headers, reader.payloadLength);
  }

  private find(localPort: number): UdpFlow | undefined {
    return this.flows[(localPort - this.firstPort) / this.threads];
  }
}
