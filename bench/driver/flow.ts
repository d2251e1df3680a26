/** A TCP connection of the client, and who uses it. */
import { Cubic } from './congestion.js';

/** Why a flow ended too early. */
export type Failure = 'refused' | 'reset' | 'timeout';

/** What a workload does with its flows. All are called from the thread's event loop. */
export interface FlowHandler {
  /** Whether `data` is to be called. */
  readonly inspects: boolean;
  established(flow: Flow): void;
  /** A piece of payload at an offset of guest memory, in order; `flow.received` bytes came before it. */
  data(flow: Flow, offset: number, length: number): void;
  /** `flow.received` has grown. */
  received(flow: Flow): void;
  /** The other side has sent its FIN. */
  peerClosed(flow: Flow): void;
  /** Both FINs are sent and acknowledged: the flow can be opened again. */
  finished(flow: Flow): void;
  /** The flow is gone and can be opened again. */
  failed(flow: Flow, failure: Failure): void;
}

export const FlowState = { CLOSED: 0, SYN_SENT: 1, ESTABLISHED: 2 } as const;

/** Positions are bytes of the stream that the client sends; its first byte is 0, the FIN stands behind the last. */
export class Flow {
  state: number = FlowState.CLOSED;
  localPort = 0;
  remotePort = 0;
  remoteAddress = 0;
  /** The queue pair that it sends on, and the one it should change to; indices of the thread's pairs. */
  pair = 0;
  wantedPair = 0;
  /** The pair's count of frames sent after this flow's last one. */
  lastSent = 0;

  iss = 0;
  sndUna = 0;
  sndNxt = 0;
  /** Behind the highest position sent so far. */
  sndMax = 0;
  /** Behind the last byte that there is to send. */
  sndEnd = 0;
  sndWnd = 0;
  sndWndShift = 0;
  mss = 0;
  dupAcks = 0;
  /** Loss below this position has been reacted to. */
  recover = 0;
  backoff = 0;
  /** Send one byte into a shut window. */
  probe = false;
  finWanted = false;
  finSent = false;

  rcvNxt = 0;
  received = 0;
  /** Bytes of them that the handler has looked at. */
  inspected = 0;
  finReceived = false;
  /** An acknowledgement is due with the batch's end, on a segment of data if there is one. */
  ackDue = false;
  /** Acknowledgements without data to be sent before anything else: the handshake's, and duplicates (RFC 5681 §4.2). */
  acksOwed = 0;

  readonly congestion = new Cubic();

  /** Retransmission timer, ms modulo 2^32. */
  timerOn = false;
  timerAt = 0;
  /** When the operation is given up. */
  limitOn = false;
  limitAt = 0;

  /** In the list of flows that want to send. */
  queued = false;
  next: Flow | undefined = undefined;

  /** When the connect and the present operation began, µs modulo 2^32. */
  openedAt = 0;
  startedAt = 0;
  /** Bytes received that end the present operation. */
  expected = 0;

  /** @param index of the thread's flows */
  constructor(
    readonly index: number,
    readonly handler: FlowHandler,
  ) {}
}

/** The sequence number of a position; the SYN's is -1. */
export function sequenceOf(flow: Flow, position: number): number {
  return (flow.iss + 1 + position) | 0;
}
