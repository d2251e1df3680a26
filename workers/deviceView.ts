/**
 * A device as one worker sees it: guest memory mapped by this thread, all its queues (to walk chains that other workers
 * hand over), and the queues that this worker serves.
 */
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
} from '../device/features.js';
import { GuestMemory } from '../device/guestMemory.js';
import { type NetState, ReceiveFilter } from '../device/netState.js';
import { NET_HDR_SIZE, NET_HDR_SIZE_LEGACY } from '../device/netHeader.js';
import { ReceiveQueue } from '../device/receiveQueue.js';
import { TransmitRules } from '../device/transmitQueue.js';
import { BROKEN_PLACE, QUEUE_ACTIVE_PAIRS, type VirtqueueLayout, Virtqueue } from '../device/virtqueue.js';
import type { Addon } from '../src/native/addon.js';
import { InterruptModeration } from './interruptModeration.js';
import type { FrameSink, GuestLink } from './nat/guestLink.js';
import { BATCH_IOVECS } from './nat/udpBatch.js';

/** Features as they come in messages: masks of the low word, and of the high one. */
const CSUM = Number(VIRTIO_NET_F_CSUM);
const GUEST_CSUM = Number(VIRTIO_NET_F_GUEST_CSUM);
const CTRL_GUEST_OFFLOADS = Number(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
const MTU = Number(VIRTIO_NET_F_MTU);
const GUEST_TSO4 = Number(VIRTIO_NET_F_GUEST_TSO4);
const HOST_TSO4 = Number(VIRTIO_NET_F_HOST_TSO4);
const HOST_TSO6 = Number(VIRTIO_NET_F_HOST_TSO6);
const MRG_RXBUF = Number(VIRTIO_NET_F_MRG_RXBUF);
const CTRL_VQ = Number(VIRTIO_NET_F_CTRL_VQ);
const MQ = Number(VIRTIO_NET_F_MQ);
const INDIRECT_DESC = Number(VIRTIO_F_INDIRECT_DESC);
const EVENT_IDX = Number(VIRTIO_F_EVENT_IDX);
const VERSION_1_HIGH = Number(VIRTIO_F_VERSION_1 >> 32n);

/** Number of the first triple that receive queues use, after those for transmitted frames; one lies free before it. */
const RECEIVE_IOVECS = 1100;
/** Number of the first triple that collects datagrams. */
export const BATCH_FIRST = RECEIVE_IOVECS + 1100;
/** Triples of scratch that a worker needs; the last is nobody's. */
export const IOVECS = BATCH_FIRST + BATCH_IOVECS + 1;

/** Serves a queue that carries no frames. */
export interface ChainServer {
  /** A chain was taken that is not given back yet: the queue can't stop. */
  readonly pending: boolean;
  /** Does what there is to do, by budget. */
  serve(): void;
}

export class QueueView {
  readonly virtqueue: Virtqueue;
  /** When the driver of a transmit queue is interrupted. */
  moderation: InterruptModeration;
  /** Receive queues that this worker serves. */
  receive: ReceiveQueue | undefined;
  /** Serves the control queue, in the worker whose it is. */
  control: ChainServer | undefined;
  started = false;
  enabled = false;
  /** It has something for us, or may have. */
  active = false;
  /** A transmit queue that waits for a flow's move to end. */
  parked = false;
  /** The ticket of the CONTROL_STOP_QUEUE under way; 0: none. */
  stopping = 0;
  kickFd = -1;
  callFd = -1;
  /** Counts starts, so that a late kick of an earlier life is known. */
  generation = 0;

  constructor(
    readonly device: number,
    readonly index: number,
    /** Whether this worker serves it. */
    readonly mine: boolean,
    memory: GuestMemory,
    iovecs: Uint32Array,
    readonly state: Int32Array,
  ) {
    this.virtqueue = new Virtqueue(memory, iovecs, state);
    this.moderation = new InterruptModeration(this.virtqueue, state);
  }
}

export class DeviceView implements GuestLink {
  readonly memory: GuestMemory;
  readonly queues: QueueView[] = [];
  mtu = 1500;
  partialChecksum = false;
  segmentation = false;
  headerSize = NET_HDR_SIZE;
  multiqueue = false;
  /** What the driver may send. */
  readonly transmitRules = new TransmitRules();
  private readonly filter: ReceiveFilter;
  private featuresLow = 0;
  /** The generation of `net` that the offloads are of. */
  private netGeneration = -1;
  private mergeable = false;
  /** Receive queues that this worker may fill now. */
  private sinks: (ReceiveQueue | undefined)[] = [];
  private anySink: ReceiveQueue | undefined;
  private anySinkPair = 0;
  /** QUEUE_ACTIVE_PAIRS as `findSinks` saw it. */
  private activePairs = 0;

  /**
   * @param state gives the shared words of a queue
   * @param mine whether this worker serves a queue pair
   */
  constructor(
    addon: Addon,
    private readonly iovecs: Uint32Array,
    readonly index: number,
    readonly pairs: number,
    state: (queue: number) => Int32Array,
    mine: (pair: number) => boolean,
    private readonly net: NetState,
  ) {
    this.filter = new ReceiveFilter(net);
    this.memory = new GuestMemory(addon);
    for (let q = 0; q <= 2 * pairs; q++) {
      const own = q === 2 * pairs ? mine(0) : mine(q >> 1);
      this.queues.push(new QueueView(index, q, own, this.memory, iovecs, state(q)));
    }
  }

  setFeatures(low: number, high: number): void {
    this.featuresLow = low;
    this.noteOffloads();
    const mtu = (low & MTU) === 0 ? undefined : this.mtu;
    this.transmitRules.negotiated((low & CSUM) !== 0, (low & HOST_TSO4) !== 0, (low & HOST_TSO6) !== 0, mtu);
    this.mergeable = (low & MRG_RXBUF) !== 0;
    this.multiqueue = (low & MQ) !== 0;
    if ((low & CTRL_VQ) === 0) this.setActivePairs(0);
    const modern = (high & VERSION_1_HIGH) !== 0;
    this.headerSize = modern || this.mergeable ? NET_HDR_SIZE : NET_HDR_SIZE_LEGACY;
  }

  /** Puts a queue in place. False when its rings don't lie in memory. */
  start(queue: QueueView, place: Pick<VirtqueueLayout, 'size' | 'descTable' | 'availRing' | 'usedRing'>): boolean {
    const low = this.featuresLow;
    const layout = { ...place, eventIdx: (low & EVENT_IDX) !== 0, indirect: (low & INDIRECT_DESC) !== 0 };
    if (!queue.virtqueue.place(layout)) {
      queue.virtqueue.broken = BROKEN_PLACE;
      return false;
    }
    queue.started = true;
    queue.enabled = false;
    queue.moderation = new InterruptModeration(queue.virtqueue, queue.state);
    queue.generation = (queue.generation + 1) & 0x3fffffff;
    if (queue.mine && queue.index % 2 === 0 && queue.index < 2 * this.pairs) {
      queue.receive = new ReceiveQueue(
        queue.virtqueue,
        this.memory,
        this.iovecs,
        RECEIVE_IOVECS,
        this.headerSize,
        this.mergeable,
        this.filter,
      );
    }
    return true;
  }

  get controlQueue(): QueueView {
    return this.queues[2 * this.pairs]!;
  }

  /**
   * A driver that has the control queue uses one pair until it says otherwise (virtio 1.2 §5.1.6.5.6.2). A queue that goes
   * on in the middle (memory moved, the guest came from elsewhere) changes nothing.
   */
  controlStarted(lastAvailIdx: number): void {
    if (lastAvailIdx === 0) this.setActivePairs(1);
  }

  /** Takes note of the driver's offloads. Returns whether the number of active pairs is another than `findSinks` saw. */
  activePairsChanged(): boolean {
    if (this.net.generation !== this.netGeneration) this.noteOffloads();
    return Atomics.load(this.controlQueue.state, QUEUE_ACTIVE_PAIRS) !== this.activePairs;
  }

  /** What the driver takes: all that was negotiated, or what of it the driver switched on (virtio 1.2 §5.1.6.5.8). */
  private noteOffloads(): void {
    this.netGeneration = this.net.generation;
    const offloads = (this.featuresLow & CTRL_GUEST_OFFLOADS) === 0 ? this.featuresLow : this.net.offloads;
    this.partialChecksum = (offloads & GUEST_CSUM) !== 0;
    this.segmentation = (offloads & GUEST_TSO4) !== 0;
  }

  private setActivePairs(pairs: number): void {
    const { mine, state } = this.controlQueue;
    if (mine) Atomics.store(state, QUEUE_ACTIVE_PAIRS, pairs);
  }

  /** Whether the driver takes frames from a pair's receive queue, whoever serves it. */
  private takes(pair: number): boolean {
    const queue = this.queues[2 * pair]!;
    const active = this.activePairs === 0 || pair < this.activePairs;
    return active && queue.started && queue.enabled && queue.stopping === 0;
  }

  /** Looks which receive queues may be filled. Call after a queue was started, stopped, enabled, disabled or broken. */
  findSinks(): void {
    this.noteOffloads();
    this.sinks = [];
    this.anySink = undefined;
    this.activePairs = Atomics.load(this.controlQueue.state, QUEUE_ACTIVE_PAIRS);
    for (let pair = 0; pair < this.pairs; pair++) {
      const queue = this.queues[2 * pair]!;
      const sink = this.takes(pair) && queue.virtqueue.broken === 0 ? queue.receive : undefined;
      this.sinks.push(sink);
      if (this.anySink !== undefined || sink === undefined) continue;
      this.anySink = sink;
      this.anySinkPair = pair;
    }
  }

  /** The lowest pair whose receive queue is on, whoever serves it; -1: none. */
  enabledPair(): number {
    for (let pair = 0; pair < this.pairs; pair++) {
      if (this.takes(pair)) return pair;
    }
    return -1;
  }

  sink(pair: number): FrameSink | undefined {
    return this.sinks[pair] ?? this.anySink;
  }

  wantBuffers(pair: number): boolean {
    const queue = this.queues[2 * (this.sinks[pair] === undefined ? this.anySinkPair : pair)]!;
    const before = queue.virtqueue.waiting();
    return queue.virtqueue.enableNotifications() > before;
  }
}
