/**
 * Serves a device's control virtqueue (virtio 1.2 §5.1.6.5), on the worker of pair 0.
 *
 * A command that changes anything is answered only once all workers obey it: "the device MUST NOT queue packets on receive
 * queues greater than virtqueue_pairs once it has placed the […] command in a used buffer" (§5.1.6.5.6.2), "MUST update the
 * MAC filtering table before it consumes the […] command" (§5.1.6.5.2.1).
 */
import { type ControlState, VIRTIO_NET_ERR, executeControl } from '../device/controlQueue.js';
import type { GuestMemory } from '../device/guestMemory.js';
import type { NetState } from '../device/netState.js';
import { QUEUE_ACTIVE_PAIRS, QUEUE_CURRENT } from '../device/virtqueue.js';
import { C, type Counters } from './counters.js';
import type { CycleBarrier } from './cycleBarrier.js';
import type { ChainServer, QueueView } from './deviceView.js';

/** The longest command that is looked at, bytes; longer ones are answered with ERR. */
const COMMAND_BYTES = 4096;
const BUDGET = 16;

export class ControlQueueServer implements ChainServer {
  /** A command was obeyed here, but not yet by all workers. */
  pending = false;
  private head = 0;
  private ackRegion = 0;
  private ackOffset = 0;
  private readonly command = new Uint8Array(COMMAND_BYTES);

  /**
   * @param queue the control queue
   * @param multiqueue whether MQ was negotiated
   * @param net what all other commands change
   * @param changed called when a command has changed anything
   */
  constructor(
    private readonly queue: QueueView,
    private readonly memory: GuestMemory,
    private readonly iovecs: Uint32Array,
    private readonly pairs: number,
    private readonly multiqueue: () => boolean,
    private readonly net: NetState,
    private readonly barrier: CycleBarrier,
    private readonly counters: Counters,
    private readonly changed: () => void,
  ) {}

  /** Answers the command that waits for other workers, if they have obeyed; then handles the next ones. */
  serve(): void {
    if (this.pending) this.finish();
    if (this.queue.stopping !== 0) return;
    const { virtqueue } = this.queue;
    for (let n = 0; n < BUDGET && !this.pending; n++) {
      if (virtqueue.poll() === 0 && virtqueue.enableNotifications() === 0) {
        this.queue.active = false;
        return;
      }
      const head = virtqueue.headAt(0);
      if (head < 0) return;
      this.queue.state[QUEUE_CURRENT] = head;
      virtqueue.take(1);
      this.handle(head);
    }
    this.queue.active = true;
  }

  private finish(): void {
    if (!this.barrier.passed) return;
    this.pending = false;
    this.acknowledge(0);
  }

  private handle(head: number): void {
    const { virtqueue } = this.queue;
    if (!virtqueue.walk(head, 0) || virtqueue.writableBytes === 0) {
      this.counters[C.malformedChains]!++;
      this.complete(head, 0);
      return;
    }
    this.head = head;
    // The ack is the first byte that the device writes.
    const ack = 3 * virtqueue.readable;
    this.ackRegion = this.iovecs[ack]!;
    this.ackOffset = this.iovecs[ack + 1]!;
    const before = this.queue.state[QUEUE_ACTIVE_PAIRS]!;
    const { generation } = this.net;
    const status = this.execute(virtqueue.readableBytes, virtqueue.readable);
    if (this.queue.state[QUEUE_ACTIVE_PAIRS] === before && this.net.generation === generation) {
      this.acknowledge(status);
      return;
    }
    this.changed();
    this.barrier.raise();
    this.pending = true;
    this.finish();
  }

  /** A disabled ring is processed "without causing any side effects" (vhost-user, "Ring states"). */
  private execute(length: number, buffers: number): number {
    if (!this.queue.enabled || length > COMMAND_BYTES) return VIRTIO_NET_ERR;
    this.gather(buffers);
    const { state } = this.queue;
    const control: ControlState = {
      maxPairs: this.pairs,
      multiqueue: this.multiqueue(),
      activePairs: state[QUEUE_ACTIVE_PAIRS]!,
      net: this.net,
    };
    const status = executeControl(this.command, length, control);
    Atomics.store(state, QUEUE_ACTIVE_PAIRS, control.activePairs);
    return status;
  }

  /** Copies the chain's first `buffers` triples to `command`. */
  private gather(buffers: number): void {
    let at = 0;
    for (let t = 0; t < 3 * buffers; t += 3) {
      const offset = this.iovecs[t + 1]!;
      const length = this.iovecs[t + 2]!;
      this.command.set(this.memory.bytesOf(this.iovecs[t]!).subarray(offset, offset + length), at);
      at += length;
    }
  }

  private acknowledge(status: number): void {
    this.memory.bytesOf(this.ackRegion)[this.ackOffset] = status;
    this.complete(this.head, 1);
  }

  private complete(head: number, length: number): void {
    this.queue.virtqueue.pushUsed(head, length);
    this.queue.state[QUEUE_CURRENT] = -1;
  }
}
