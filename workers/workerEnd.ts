/** The main thread's end of one worker: its rings, descriptors, and the requests that it has yet to answer. */
import { addon } from '../src/native/addon.js';
import type { FdWatcher } from '../src/native/addon.js';
import { type Answer, CONTROL_KICK, DEVICE_OF, KIND, QUEUE_OF, TICKET } from './messages.js';
import { Obeyed } from './obeyed.js';
import {
  CONTROL_CAPACITY,
  CONTROL_WORDS,
  EVENT_CAPACITY,
  EVENT_WORDS,
  type PoolMemory,
  SLEEPING,
  WORKER_WORDS,
} from './poolMemory.js';
import { SpscRing } from './shared/spscRing.js';

/** The answer of a worker that is no more: ESRCH. */
const NO_WORKER: Answer = { status: 3, value: 0 };

/** A control message, and who waits for its answer. */
interface Request {
  readonly words: readonly number[];
  readonly resolve: (answer: Answer) => void;
}

export class WorkerEnd {
  readonly epoll = addon.epollCreate();
  readonly wakeFd = addon.eventfdCreate();
  readonly eventFd = addon.eventfdCreate();
  private readonly control: SpscRing;
  readonly events: SpscRing;
  readonly obeyed = new Obeyed();
  watcher: FdWatcher | undefined;
  task: Promise<void> = Promise.resolve();
  /** When it died within the last minute, ms since 1970. */
  deaths: number[] = [];
  /** The cycles that its predecessors had done when it was started, modulo 2^32. */
  cyclesAtStart = 0;
  /** Starts in a row that came to no cycle. */
  failedStarts = 0;
  /** Requests that have no place in its ring yet. */
  private readonly waiting: Request[] = [];
  /** Requests in its ring, or consumed but not answered yet, by ticket and in order. */
  private readonly tickets = new Map<number, Request>();
  private ended = false;

  /**
   * @param words all workers' words
   * @param cpu the CPU that it is bound to; -1: none
   */
  constructor(
    private readonly memory: PoolMemory,
    private readonly words: Int32Array,
    readonly number: number,
    readonly cpu: number,
  ) {
    this.control = new SpscRing(memory.control[number]!, CONTROL_CAPACITY, CONTROL_WORDS);
    this.events = new SpscRing(memory.events[number]!, EVENT_CAPACITY, EVENT_WORDS);
  }

  /** Sends a message, with its ticket, and awaits the answer. */
  request(words: readonly number[]): Promise<Answer> {
    if (this.ended) return Promise.resolve(NO_WORKER);
    return new Promise((resolve) => {
      this.waiting.push({ words, resolve });
      this.post();
    });
  }

  /** Puts the requests that wait into the ring, as far as they fit, and wakes the worker. */
  post(): void {
    while (this.waiting.length > 0) {
      const at = this.control.reserve();
      if (at < 0) break;
      const request = this.waiting.shift()!;
      request.words.forEach((word, place) => (this.control.data[at + place] = word));
      this.tickets.set(request.words[TICKET]!, request);
      this.control.commit();
    }
    this.control.publish();
    addon.eventfdSignal(this.wakeFd);
  }

  /** The worker answered a request. */
  answered(ticket: number, answer: Answer): void {
    const request = this.tickets.get(ticket);
    if (request === undefined) return;
    this.tickets.delete(ticket);
    if (answer.status === 0) this.obeyed.note(request.words);
    request.resolve(answer);
  }

  /**
   * Tells it of a driver's notification, and wakes it only if it sleeps. Returns false when its ring has no place. A
   * successor of a dead worker needs none: it looks at all queues.
   */
  kick(device: number, queue: number): boolean {
    if (this.ended) return true;
    // The last place is for requests: only the answer to one lets those that wait go on.
    if (this.control.free() < 2) return false;
    const { data } = this.control;
    const at = this.control.reserve();
    data[at + KIND] = CONTROL_KICK;
    data[at + DEVICE_OF] = device;
    data[at + QUEUE_OF] = queue;
    this.control.commit();
    this.control.publish();
    if (Atomics.load(this.words, this.number * WORKER_WORDS + SLEEPING) === 1) addon.eventfdSignal(this.wakeFd);
    return true;
  }

  /** Nobody answers there any more: whoever waits is told so. */
  giveUp(): void {
    this.ended = true;
    for (const { resolve } of this.waiting.splice(0)) resolve(NO_WORKER);
    for (const { resolve } of this.tickets.values()) resolve(NO_WORKER);
    this.tickets.clear();
  }

  /** Makes its successor begin with an empty ring: what isn't answered is to be asked again. */
  takeBackRequests(): void {
    const consumer = new SpscRing(this.memory.control[this.number]!, CONTROL_CAPACITY, CONTROL_WORDS);
    while (consumer.peek() >= 0) consumer.release();
    this.waiting.unshift(...this.tickets.values());
    this.tickets.clear();
  }

  closeDescriptors(): void {
    this.watcher?.close();
    for (const fd of [this.epoll, this.wakeFd, this.eventFd]) addon.close(fd);
  }
}
