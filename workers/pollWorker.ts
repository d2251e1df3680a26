/**
 * A poll worker: one thread that serves its queue pairs, its flows' sockets and its timers, in cycles:
 * wait → events → messages → transmit queues by budget → timers → what the guest gets → flush.
 *
 * All that must outlive the thread lies in shared memory or in the kernel, so a worker that died is replaced by one that
 * is constructed over the same memory.
 */
import { BROKEN_CALL, QUEUE_CURRENT, QUEUE_INTERRUPTS, QUEUE_KICKS } from '../device/virtqueue.js';
import type { Addon } from '../src/native/addon.js';
import { ControlQueueServer } from './controlQueueServer.js';
import { C, type Counters } from './counters.js';
import { CycleBarrier } from './cycleBarrier.js';
import { BATCH_FIRST, DeviceView, type QueueView } from './deviceView.js';
import { EINTR, type Engine, type EngineName } from './engine/engine.js';
import {
  ACK_NOW,
  DEVICE,
  FD,
  FLAGS,
  FLOW_WORDS,
  FREE,
  GENERATION,
  HELD_FIRST,
  READABLE,
  STATE,
  TIME_WAIT,
} from './flow.js';
import { Handoff } from './handoff.js';
import { HANDOFF_BUDGET, HandoffInput } from './handoffInput.js';
import { HeldChains } from './heldChains.js';
import type { FlowProtocol } from './flowProtocol.js';
import type { FlowHost } from './nat/flows.js';
import type { GuestLink } from './nat/guestLink.js';
import { createNat } from './nat/createNat.js';
import type { NatSettings } from './nat/settings.js';
import { TcpFlows } from './nat/tcpFlows.js';
import { UdpMappings } from './nat/udpMappings.js';
import { OutputTurns } from './outputTurns.js';
import {
  FREE_RECORDS,
  HANDOFF_CAPACITY,
  HEARTBEAT,
  type PoolMemory,
  SLEEPING,
  WORKER_WORDS,
  netState,
  queueState,
} from './poolMemory.js';
import { Shard } from './shard.js';
import { SpinBudget } from './spinBudget.js';
import { INTERRUPT, PUBLISHED, type StageTimer, createStageTimer } from './stageTimer.js';
import { TransmitPath } from './transmitPath.js';
import { WorkerThread } from './workerThread.js';

const FIRED = 256;
/** Tokens of events that aren't sockets': the wake eventfd, and kicks from here down. */
const WAKE_TOKEN = -1;
const KICK_TOKEN = -2;
/** How long a queue without a kick eventfd goes unlooked at, ms. */
const POLLED_MS = 1;
/** How soon a flow that has to move to another worker tries again, ms. */
const HOMELESS_MS = 10;

export interface WorkerSettings extends NatSettings {
  readonly worker: number;
  readonly memory: PoolMemory;
  readonly engine: EngineName;
  readonly epoll: number;
  readonly wakeFds: readonly number[];
}

export class PollWorker implements FlowHost {
  readonly devices: (DeviceView | undefined)[] = [];
  readonly thread: WorkerThread;
  readonly engine: Engine;
  readonly flows: TcpFlows;
  readonly handoff: Handoff;
  readonly counters: Counters;
  /** Set once the main thread wants the worker to end: the cycle ends for good. */
  ended = false;
  readonly transmitPath: TransmitPath;

  private readonly iovecs: Uint32Array;
  private readonly turns: OutputTurns;
  private readonly protocols: FlowProtocol;
  private readonly handoffInput: HandoffInput;
  private readonly words: Int32Array;
  private readonly wordsAt: number;
  private readonly fired = new Int32Array(FIRED);
  /** Queues that this worker serves and that run. Each cycle walks it by index: until it is optimized, for-of allocates. */
  private mine: QueueView[] = [];
  private anyPolled = false;
  private readonly timer: StageTimer;
  private readonly spin = new SpinBudget();
  /** Whether the next cycle looks for work itself, instead of being told. */
  private spinning = false;

  /** @param thread what another worker of this thread left; made anew if left out */
  constructor(
    private readonly addon: Addon,
    readonly settings: WorkerSettings,
    thread?: WorkerThread,
  ) {
    const { memory, worker } = settings;
    this.counters = new Float64Array(memory.counters[worker]!);
    this.thread = thread ?? new WorkerThread(addon, settings, this.counters);
    this.iovecs = this.thread.iovecs;
    this.engine = this.thread.engine;
    this.timer = createStageTimer(addon, this.thread.clock, memory.stages[worker]);
    this.words = new Int32Array(memory.workerWords);
    this.wordsAt = worker * WORKER_WORDS;
    const freeWord = this.words.subarray(this.wordsAt + FREE_RECORDS, this.wordsAt + FREE_RECORDS + 1);
    const shard = new Shard(new Int32Array(memory.shards[worker]!), memory.seed, freeWord);
    const held = new HeldChains(new Int32Array(memory.held[worker]!), (origin) => this.transmitPath.giveBack(origin));
    this.flows = new TcpFlows(shard, this.engine, held, this.counters, settings, this, memory);
    const { devices, flows, counters, iovecs, timer } = this;
    const mappings = new UdpMappings(shard, memory.seed);
    const handoff = new Handoff(worker, memory, flows, mappings, settings.wakeFds);
    const drainHeld = (flow: number): void => this.transmitPath.drainHeld(flow);
    const { discardRegion } = this.thread;
    const parts = createNat(flows, mappings, handoff, iovecs, BATCH_FIRST, discardRegion, drainHeld);
    const { nat, tcpInput } = parts;
    this.handoff = handoff;
    this.protocols = parts.protocols;
    const pairs = memory.devices * memory.pairs;
    this.turns = new OutputTurns(worker, memory.workers, devices, flows, this.protocols, handoff, timer, pairs);
    this.transmitPath = new TransmitPath(
      worker,
      devices,
      flows.records,
      iovecs,
      nat,
      tcpInput,
      handoff,
      counters,
      timer,
    );
    this.handoffInput = new HandoffInput(worker, handoff, nat, this.transmitPath);
    this.engine.watchEventfd(settings.wakeFds[worker]!, WAKE_TOKEN, 0);
  }

  // -- devices ---------------------------------------------------------------------------------------------------------

  link(device: number): GuestLink {
    return this.devices[device]!;
  }

  flowClosed(flow: number): void {
    this.handoff.flowClosed(flow);
  }

  attach(device: number, pairs: number, mtu: number): DeviceView {
    const { memory, worker } = this.settings;
    const view = new DeviceView(
      this.addon,
      this.iovecs,
      device,
      pairs,
      (queue) => queueState(memory, device, queue),
      (pair) => pair % memory.workers === worker,
      netState(memory, device),
    );
    view.mtu = mtu;
    this.attachControl(view);
    this.devices[device] = view;
    this.transmitPath.attach(view);
    return view;
  }

  /** Whether a queue of any device runs, whoever serves it. */
  get serving(): boolean {
    return this.devices.some((view) => view?.queues.some(({ started }) => started) === true);
  }

  /** Gives the control queue to the worker that serves it. */
  private attachControl(view: DeviceView): void {
    const { memory, worker, wakeFds } = this.settings;
    const queue = view.controlQueue;
    if (!queue.mine) return;
    queue.control = new ControlQueueServer(
      queue,
      view.memory,
      this.iovecs,
      view.pairs,
      () => view.multiqueue,
      netState(memory, view.index),
      new CycleBarrier(worker, memory, this.engine, wakeFds),
      this.counters,
      () => this.queuesChanged(),
    );
  }

  /** Obeys drivers that changed how many queue pairs they use, before this cycle fills any buffer. */
  private noteActivePairs(): void {
    for (let n = 0; n < this.devices.length; n++) {
      if (this.devices[n]?.activePairsChanged() !== true) continue;
      this.queuesChanged();
      return;
    }
  }

  /** Listens to a started queue's kicks. */
  watchKick(queue: QueueView): void {
    if (!queue.mine || queue.kickFd < 0) return;
    const token = KICK_TOKEN - (queue.device * 1024 + queue.index);
    this.engine.unwatch(queue.kickFd);
    this.engine.watchEventfd(queue.kickFd, token, queue.generation);
  }

  /** Queues came or went: looks anew which are to be served, and lets waiting flows try again. */
  queuesChanged(): void {
    this.mine = [];
    this.anyPolled = false;
    for (const view of this.devices) {
      if (view === undefined) continue;
      view.findSinks();
      for (const queue of view.queues) {
        if (!queue.mine || !queue.started) continue;
        this.mine.push(queue);
        if (queue.kickFd < 0) this.anyPolled = true;
      }
    }
    this.flows.wakeWaiting();
  }

  /** Drops all flows of a device whose queues are stopped, those that are on their way to this worker too. */
  dropFlows(device: number): void {
    for (let n = 0; n < HANDOFF_CAPACITY; n += HANDOFF_BUDGET) this.handoffInput.receive();
    const r = this.flows.records;
    for (let flow = 0; flow < this.flows.shard.capacity; flow++) {
      const f = flow * FLOW_WORDS;
      if (r[f + STATE] !== FREE && r[f + DEVICE] === device) this.flows.close(flow, true);
    }
  }

  /** After a predecessor's death: drops what it died on, listens to all flows anew, looks at everything. */
  takeOver(): void {
    const r = this.flows.records;
    for (const queue of this.mine) {
      const current = queue.state[QUEUE_CURRENT]!;
      if (current >= 0) queue.virtqueue.pushUsed(current, 0);
      queue.state[QUEUE_CURRENT] = -1;
      queue.active = true;
      this.interrupt(queue); // the predecessor may have put one off
    }
    for (let flow = 0; flow < this.flows.shard.capacity; flow++) {
      if (r[flow * FLOW_WORDS + STATE] !== FREE) this.takeOverFlow(flow);
    }
    this.counters[C.takeovers]!++;
  }

  private takeOverFlow(flow: number): void {
    const r = this.flows.records;
    const f = flow * FLOW_WORDS;
    this.flows.arm(flow, this.flows.now);
    if (r[f + FD]! < 0) {
      // In TIME_WAIT the socket is closed; any other flow died before it had one.
      if (r[f + STATE] !== TIME_WAIT) this.flows.close(flow, true);
      return;
    }
    this.engine.unwatch(r[f + FD]!);
    this.flows.watch(flow);
    r[f + FLAGS]! |= READABLE | ACK_NOW;
    this.flows.list(flow);
    if (r[f + HELD_FIRST]! >= 0) this.transmitPath.drainHeld(flow);
  }

  // -- the cycle -------------------------------------------------------------------------------------------------------

  /** One cycle. `control` handles control messages and tells whether there were any; `broken` is told of queues that can't go on. */
  cycle(control: () => boolean, controlPending: () => boolean, broken: (queue: QueueView) => void): void {
    this.counters[C.cycles]!++;
    Atomics.add(this.words, this.wordsAt + HEARTBEAT, 1);
    const events = this.engine.wait(this.sleep(controlPending));
    Atomics.store(this.words, this.wordsAt + SLEEPING, 0);
    this.timer.start();
    this.noteActivePairs();
    this.turns.retryHomeless();
    this.handleEvents(events);
    const handed = this.handoffInput.receive();
    if (control() && this.ended) return;
    const sent = this.transmit();
    this.fireTimers();
    this.flows.flushDelayed();
    this.turns.run();
    this.flush(broken);
    this.spinning = this.spin.again(this.engine.clock[1]!, events > 0 || handed || sent);
  }

  /** How long to wait: 0 if there is work or likely to be, else until the next timer, with the driver asked to kick. */
  private sleep(controlPending: () => boolean): number {
    if (this.spinning || this.flows.listed.length > 0 || this.anyActive()) return 0;
    Atomics.store(this.words, this.wordsAt + SLEEPING, 1);
    if (controlPending() || this.handoff.pending) return 0;
    this.counters[C.sleeps]!++;
    let timeout = earlier(this.flows.shard.wheel.timeout(this.flows.now), this.flows.delayLeft);
    for (let n = 0; n < this.mine.length; n++)
      timeout = earlier(timeout, this.mine[n]!.moderation.left(this.flows.now));
    if (this.anyPolled) return earlier(timeout, POLLED_MS);
    return this.turns.anyHomeless ? earlier(timeout, HOMELESS_MS) : timeout;
  }

  private anyActive(): boolean {
    for (let n = 0; n < this.mine.length; n++) {
      if (this.mine[n]!.active && this.mine[n]!.receive === undefined) return true;
    }
    return false;
  }

  private handleEvents(count: number): void {
    const { events } = this.engine;
    for (let n = 0; n < count; n++) {
      const token = events[3 * n]!;
      const generation = events[3 * n + 1]!;
      if (token >= 0) {
        if (this.flows.records[token * FLOW_WORDS + GENERATION] !== generation) continue;
        if (this.flows.records[token * FLOW_WORDS + STATE] !== FREE) this.protocols.socket(token, events[3 * n + 2]!);
      } else if (token <= KICK_TOKEN) this.kickedByEventfd(KICK_TOKEN - token, generation);
    }
  }

  private kickedByEventfd(number: number, generation: number): void {
    const device = number >>> 10;
    const index = number & 1023;
    if (this.devices[device]?.queues[index]?.generation === generation) this.kick(device, index);
  }

  /** The driver notified a queue. */
  kick(device: number, index: number): void {
    const queue = this.devices[device]?.queues[index];
    if (queue === undefined || !queue.started) return;
    this.counters[C.kicks]!++;
    queue.state[QUEUE_KICKS]!++;
    if (queue.receive === undefined) queue.active = true;
    else this.flows.wakeWaiting();
  }

  /** Serves the transmit queues that have something, or may have. Whether any had. */
  private transmit(): boolean {
    let any = false;
    for (let n = 0; n < this.mine.length; n++) {
      const queue = this.mine[n]!;
      if (queue.control !== undefined) {
        if (queue.active || queue.kickFd < 0) queue.control.serve();
        continue;
      }
      if (queue.receive !== undefined || queue.stopping !== 0) continue;
      if (queue.active || this.spinning || queue.kickFd < 0) any = this.transmitPath.serve(queue, this.spinning) || any;
    }
    return any;
  }

  private fireTimers(): void {
    const fired = this.flows.shard.wheel.advance(this.flows.now, this.fired);
    for (let n = 0; n < fired; n++) this.protocols.timer(this.fired[n]!);
  }

  /** Shows drivers and workers what this cycle did. */
  private flush(broken: (queue: QueueView) => void): void {
    for (let n = 0; n < this.mine.length; n++) {
      const queue = this.mine[n]!;
      if (this.publish(queue)) {
        this.timer.end(PUBLISHED);
        this.interrupt(queue);
        this.timer.end(INTERRUPT);
      }
      if (queue.virtqueue.broken !== 0) broken(queue);
    }
    this.handoff.flush();
  }

  private publish(queue: QueueView): boolean {
    const moderated = queue.receive === undefined && queue.control === undefined;
    return moderated ? queue.moderation.publish(this.flows.now) : queue.virtqueue.publish();
  }

  private interrupt(queue: QueueView): void {
    if (queue.callFd < 0) return;
    this.counters[C.interrupts]!++;
    queue.state[QUEUE_INTERRUPTS]!++;
    // Only a write that was waiting is interrupted: see stuckCalls.ts.
    if (this.engine.signal(queue.callFd) === -EINTR) queue.virtqueue.broken = BROKEN_CALL;
  }
}

/** The earlier of two time-outs, of which -1 never comes. */
function earlier(a: number, b: number): number {
  if (a < 0) return b;
  return b < 0 ? a : Math.min(a, b);
}
