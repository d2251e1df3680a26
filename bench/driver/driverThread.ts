/** One thread of the load driver: an event loop and the flows that its queue pairs carry. */
import { COMMANDS, Command } from './control.js';
import type { DeviceDescription } from './deviceDescription.js';
import { EventLoop } from './eventLoop.js';
import type { LoopOptions } from './eventLoop.js';
import { Flow, FlowState } from './flow.js';
import { NetworkState } from './network.js';
import { clock } from './scratch.js';
import { flowBytes } from './statistics.js';
import { TIMER_GRAIN_MS } from './tcp.js';
import { UdpFlow } from './udp.js';
import { createUdpWorkload } from './udpWorkloads.js';
import type { UdpWorkload } from './udpWorkloads.js';
import { IdleWorkload, SilentWorkload, createWorkload, isUdp } from './workloads.js';
import type { Workload, WorkloadContext, WorkloadOptions } from './workloads.js';

/** All that a thread needs; plain data and shared memory. */
export interface ThreadSetup {
  readonly device: DeviceDescription;
  readonly thread: number;
  /** By thread: the eventfd that wakes it. */
  readonly wakeFds: readonly number[];
  readonly networkWords: Int32Array;
  readonly statistics: Float64Array;
  readonly control: Int32Array;
  readonly loop: LoopOptions;
  readonly workload: WorkloadOptions;
}

export class DriverThread {
  private readonly loop: EventLoop;
  private readonly network: NetworkState;
  /** What the main flows do: over TCP, or over UDP. */
  private readonly main: Workload | undefined;
  private readonly udp: UdpWorkload | undefined;
  private readonly silent = new SilentWorkload();
  private readonly idle = new IdleWorkload();
  private readonly mainFlows: Flow[];
  private readonly silentFlows: Flow[];
  private readonly idleFlows: Flow[];
  private readonly context: WorkloadContext;
  /** Commands that have been obeyed. */
  private obeyed = 0;
  private nextTick = 0;
  private nextHop = 0;
  /** By main flow of this thread: bytes of its connections that are gone. */
  private readonly bytesBefore: number[];

  constructor(private readonly setup: ThreadSetup) {
    const { device, thread, workload } = setup;
    const { kind, bytes, verify } = workload;
    const udp = isUdp(kind) ? createUdpWorkload(kind, bytes, verify) : undefined;
    const main = isUdp(kind) ? undefined : createWorkload(kind, verify);
    this.mainFlows = main ? this.dealTcp(workload.flows, main) : [];
    this.silentFlows = this.dealTcp(workload.stalled, this.silent);
    this.idleFlows = this.dealTcp(workload.idle, this.idle);
    const udpFlows = udp ? this.deal(workload.flows, (n, pair) => new UdpFlow(n, pair, udp)) : [];
    for (const flow of udpFlows) udp?.add(flow);
    this.main = main;
    this.udp = udp;
    this.bytesBefore = this.mainFlows.map(() => 0);
    this.network = new NetworkState(setup.networkWords);
    this.loop = new EventLoop(
      device,
      thread,
      setup.wakeFds,
      [...this.mainFlows, ...this.silentFlows, ...this.idleFlows],
      udpFlows,
      this.network,
      setup.statistics,
      setup.loop,
    );
    this.context = {
      tcp: this.loop.tcp,
      udp: this.loop.udp,
      memory: this.loop.memory,
      pattern: device.pattern,
      statistics: setup.statistics,
      control: setup.control,
      options: workload,
      timeoutMs: setup.loop.timeoutMs,
      pairs: device.pairs.length,
      running: false,
    };
    for (const each of [this.main, this.udp, this.silent, this.idle]) each?.bind(this.context);
  }

  /** Runs until told to stop. */
  run(): void {
    while (this.turn(TIMER_GRAIN_MS));
  }

  /** One turn of the event loop. Returns false once told to stop. */
  turn(maxWaitMs: number): boolean {
    this.loop.turn(maxWaitMs);
    const commands = Atomics.load(this.setup.control, COMMANDS);
    if (commands !== this.obeyed && this.network.up) this.obey(commands);
    if (((clock[0] - this.nextTick) | 0) >= 0) this.tick();
    return (commands & Command.STOP) === 0;
  }

  close(): void {
    this.loop.close();
  }

  private dealTcp(count: number, handler: Workload): Flow[] {
    return this.deal(count, (n, pair) => {
      const flow = new Flow(n, handler);
      flow.pair = flow.wantedPair = pair;
      return flow;
    });
  }

  /** This thread's share of `count` flows: flow n sends on queue pair n mod pairs. `create` is told which of the thread's. */
  private deal<Dealt>(count: number, create: (n: number, pair: number) => Dealt): Dealt[] {
    const { device, thread } = this.setup;
    const own: Dealt[] = [];
    for (let n = 0; n < count; n++) {
      const pair = n % device.pairs.length;
      if (pair % device.threads === thread) own.push(create(n, Math.floor(pair / device.threads)));
    }
    return own;
  }

  private obey(commands: number): void {
    const begun = commands & ~this.obeyed;
    const ended = this.obeyed & ~commands;
    this.obeyed = commands;
    this.context.running = (commands & Command.RUN) !== 0;
    // Set-up connects have no limit on their number; the rings hold what fits and the rest waits its turn.
    if (begun & Command.RUN) {
      if (this.main) this.startAll(this.mainFlows, this.main);
      this.udp?.start();
    }
    if (ended & Command.RUN) this.udp?.stop();
    if (begun & Command.STALL) this.startAll(this.silentFlows, this.silent);
    if (begun & Command.IDLE) for (const flow of this.idleFlows) this.idle.add(flow);
    if (begun & Command.PING) for (const flow of this.idleFlows) this.idle.ping(flow);
  }

  private startAll(flows: readonly Flow[], workload: Workload): void {
    for (const flow of flows) if (flow.state === FlowState.CLOSED) workload.start(flow);
  }

  /** What is done from time to time. */
  private tick(): void {
    const now = clock[0];
    this.nextTick = (now + TIMER_GRAIN_MS) | 0;
    if (!this.network.up) return;
    if (this.context.running) {
      this.main?.tick();
      this.udp?.tick();
    }
    this.silent.tick();
    this.idle.tick();
    this.countBytes();
    const { hopMs } = this.setup.workload;
    if (hopMs > 0 && ((now - this.nextHop) | 0) >= 0) {
      this.nextHop = (now + hopMs) | 0;
      for (const flow of this.mainFlows) flow.wantedPair = (flow.wantedPair + 1) % this.loop.pairs.length;
      this.udp?.hop(this.loop.pairs.length);
    }
  }

  /** Updates the byte counts of the main flows of TCP. */
  private countBytes(): void {
    const { device, statistics } = this.setup;
    const at = flowBytes(device.pairs.length);
    for (const [n, flow] of this.mainFlows.entries()) {
      const seen = statistics[at + flow.index] - this.bytesBefore[n];
      const bytes = flow.sndUna + flow.received;
      // A new connection begins at 0 again.
      if (bytes < seen) this.bytesBefore[n] += seen;
      statistics[at + flow.index] = this.bytesBefore[n] + bytes;
    }
  }
}
