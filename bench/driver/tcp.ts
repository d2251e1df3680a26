/**
 * The client's TCP as the event loop and the flows' handlers use it: what a Linux guest's does as far as the loads need it.
 * Receiving is in tcpInput.ts, sending in tcpOutput.ts.
 */
import type { DeviceDescription } from './deviceDescription.js';
import { FlowState } from './flow.js';
import type { Flow } from './flow.js';
import { FlowTable } from './flowTable.js';
import type { FrameReader } from './frameReader.js';
import type { FrameWriter } from './frameWriter.js';
import type { MappedMemory } from './guestMemory.js';
import type { NetworkState } from './network.js';
import type { Packet, QueuePair } from './queuePair.js';
import { clock } from './scratch.js';
import { TcpInput } from './tcpInput.js';
import { TcpOutput } from './tcpOutput.js';
import type { TcpOptions } from './tcpOutput.js';
import { ACK, RST } from './wire.js';

/** Timers are looked at this often. */
export const TIMER_GRAIN_MS = 10;

export class TcpStack {
  private readonly table: FlowTable;
  private readonly output: TcpOutput;
  private readonly segments: TcpInput;
  private nextScan = 0;

  /**
   * @param flows the thread's flows; their indices are those of this array
   * @param thread local ports that are this number modulo the device's threads are this thread's
   */
  constructor(
    memory: MappedMemory,
    device: DeviceDescription,
    pairs: readonly QueuePair[],
    private readonly flows: readonly Flow[],
    private readonly network: NetworkState,
    writer: FrameWriter,
    reader: FrameReader,
    statistics: Float64Array,
    private readonly options: TcpOptions,
    thread: number,
  ) {
    this.table = new FlowTable(thread, device.threads);
    this.output = new TcpOutput(device, pairs, this.table, writer, statistics, options);
    this.segments = new TcpInput(memory, pairs, this.table, network, reader, writer, this.output, statistics);
  }

  // -- for handlers --------------------------------------------------------------------------------------------------

  /** Begins a connection. The flow must be closed. Without a free port it fails at once, as an operation given up. */
  open(flow: Flow, remoteAddress: number, remotePort: number): void {
    flow.openedAt = clock[1];
    flow.startedAt = clock[1];
    if (!this.table.claimPort(flow)) return this.table.fail(flow, 'timeout');
    flow.state = FlowState.SYN_SENT;
    flow.remoteAddress = remoteAddress;
    flow.remotePort = remotePort;
    flow.iss = (Math.imul(clock[1], 0x9e3779b1) ^ (flow.localPort << 16)) | 0;
    flow.sndUna = flow.sndNxt = flow.sndMax = flow.sndEnd = 0;
    flow.sndWnd = flow.sndWndShift = 0;
    flow.mss = this.network.mss;
    flow.dupAcks = flow.recover = flow.backoff = flow.acksOwed = 0;
    flow.probe = flow.finWanted = flow.finSent = flow.finReceived = flow.ackDue = false;
    flow.received = flow.inspected = flow.expected = 0;
    flow.timerOn = false;
    this.output.want(flow);
  }

  /** Gives the stream `bytes` more bytes to send. */
  write(flow: Flow, bytes: number): void {
    flow.sndEnd += bytes;
    this.output.want(flow);
  }

  /** Sends a FIN behind what there is to send. */
  close(flow: Flow): void {
    flow.finWanted = true;
    this.output.want(flow);
  }

  /** Sends a RST and forgets the connection, without telling the handler. */
  abort(flow: Flow): void {
    if (flow.state === FlowState.CLOSED) return;
    this.output.emit(flow, RST | ACK, flow.sndNxt, 0);
    this.table.forget(flow);
  }

  /** Arms or, without `on`, disarms the time limit of the present operation. */
  limit(flow: Flow, on: boolean): void {
    flow.limitOn = on;
    flow.limitAt = (clock[0] + this.options.timeoutMs) | 0;
  }

  // -- for the event loop -------------------------------------------------------------------------------------------

  /** Handles the TCP segment that the reader has just read; `pair` is the one that it came in on, or -1 for another thread's. */
  input(packet: Packet, pair: number): void {
    this.segments.segment(packet, pair);
  }

  /** Sends what flows want to send, in turns. Returns whether some have more. */
  flush(): boolean {
    return this.output.flush();
  }

  /** Runs out timers; looks at them every `TIMER_GRAIN_MS`. Returns the time until the next look, ms. */
  timers(): number {
    const now = clock[0];
    const left = (this.nextScan - now) | 0;
    if (left > 0 && left <= TIMER_GRAIN_MS) return left;
    this.nextScan = (now + TIMER_GRAIN_MS) | 0;
    for (let n = 0; n < this.flows.length; n++) {
      const flow = this.flows[n];
      if (flow.limitOn && ((now - flow.limitAt) | 0) >= 0) this.giveUp(flow);
      else if (flow.timerOn && ((now - flow.timerAt) | 0) >= 0) this.output.timerRanOut(flow);
    }
    return TIMER_GRAIN_MS;
  }

  private giveUp(flow: Flow): void {
    if (flow.state !== FlowState.CLOSED) this.output.emit(flow, RST | ACK, flow.sndNxt, 0);
    this.table.fail(flow, 'timeout');
  }
}
