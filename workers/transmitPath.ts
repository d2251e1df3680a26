/**
 * The way of frames from the guest: a chain of a transmit queue, read as a frame, through the NAT, and given back; whether
 * the queue is this worker's, or another worker handed the chain over.
 */
import { TransmitFrame } from '../device/transmitQueue.js';
import { QUEUE_CURRENT, QUEUE_OUTSTANDING } from '../device/virtqueue.js';
import { C, type Counters } from './counters.js';
import type { DeviceView, QueueView } from './deviceView.js';
import { DEVICE, FLOW_WORDS } from './flow.js';
import { AWAY, COMPLETE, type Handoff, PACKET, PARK, RETURN } from './handoff.js';
import { SMALL_FRAME } from './interruptModeration.js';
import { DONE, Origin } from './nat/guestLink.js';
import type { Nat } from './nat/nat.js';
import type { TcpInput } from './nat/tcpInput.js';
import { PARSED, SENT, type StageTimer } from './stageTimer.js';

/** Chains of one transmit queue per cycle. */
const TX_BUDGET = 64;

export class TransmitPath {
  /** For tests: the next chain taken makes the worker throw. */
  throwNext = false;

  private readonly origin = new Origin();
  private readonly heldOrigin = new Origin();
  private readonly frames = new Map<number, TransmitFrame>();

  /**
   * @param records the flows' records
   * @param iovecs scratch of [region, offset, length] triples
   */
  constructor(
    private readonly worker: number,
    private readonly devices: readonly (DeviceView | undefined)[],
    private readonly records: Int32Array,
    private readonly iovecs: Uint32Array,
    private readonly nat: Nat,
    private readonly input: TcpInput,
    private readonly handoff: Handoff,
    private readonly counters: Counters,
    private readonly timer: StageTimer,
  ) {}

  /** A device came: its frames will be read. */
  attach(view: DeviceView): void {
    this.frames.set(view.index, new TransmitFrame(view.memory, this.iovecs, view.transmitRules));
  }

  /**
   * Takes what waits in a transmit queue of this worker's, by budget.
   * @param looking the worker looks for more by itself: the driver need not notify
   * @returns whether there was anything
   */
  serve(queue: QueueView, looking: boolean): boolean {
    const { virtqueue } = queue;
    queue.parked = false;
    let waiting = virtqueue.poll();
    if (waiting === 0) {
      if (looking) return false;
      waiting = virtqueue.enableNotifications();
      queue.active = waiting > 0;
      if (waiting === 0) return false;
    }
    virtqueue.disableNotifications();
    queue.active = true;
    const budget = Math.min(waiting, TX_BUDGET);
    for (let n = 0; n < budget; n++) {
      const head = virtqueue.headAt(0);
      if (head < 0) break;
      queue.state[QUEUE_CURRENT] = head;
      virtqueue.take(1);
      const result = this.transmitChain(queue, head);
      queue.state[QUEUE_CURRENT] = -1;
      if (result === DONE) virtqueue.pushUsed(head, 0);
      else if (result === AWAY) queue.state[QUEUE_OUTSTANDING]!++;
      if (result !== PARK) continue;
      virtqueue.take(-1);
      queue.parked = true;
      break;
    }
    this.nat.flush();
    return true;
  }

  /** Handles one chain of a queue of ours. */
  private transmitChain(queue: QueueView, head: number): number {
    if (this.throwNext) {
      this.throwNext = false;
      throw new Error('injected fault');
    }
    if (!queue.enabled) return DONE;
    const { origin } = this;
    origin.worker = this.worker;
    origin.device = queue.device;
    origin.queue = queue.index;
    origin.pair = queue.index >> 1;
    origin.head = head;
    return this.frameOf(queue, head, origin);
  }

  private frameOf(queue: QueueView, head: number, origin: Origin): number {
    const frame = this.frames.get(queue.device)!;
    const { headerSize } = this.devices[queue.device]!;
    if (!queue.virtqueue.walk(head, 0) || !frame.read(queue.virtqueue, headerSize)) {
      this.counters[C.malformedChains]!++;
      return DONE;
    }
    if (frame.length > SMALL_FRAME) queue.moderation.urgent = true;
    this.timer.end(PARSED);
    const result = this.nat.input(frame, origin);
    this.timer.end(SENT);
    return result;
  }

  /** A chain is done with: back to its queue, or to the worker whose queue it is. */
  giveBack(origin: Origin): void {
    if (origin.worker !== this.worker) {
      this.handoff.answer(COMPLETE, origin);
      return;
    }
    const queue = this.devices[origin.device]?.queues[origin.queue];
    if (queue?.started !== true) return;
    queue.virtqueue.pushUsed(origin.head, 0);
    queue.moderation.urgent = true;
  }

  /** The socket of a flow takes more: it gets what is held. */
  drainHeld(flow: number): void {
    const device = this.records[flow * FLOW_WORDS + DEVICE]!;
    const frame = this.frames.get(device)!;
    this.input.drainHeld(flow, frame, (origin) => this.reread(origin, frame), this.heldOrigin);
  }

  private reread(origin: Origin, frame: TransmitFrame): boolean {
    const view = this.devices[origin.device]!;
    const queue = view.queues[origin.queue]!;
    return queue.started && queue.virtqueue.walk(origin.head, 0) && frame.read(queue.virtqueue, view.headerSize);
  }

  /** A packet of another worker's, or one of ours that comes back. `deadly`: our predecessor died on it, it is dropped. */
  handed(kind: number, from: number, device: number, index: number, head: number, deadly: boolean): void {
    const queue = this.devices[device]?.queues[index];
    const { origin } = this;
    origin.worker = from;
    origin.device = device;
    origin.queue = index;
    origin.pair = index >> 1;
    origin.head = head;
    if (kind === PACKET) {
      this.counters[C.handoffsIn]!++;
      const usable = !deadly && queue !== undefined && queue.started && queue.stopping === 0;
      const result = usable ? this.frameOf(queue, head, origin) : DONE;
      if (result === DONE) this.handoff.answer(COMPLETE, origin);
      else if (result === AWAY || result === PARK) this.handoff.answer(RETURN, origin);
      return;
    }
    if (queue === undefined) return;
    queue.moderation.urgent = true;
    if (!deadly) {
      this.handoff.answered(from);
      queue.state[QUEUE_OUTSTANDING]!--;
    }
    if (!deadly && kind === RETURN && queue.started && queue.stopping === 0) this.returned(queue, head);
    else queue.virtqueue.pushUsed(head, 0);
  }

  /** A packet came back: its flow lives here by now. What can't be placed even so is dropped, TCP sends it again. */
  private returned(queue: QueueView, head: number): void {
    this.handoff.returning = true;
    const result = this.transmitChain(queue, head);
    this.handoff.returning = false;
    if (result === DONE || result === PARK) queue.virtqueue.pushUsed(head, 0);
    else if (result === AWAY) queue.state[QUEUE_OUTSTANDING]!++;
  }
}
