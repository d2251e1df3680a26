/** A thread's connections by their local ports, and how they end. */
import { FlowState } from './flow.js';
import type { Failure, Flow } from './flow.js';

/** The first local port of a flow; what stands below has other uses, as DHCP's. */
export const LOWEST_PORT = 2_048;
const HIGHEST_PORT = 65_000;

/** A thread's first local port: each thread has those that are its number modulo `threads`. */
export function firstPort(thread: number, threads: number): number {
  return Math.ceil(LOWEST_PORT / threads) * threads + thread;
}

export class FlowTable {
  private readonly byPort: (Flow | undefined)[] = Array.from({ length: 65_536 }, () => undefined);
  private nextPort: number;

  /**
   * @param thread local ports that are this number modulo `threads` are the thread's
   * @param threads those of the device
   */
  constructor(
    thread: number,
    private readonly threads: number,
  ) {
    this.nextPort = firstPort(thread, threads);
  }

  find(localPort: number): Flow | undefined {
    return this.byPort[localPort];
  }

  /** Gives the flow the thread's next free port, so that each rests as long as possible. Returns false if there is none. */
  claimPort(flow: Flow): boolean {
    for (let tries = 0; tries < HIGHEST_PORT; tries += this.threads) {
      const port = this.nextPort;
      this.nextPort += this.threads;
      if (this.nextPort > HIGHEST_PORT)
        this.nextPort -= Math.floor((HIGHEST_PORT - LOWEST_PORT) / this.threads) * this.threads;
      if (this.byPort[port] === undefined) {
        this.byPort[port] = flow;
        flow.localPort = port;
        return true;
      }
    }
    flow.localPort = 0;
    return false;
  }

  /** The connection ends, and its handler is told why. */
  fail(flow: Flow, failure: Failure): void {
    this.forget(flow);
    flow.handler.failed(flow, failure);
  }

  /** The connection ends. */
  forget(flow: Flow): void {
    if (this.byPort[flow.localPort] === flow) this.byPort[flow.localPort] = undefined;
    flow.state = FlowState.CLOSED;
    flow.timerOn = false;
    flow.limitOn = false;
  }
}
