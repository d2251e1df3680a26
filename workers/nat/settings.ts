/** What a worker's NAT is told at its start, and how long things last. */
import type { HostKernel } from '../hostKernel.js';
import type { EgressSettings } from './egress.js';

/** TCP's times, in ms. */
export interface TcpTimes {
  /** A connect without an answer ends. */
  readonly connect: number;
  /** Idle established flows end: at least 2 h 4 min (RFC 5382 REQ-5). */
  readonly established: number;
  /** Flows that one side has finished, or that wait for the guest's first ACK, end: at least 4 min (RFC 5382 REQ-5). */
  readonly transitory: number;
  /** TIME_WAIT. The wire to the guest has no length: this waits for its retransmissions only. */
  readonly timeWait: number;
}

export const DEFAULT_TCP_TIMES: TcpTimes = {
  connect: 3_000,
  established: 7_440_000,
  transitory: 240_000,
  timeWait: 1_000,
};

/** UDP's times, in ms. */
export interface UdpTimes {
  /** A flow without datagrams ends: at least 2 minutes, better 5 (RFC 4787 REQ-5). */
  readonly idle: number;
  /** One to a name server ends so long after an answer: who asks has no more to ask from this port (REQ-5a). */
  readonly answeredQuery: number;
}

export const DEFAULT_UDP_TIMES: UdpTimes = { idle: 300_000, answeredQuery: 30_000 };

export interface NatSettings extends EgressSettings, HostKernel {
  readonly times: TcpTimes;
  readonly udpTimes: UdpTimes;
  readonly seed: number;
}
