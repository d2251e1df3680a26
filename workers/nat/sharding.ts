/** Which worker a packet is for. */
import type { Origin } from './guestLink.js';

/** Go on with the packet here. */
export const PROCEED = -1;

/** The addresses and ports of a packet from the guest: IPv4 addresses as int32, source port << 16 | destination port. */
export interface FlowTuple {
  readonly source: number;
  readonly destination: number;
  readonly ports: number;
}

export interface Sharding {
  /** The packet is of a flow of this worker's: takes note of where it came from. A result but PROCEED ends its way here. */
  known(flow: number, origin: Origin): number;
  /**
   * The packet is of no flow of this worker's.
   * @param key as KEY in a flow's record
   * @param opens it opens a flow where there is none
   */
  unknown(tuple: FlowTuple, key: number, opens: boolean, origin: Origin): number;
  /** A packet that `unknown` let proceed was dealt with: a flow was opened, or not. */
  opened(tuple: FlowTuple, key: number): void;
}
