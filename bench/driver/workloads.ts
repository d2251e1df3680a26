/** What flows do: the handlers of the load driver's modes. The servers' side is bench/native/serve.c. */
import { Status } from './control.js';
import type { Failure, Flow, FlowHandler } from './flow.js';
import { FlowState } from './flow.js';
import { bucketOf } from './histogram.js';
import type { MappedMemory } from './guestMemory.js';
import { PATTERN_LENGTH, PATTERN_SPARE } from './pattern.js';
import { clock } from './scratch.js';
import { Counter, HistogramAt } from './statistics.js';
import type { TcpStack } from './tcp.js';
import type { UdpStack } from './udp.js';

/** Offsets of the services from the servers' first port. ECHO, SINK and SOURCE are there for TCP and for UDP, the others for TCP. */
export const ServicePort = { ECHO: 0, SINK: 10, SOURCE: 11, CHECK: 12, SILENT: 13, COUNTS: 14 } as const;
/** Number of echo ports: many connects a second must not run out of the back end's local ports. */
const ECHO_PORTS = 8;

/**
 * crr: connect, request, response, close; rr: requests over connections that stay; upload and download without end;
 * check: upload `bytes` and have the server compare them; fetch: download `bytes` and compare them here.
 */
export type TcpWorkloadKind = 'crr' | 'rr' | 'upload' | 'download' | 'check' | 'fetch';
/** udp-rr: a datagram and its echo at a time; udp-flood: datagrams to the host without end; udp-flood-rx: from there. */
export type UdpWorkloadKind = 'udp-rr' | 'udp-flood' | 'udp-flood-rx';
export type WorkloadKind = TcpWorkloadKind | UdpWorkloadKind;

export function isUdp(kind: WorkloadKind): kind is UdpWorkloadKind {
  return kind === 'udp-rr' || kind === 'udp-flood' || kind === 'udp-flood-rx';
}

export interface WorkloadOptions {
  readonly kind: WorkloadKind;
  /** Main flows, all threads together. */
  readonly flows: number;
  /** Payload of a request (crr, rr), of a datagram (udp), or of a whole transfer (check, fetch), bytes. */
  readonly bytes: number;
  /** Compare what is received with what the server should have sent. */
  readonly verify: boolean;
  /** Connects to the silent port, and connections that stay idle, all threads together. */
  readonly stalled: number;
  readonly idle: number;
  /** IPv4 address, host order, and first port of the servers. */
  readonly address: number;
  readonly portBase: number;
  /** Move each main flow to the thread's next queue pair this often, ms; 0 never. */
  readonly hopMs: number;
}

/** What a handler works with. */
export interface WorkloadContext {
  readonly tcp: TcpStack;
  readonly udp: UdpStack;
  readonly memory: MappedMemory;
  readonly pattern: number;
  readonly statistics: Float64Array;
  readonly control: Int32Array;
  readonly options: WorkloadOptions;
  /** Until a datagram's echo is given up, ms. */
  readonly timeoutMs: number;
  /** Queue pairs of the device. */
  readonly pairs: number;
  /** Whether main flows should begin further operations. */
  running: boolean;
}

const FAILURE_COUNTERS: Readonly<Record<Failure, number>> = {
  refused: Counter.refused,
  reset: Counter.resets,
  timeout: Counter.timeouts,
};

export abstract class Workload implements FlowHandler {
  abstract readonly inspects: boolean;
  /** Flows to be opened at the next tick: after a failure, so that failures don't spin. */
  protected readonly waiting: Flow[] = [];
  private bound: WorkloadContext | undefined;

  bind(context: WorkloadContext): void {
    this.bound = context;
  }

  protected get context(): WorkloadContext {
    if (this.bound === undefined) throw new Error('a workload runs before it is bound to a thread');
    return this.bound;
  }

  /** Begins with a flow, or begins anew. */
  abstract start(flow: Flow): void;
  abstract established(flow: Flow): void;
  abstract received(flow: Flow): void;

  /** Opens the flows that wait for it. */
  tick(): void {
    for (const flow of this.waiting.splice(0)) if (flow.state === FlowState.CLOSED) this.start(flow);
  }

  data(flow: Flow, offset: number, length: number): void {
    this.comparePattern(flow, offset, length);
    flow.inspected += length;
  }

  peerClosed(flow: Flow): void {
    this.context.tcp.abort(flow);
    this.failed(flow, 'reset');
  }

  finished(flow: Flow): void {
    this.failed(flow, 'reset');
  }

  failed(flow: Flow, failure: Failure): void {
    this.count(FAILURE_COUNTERS[failure]);
    if (this.context.running) this.waiting.push(flow);
  }

  protected open(flow: Flow, port: number): void {
    this.context.tcp.open(flow, this.context.options.address, this.context.options.portBase + port);
  }

  protected count(counter: number): void {
    this.context.statistics[counter]++;
  }

  /** Records the time from `since` until now. */
  protected record(histogram: number, since: number): void {
    this.context.statistics[histogram + bucketOf((clock[1] - since) | 0)]++;
  }

  protected report(status: number): void {
    Atomics.add(this.context.control, status, 1);
  }

  private comparePattern(flow: Flow, offset: number, length: number): void {
    const { bytes } = this.context.memory;
    for (let done = 0; done < length; done += PATTERN_SPARE) {
      const piece = Math.min(length - done, PATTERN_SPARE);
      const expected = this.context.pattern + ((flow.inspected + done) % PATTERN_LENGTH);
      const at = offset + done;
      if (bytes.compare(bytes, expected, expected + piece, at, at + piece) !== 0) this.count(Counter.badData);
    }
  }
}

/** Requests to the echo ports, each answered by its own bytes. */
abstract class EchoWorkload extends Workload {
  readonly inspects: boolean;
  private turn = 0;

  constructor(verify: boolean) {
    super();
    this.inspects = verify;
  }

  start(flow: Flow): void {
    this.turn = (this.turn + 1) % ECHO_PORTS;
    this.open(flow, ServicePort.ECHO + this.turn);
    this.context.tcp.limit(flow, flow.state !== FlowState.CLOSED);
  }

  established(flow: Flow): void {
    this.record(HistogramAt.connect, flow.openedAt);
    this.request(flow);
  }

  protected request(flow: Flow): void {
    const { bytes } = this.context.options;
    flow.expected = flow.received + bytes;
    this.context.tcp.write(flow, bytes);
  }

  protected answered(flow: Flow): boolean {
    if (flow.expected === 0 || flow.received < flow.expected) return false;
    flow.expected = 0;
    this.record(HistogramAt.response, flow.startedAt);
    return true;
  }
}

class CrrWorkload extends EchoWorkload {
  received(flow: Flow): void {
    if (this.answered(flow)) this.context.tcp.close(flow);
  }

  override peerClosed(flow: Flow): void {
    if (!flow.finWanted) super.peerClosed(flow);
  }

  override finished(flow: Flow): void {
    this.count(Counter.operations);
    this.record(HistogramAt.total, flow.openedAt);
    if (this.context.running) this.start(flow);
  }
}

class RrWorkload extends EchoWorkload {
  received(flow: Flow): void {
    if (!this.answered(flow)) return;
    this.count(Counter.operations);
    this.context.tcp.limit(flow, this.context.running);
    if (!this.context.running) return;
    flow.startedAt = clock[1];
    this.request(flow);
  }
}

const ENDLESS = 2 ** 52;

class UploadWorkload extends Workload {
  readonly inspects = false;

  start(flow: Flow): void {
    this.open(flow, ServicePort.SINK);
  }

  established(flow: Flow): void {
    this.context.tcp.write(flow, ENDLESS);
  }

  received(): void {
    // A sink sends nothing.
  }
}

class DownloadWorkload extends Workload {
  constructor(readonly inspects: boolean) {
    super();
  }

  start(flow: Flow): void {
    this.open(flow, ServicePort.SOURCE);
  }

  established(): void {
    // The source begins by itself.
  }

  received(_flow: Flow): void {
    // The statistics count the bytes.
  }
}

/** Downloads so many bytes once, compares them, and resets the connection. */
class FetchWorkload extends DownloadWorkload {
  override received(flow: Flow): void {
    if (flow.received < this.context.options.bytes) return;
    this.context.tcp.abort(flow);
    this.count(Counter.operations);
    this.report(Status.TRANSFERS_DONE);
  }

  override failed(flow: Flow, failure: Failure): void {
    this.report(Status.TRANSFERS_FAILED);
    super.failed(flow, failure);
  }
}

const ANSWER_BYTES = 16;

/** Uploads so many bytes once, and reads what the server makes of them. */
class CheckWorkload extends Workload {
  readonly inspects = true;
  private readonly answers = new Map<Flow, number[]>();

  start(flow: Flow): void {
    this.answers.set(flow, []);
    this.open(flow, ServicePort.CHECK);
  }

  established(flow: Flow): void {
    this.context.tcp.write(flow, this.context.options.bytes);
    this.context.tcp.close(flow);
  }

  override data(flow: Flow, offset: number, length: number): void {
    this.answers.get(flow)?.push(...this.context.memory.u8.subarray(offset, offset + length));
  }

  received(): void {
    // The answer is read when it is complete, at the server's FIN.
  }

  override peerClosed(flow: Flow): void {
    const answer = this.answers.get(flow) ?? [];
    const view = new DataView(Uint8Array.from(answer).buffer);
    const right =
      answer.length === ANSWER_BYTES &&
      view.getBigUint64(0, true) === BigInt(this.context.options.bytes) &&
      view.getBigUint64(8, true) === 0n;
    if (!right) this.count(Counter.badData);
    this.report(right ? Status.TRANSFERS_DONE : Status.TRANSFERS_FAILED);
  }

  override finished(): void {
    this.count(Counter.operations);
  }

  override failed(flow: Flow, failure: Failure): void {
    this.report(Status.TRANSFERS_FAILED);
    super.failed(flow, failure);
  }
}

/** Connects that get no answer. */
export class SilentWorkload extends Workload {
  readonly inspects = false;

  start(flow: Flow): void {
    this.open(flow, ServicePort.SILENT);
  }

  established(flow: Flow): void {
    this.context.tcp.abort(flow);
    this.failed(flow, 'reset');
  }

  received(): void {
    // Nobody answers.
  }
}

/** How many idle connections a thread opens at a time. */
const OPENING = 64;

/** Connections that do nothing, and answer when asked. */
export class IdleWorkload extends Workload {
  readonly inspects = false;
  private opening = 0;

  /** @param flows those still to be opened */
  constructor(private readonly flows: Flow[] = []) {
    super();
  }

  /** Adds a flow to those to be opened. */
  add(flow: Flow): void {
    this.flows.push(flow);
  }

  start(flow: Flow): void {
    this.opening++;
    this.open(flow, ServicePort.ECHO + (flow.index % ECHO_PORTS));
    this.context.tcp.limit(flow, flow.state !== FlowState.CLOSED);
  }

  /** Opens as many as may be opened at a time. */
  override tick(): void {
    while (this.opening < OPENING) {
      const flow = this.flows.pop();
      if (flow === undefined) return;
      this.start(flow);
    }
  }

  established(flow: Flow): void {
    this.opening--;
    this.context.tcp.limit(flow, false);
    this.report(Status.IDLE_OPEN);
    this.tick();
  }

  /** Asks for a sign of life. */
  ping(flow: Flow): void {
    if (flow.state !== FlowState.ESTABLISHED) return;
    flow.expected = flow.received + 1;
    this.context.tcp.write(flow, 1);
  }

  received(): void {
    this.report(Status.IDLE_ANSWERED);
  }

  override failed(flow: Flow, failure: Failure): void {
    if (flow.received === 0 && flow.sndUna === 0 && flow.expected === 0) this.opening--;
    this.report(Status.IDLE_FAILED);
    this.count(FAILURE_COUNTERS[failure]);
  }
}

export function createWorkload(kind: TcpWorkloadKind, verify: boolean): Workload {
  switch (kind) {
    case 'crr':
      return new CrrWorkload(verify);
    case 'rr':
      return new RrWorkload(verify);
    case 'upload':
      return new UploadWorkload();
    case 'download':
      return new DownloadWorkload(verify);
    case 'check':
      return new CheckWorkload();
    case 'fetch':
      return new FetchWorkload(true);
  }
}
