/** What happens to a flow from the host's side: events of its socket, and time. */
import { C } from '../counters.js';
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from '../engine/engine.js';
import {
  CONNECTING,
  END_OF_STREAM,
  FD,
  FIN_RECEIVED,
  FIN_SENT,
  FLAGS,
  FLOW_WORDS,
  FREE,
  HELD_FIRST,
  ISS,
  LAST_ACTIVE,
  PEER_FINISHED,
  READABLE,
  RETRIES,
  RTO_DEADLINE,
  SND_MAX,
  SND_NXT,
  SND_UNA,
  SND_WND,
  STATE,
  SYN_RECEIVED,
  TIME_WAIT,
} from '../flow.js';
import type { FlowProtocol } from '../flowProtocol.js';
import type { TcpFlows } from './tcpFlows.js';
import type { TcpInput } from './tcpInput.js';
import type { TcpOutput } from './tcpOutput.js';

/** Retransmissions after which a flow is given up: with doubling from 200 ms more than 100 s (RFC 9293 §3.8.3, R2). */
const MAX_RETRIES = 10;

export class TcpEvents implements FlowProtocol {
  private readonly records: Int32Array;

  /** @param drainHeld gives the socket what the flow holds */
  constructor(
    private readonly flows: TcpFlows,
    private readonly input: TcpInput,
    private readonly output: TcpOutput,
    private readonly drainHeld: (flow: number) => void,
  ) {
    this.records = flows.records;
  }

  socket(flow: number, bits: number): void {
    const { records: r, flows } = this;
    const f = flow * FLOW_WORDS;
    if (r[f + FD]! < 0) return;
    if ((bits & EPOLLERR) !== 0 && flows.engine.socketError(r[f + FD]!) !== 0) {
      if (r[f + STATE] === CONNECTING) flows.counters[C.connectFailed]!++;
      this.output.fail(flow);
      return;
    }
    if (r[f + STATE] === CONNECTING) {
      if ((bits & EPOLLOUT) === 0) return;
      r[f + STATE] = SYN_RECEIVED;
      r[f + LAST_ACTIVE] = flows.now;
      flows.list(flow);
    }
    if ((bits & (EPOLLRDHUP | EPOLLHUP)) !== 0) r[f + FLAGS]! |= PEER_FINISHED;
    if ((bits & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) !== 0) {
      r[f + FLAGS]! |= READABLE;
      flows.list(flow);
    }
    if ((bits & EPOLLOUT) !== 0 && r[f + HELD_FIRST]! >= 0) this.drainHeld(flow);
  }

  timer(flow: number): void {
    const { records: r, flows } = this;
    const f = flow * FLOW_WORDS;
    const state = r[f + STATE]!;
    if (state === FREE) return;
    const idle = (flows.now - r[f + LAST_ACTIVE]!) | 0;
    const limit = this.idleLimit(f, state);
    if (idle >= limit) {
      if (state === CONNECTING) flows.counters[C.connectTimedOut]!++;
      if (state === TIME_WAIT) flows.close(flow, false);
      else this.output.fail(flow);
      return;
    }
    if (this.awaitsGuest(f, state)) {
      if (((r[f + RTO_DEADLINE]! - flows.now) | 0) <= 0 && !this.resend(flow)) return;
      flows.arm(flow, r[f + RTO_DEADLINE]!);
    }
    flows.arm(flow, (r[f + LAST_ACTIVE]! + limit) | 0);
  }

  run(flow: number): number {
    return this.output.run(flow);
  }

  private idleLimit(f: number, state: number): number {
    const { times } = this.flows.settings;
    if (state === CONNECTING) return times.connect;
    if (state === TIME_WAIT) return times.timeWait;
    const half = (this.records[f + FLAGS]! & (FIN_RECEIVED | FIN_SENT)) !== 0;
    return state === SYN_RECEIVED || half ? times.transitory : times.established;
  }

  /** Something is unacknowledged, or waits for a window. */
  private awaitsGuest(f: number, state: number): boolean {
    const { records: r } = this;
    if (state === CONNECTING || state === TIME_WAIT) return false;
    if (r[f + SND_MAX] !== r[f + SND_UNA]) return true;
    return r[f + SND_WND] === 0 && (r[f + FLAGS]! & (READABLE | END_OF_STREAM)) === READABLE;
  }

  /** Sends again what the guest didn't acknowledge, or probes its window. False when the flow was given up. */
  private resend(flow: number): boolean {
    const { records: r, flows } = this;
    const f = flow * FLOW_WORDS;
    if (++r[f + RETRIES]! > MAX_RETRIES) {
      this.output.fail(flow);
      return false;
    }
    flows.armRetransmission(flow, r[f + RETRIES]!);
    if (r[f + SND_WND] === 0 && r[f + STATE] !== SYN_RECEIVED) {
      this.output.probe(flow);
      return true;
    }
    if (r[f + STATE] === SYN_RECEIVED) r[f + SND_NXT] = r[f + ISS]!;
    this.input.goBack(flow);
    return true;
  }
}
