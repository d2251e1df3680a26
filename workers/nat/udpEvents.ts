/** UDP as a worker sees it: its sockets' events, its timers, its turns. */
import { EPOLLERR, EPOLLIN } from '../engine/engine.js';
import { FD, FLAGS, FLOW_WORDS, READABLE } from '../flow.js';
import type { FlowProtocol } from '../flowProtocol.js';
import type { IcmpErrors } from './icmpErrors.js';
import type { UdpFlows } from './udpFlows.js';
import type { UdpOutput } from './udpOutput.js';

/** Errors that are taken off a socket's queue at a time: more than its buffer holds. */
const MAX_ERRORS = 1024;

export class UdpEvents implements FlowProtocol {
  constructor(
    private readonly udp: UdpFlows,
    private readonly output: UdpOutput,
    private readonly icmp: IcmpErrors,
  ) {}

  socket(flow: number, bits: number): void {
    const { flows } = this.udp;
    if ((bits & EPOLLERR) !== 0) this.takeErrors(flow);
    // An error may have kept the last call from receiving all there was.
    if ((bits & (EPOLLIN | EPOLLERR)) === 0) return;
    flows.records[flow * FLOW_WORDS + FLAGS]! |= READABLE;
    flows.list(flow);
  }

  /** What stays in the error queue would fill the socket's receive buffer. */
  private takeErrors(flow: number): void {
    const { records, engine } = this.udp.flows;
    const fd = records[flow * FLOW_WORDS + FD]!;
    for (let n = 0; n < MAX_ERRORS; n++) {
      const error = engine.takeError(fd);
      if (error < 0) return;
      if (error > 0) this.icmp.received(flow, error);
    }
  }

  timer(flow: number): void {
    this.udp.timer(flow);
  }

  run(flow: number): number {
    return this.output.run(flow);
  }
}
