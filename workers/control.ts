/** The worker's end of the control and event rings: what the main thread asks for is done, then answered. */
import {
  QUEUE_CURRENT,
  QUEUE_LAST_AVAIL,
  QUEUE_OUTSTANDING,
  QUEUE_PUBLISHED,
  QUEUE_USED,
} from '../device/virtqueue.js';
import type { DeviceView, QueueView } from './deviceView.js';
import {
  ARGUMENTS,
  CONTROL_ATTACH,
  CONTROL_CALL_FD,
  CONTROL_DROP_FLOWS,
  CONTROL_ENABLE_QUEUE,
  CONTROL_FEATURES,
  CONTROL_KICK,
  CONTROL_MAP,
  CONTROL_START_QUEUE,
  CONTROL_STOP_QUEUE,
  CONTROL_THROW,
  CONTROL_UNMAP,
  DEVICE_OF,
  EVENT_DONE,
  EVENT_QUEUE_BROKEN,
  KIND,
  QUEUE_OF,
  STATUS_OK,
  TICKET,
  getNumber,
} from './messages.js';
import type { PollWorker } from './pollWorker.js';
import {
  CONTROL_CAPACITY,
  CONTROL_WORDS,
  EVENT_CAPACITY,
  EVENT_WORDS,
  type PoolMemory,
  STOP,
  WORKER_WORDS,
} from './poolMemory.js';
import { SpscRing } from './shared/spscRing.js';

const EIO = 5;
const EFAULT = 14;

export class Control {
  private readonly ring: SpscRing;
  private readonly events: SpscRing;
  private readonly stopping: QueueView[] = [];
  private readonly words: Int32Array;

  constructor(
    private readonly worker: PollWorker,
    memory: PoolMemory,
    private readonly number: number,
    private readonly eventFd: number,
  ) {
    this.ring = new SpscRing(memory.control[number]!, CONTROL_CAPACITY, CONTROL_WORDS);
    this.words = new Int32Array(memory.workerWords);
    this.events = new SpscRing(memory.events[number]!, EVENT_CAPACITY, EVENT_WORDS);
  }

  get pending(): boolean {
    return this.ring.peek() >= 0 || this.told;
  }

  /** The worker was told to end. */
  private get told(): boolean {
    return Atomics.load(this.words, this.number * WORKER_WORDS + STOP) === 1;
  }

  /** Handles what has come. Returns whether there was anything. */
  handle(): boolean {
    this.finishStops();
    this.worker.ended = this.told;
    let any = this.worker.ended;
    for (let at = this.ring.peek(); at >= 0 && !this.worker.ended; at = this.ring.peek()) {
      any = true;
      this.execute(this.ring.data, at);
      this.ring.release();
    }
    return any;
  }

  /** Tells the main thread that a queue can't go on, and stops serving it. */
  readonly broken = (queue: QueueView): void => {
    const reason = queue.virtqueue.broken;
    queue.started = false;
    if (queue.kickFd >= 0) this.worker.engine.unwatch(queue.kickFd);
    this.worker.queuesChanged();
    this.send(EVENT_QUEUE_BROKEN, queue.device, queue.index, reason);
  };

  private execute(data: Int32Array, at: number): void {
    const ticket = data[at + TICKET]!;
    const kind = data[at + KIND]!;
    if (kind === CONTROL_KICK) {
      this.worker.kick(data[at + DEVICE_OF]!, data[at + QUEUE_OF]!);
      return;
    }
    if (kind === CONTROL_STOP_QUEUE) {
      this.stopQueue(data, at, ticket);
      return;
    }
    if (kind === CONTROL_THROW) {
      this.worker.transmitPath.throwNext = true;
      this.done(ticket, STATUS_OK, 0);
      return;
    }
    this.done(ticket, this.deviceMessage(kind, data, at), 0);
  }

  /** Returns the status. */
  private deviceMessage(kind: number, data: Int32Array, at: number): number {
    const { worker } = this;
    const device = data[at + DEVICE_OF]!;
    const a = at + ARGUMENTS;
    if (kind === CONTROL_ATTACH) worker.attach(device, data[a]!, data[a + 1]!);
    const view = worker.devices[device];
    if (view === undefined) return STATUS_OK;
    const queue = view.queues[data[at + QUEUE_OF]!]!;
    if (kind === CONTROL_FEATURES) view.setFeatures(data[a]!, data[a + 1]!);
    else if (kind === CONTROL_MAP) return this.map(view, data, a);
    else if (kind === CONTROL_UNMAP) view.memory.clear();
    else if (kind === CONTROL_START_QUEUE) return this.startQueue(view, queue, data, a);
    else if (kind === CONTROL_ENABLE_QUEUE) this.enableQueue(queue, data[a]! !== 0);
    else if (kind === CONTROL_CALL_FD) this.setCallFd(queue, data[a]!);
    else if (kind === CONTROL_DROP_FLOWS) worker.dropFlows(device);
    return STATUS_OK;
  }

  private map(view: DeviceView, data: Int32Array, a: number): number {
    try {
      view.memory.map({
        fd: data[a]!,
        guestAddress: getNumber(data, a + 1),
        size: getNumber(data, a + 3),
        fileOffset: getNumber(data, a + 5),
      });
      return STATUS_OK;
    } catch (error) {
      return (error as { errno?: number }).errno ?? EIO;
    }
  }

  /** A queue's indices are set by the worker that serves it, unless it only resumes (last available index -1). */
  private startQueue(view: DeviceView, queue: QueueView, data: Int32Array, a: number): number {
    const lastAvail = data[a + 1]!;
    queue.kickFd = data[a + 2]!;
    queue.callFd = data[a + 3]!;
    const fresh = queue.mine && lastAvail >= 0;
    if (fresh) queue.state[QUEUE_LAST_AVAIL] = lastAvail;
    const place = {
      size: data[a]!,
      descTable: getNumber(data, a + 4),
      availRing: getNumber(data, a + 6),
      usedRing: getNumber(data, a + 8),
    };
    queue.stopping = 0;
    if (!view.start(queue, place)) return EFAULT;
    if (fresh) {
      const used = queue.virtqueue.usedIndexInRing();
      queue.state[QUEUE_USED] = used;
      queue.state[QUEUE_PUBLISHED] = used;
      queue.state[QUEUE_CURRENT] = -1;
      queue.state[QUEUE_OUTSTANDING] = 0;
      if (queue.control !== undefined) view.controlStarted(lastAvail);
    }
    queue.active = true;
    this.worker.watchKick(queue);
    this.worker.queuesChanged();
    this.setCallFd(queue, queue.callFd);
    return STATUS_OK;
  }

  private enableQueue(queue: QueueView, enabled: boolean): void {
    queue.enabled = enabled;
    queue.active = true;
    this.worker.queuesChanged();
  }

  /**
   * Interrupts the driver once through a call eventfd that is new to a started queue. One that came before may have been
   * lost while the queue was stopped, or between front ends; with EVENT_IDX (virtio 1.2 §2.7.10) no other would follow,
   * since its index lies behind already. A driver bears those that tell nothing new.
   */
  private setCallFd(queue: QueueView, callFd: number): void {
    queue.callFd = callFd;
    if (queue.mine && queue.started && callFd >= 0) this.worker.engine.signal(callFd);
  }

  /** Stops a queue once no chain of it is anywhere: held ones are given back first. */
  private stopQueue(data: Int32Array, at: number, ticket: number): void {
    const { worker } = this;
    const view = worker.devices[data[at + DEVICE_OF]!];
    const queue = view?.queues[data[at + QUEUE_OF]!];
    if (queue === undefined) {
      this.done(ticket, STATUS_OK, 0);
      return;
    }
    worker.flows.held.releaseQueue(worker.flows.records, queue.device, queue.index);
    queue.stopping = ticket;
    if (queue.mine && queue.kickFd >= 0 && queue.started) worker.engine.unwatch(queue.kickFd);
    worker.queuesChanged();
    this.stopping.push(queue);
    this.finishStops();
  }

  private finishStops(): void {
    const { worker } = this;
    for (let n = this.stopping.length - 1; n >= 0; n--) {
      const queue = this.stopping[n]!;
      if (queue.mine && queue.state[QUEUE_OUTSTANDING]! > 0) continue;
      if (queue.started && queue.control?.pending === true) continue;
      this.stopping.splice(n, 1);
      // A driver that sleeps until its chains come back must hear of them: nobody tells it once the queue is stopped.
      if (queue.mine && queue.started) {
        queue.virtqueue.publish();
        if (queue.callFd >= 0) worker.engine.signal(queue.callFd);
      }
      queue.started = false;
      queue.receive = undefined;
      const ticket = queue.stopping;
      queue.stopping = 0;
      worker.queuesChanged();
      this.done(ticket, STATUS_OK, queue.state[QUEUE_LAST_AVAIL]!);
    }
  }

  private done(ticket: number, status: number, value: number): void {
    this.send(EVENT_DONE, ticket, status, value);
  }

  private send(kind: number, a: number, b: number, c: number): void {
    const at = this.events.reserve();
    if (at < 0) return; // the main thread has asked for no more than the ring holds
    this.events.data[at] = kind;
    this.events.data[at + 1] = a;
    this.events.data[at + 2] = b;
    this.events.data[at + 3] = c;
    this.events.commit();
    this.events.publish();
    this.worker.engine.signal(this.eventFd);
  }
}
