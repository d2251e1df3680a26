/** What a worker asks of the protocol that a flow is of. */
import { FLOW_WORDS, KEY, UDP_KEY } from './flow.js';

/** What became of a flow's turn. */
export const OUTPUT_DONE = 0;
/** There is more, after the others had their turn. */
export const OUTPUT_MORE = 1;
/** No receive buffers. */
export const OUTPUT_BLOCKED = 2;
/** This worker serves no receive queue of the device. */
export const OUTPUT_NO_SINK = 3;

export interface FlowProtocol {
  /** Events of the flow's socket, as epoll names them. */
  socket(flow: number, bits: number): void;
  /** The flow's timer fired: does what is due, and sets it anew. */
  timer(flow: number): void;
  /** Gives the flow its turn to send to the guest. Returns one of OUTPUT_…. */
  run(flow: number): number;
}

export function isUdp(records: Int32Array, flow: number): boolean {
  return (records[flow * FLOW_WORDS + KEY]! & UDP_KEY) !== 0;
}

/** Asks each flow's own protocol. */
export class Protocols implements FlowProtocol {
  constructor(
    private readonly records: Int32Array,
    private readonly tcp: FlowProtocol,
    private readonly udp: FlowProtocol,
  ) {}

  private of(flow: number): FlowProtocol {
    return isUdp(this.records, flow) ? this.udp : this.tcp;
  }

  socket(flow: number, bits: number): void {
    this.of(flow).socket(flow, bits);
  }

  timer(flow: number): void {
    this.of(flow).timer(flow);
  }

  run(flow: number): number {
    return this.of(flow).run(flow);
  }
}
