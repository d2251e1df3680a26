/** A guest that drives its device's control queue itself, over vhost-user: all queues of two pairs, and what to say on them. */
import { DriverQueue, queueSizes } from '../../bench/driver/driverQueue.js';
import { FrontEnd as DriverFrontEnd } from '../../bench/driver/frontEnd.js';
import { MappedMemory, MemoryPlan } from '../../bench/driver/guestMemory.js';
import {
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
} from '../../device/features.js';
import { addon } from '../../src/native/addon.js';
import { until } from '../native/support.js';
import * as fe from './vhostUser/frontEnd.js';

export const FEATURES = VIRTIO_F_VERSION_1 | VIRTIO_NET_F_MQ | VIRTIO_NET_F_CTRL_VQ | VIRTIO_NET_F_MRG_RXBUF;
const PAIRS = 2;
export const CONTROL = 2 * PAIRS;
const SIZE = 64;
const BUFFER = 256;
/** What an ack byte holds before the device writes it. */
export const UNANSWERED = 0xee;

export class ControlGuest implements Disposable {
  readonly queues: DriverQueue[] = [];
  private readonly memory: MappedMemory;
  private readonly kicks: number[] = [];
  private readonly fds: number[] = [];
  private readonly buffers: number;
  private readonly driver: DriverFrontEnd;
  private readonly pairs: number[];
  /** The ring that is the control queue: "N=1 if neither VIRTIO_NET_F_MQ nor […]" (virtio 1.2 §5.1.2). */
  private readonly control: number;

  private constructor(
    readonly raw: fe.FrontEnd,
    private readonly features: bigint,
  ) {
    const plan = new MemoryPlan(Infinity);
    const layouts = Array.from({ length: CONTROL + 1 }, () => {
      const sizes = queueSizes(SIZE);
      return {
        size: SIZE,
        descTable: plan.place(sizes.descTable, 16),
        availRing: plan.place(sizes.availRing, 2),
        usedRing: plan.place(sizes.usedRing, 4),
        indirectTables: 0,
        indirectEntries: 0,
      };
    });
    this.buffers = plan.place((CONTROL + 1) * SIZE * BUFFER, 4096);
    this.memory = new MappedMemory(plan.create(0, 0x4000_0000));
    this.fds.push(this.memory.shape.fd);
    for (const layout of layouts) {
      this.queues.push(new DriverQueue(this.memory, layout, false));
      this.kicks.push(addon.eventfdCreate());
    }
    this.fds.push(...this.kicks);
    this.driver = new DriverFrontEnd(raw.fd);
    const multiqueue = (features & VIRTIO_NET_F_MQ) !== 0n;
    this.pairs = multiqueue ? [0, 1] : [0];
    this.control = multiqueue ? CONTROL : 2;
  }

  /** Connects and starts these rings, all enabled but those in `disabled`. */
  static async open(
    path: string,
    { features = FEATURES, rings = [0, 1, 2, 3, CONTROL], disabled = [] as readonly number[] } = {},
  ): Promise<ControlGuest> {
    const guest = new ControlGuest(fe.FrontEnd.connect(path), features);
    await guest.raw.ask(fe.GET_FEATURES);
    guest.raw.send(fe.SET_PROTOCOL_FEATURES, fe.u64(fe.PROTOCOL_F_REPLY_ACK));
    await guest.start(rings, disabled);
    return guest;
  }

  async start(rings: readonly number[], disabled: readonly number[] = []): Promise<void> {
    await this.raw.ack(fe.SET_FEATURES, fe.u64(this.features | fe.F_PROTOCOL_FEATURES));
    await this.shareMemory();
    for (const ring of rings) {
      const call = addon.eventfdCreate();
      this.fds.push(call);
      await this.driver.startQueue(ring, this.queues[ring]!.layout, this.kicks[ring]!, call, 0, this.memory.shape);
      await this.driver.enableQueue(ring, !disabled.includes(ring));
    }
    for (const pair of this.pairs) while (this.queues[2 * pair]!.freeCount > 0) this.post(2 * pair);
    await this.raw.settled();
  }

  /** Tells the memory table, anew if it was told before: running rings pause and go on. */
  async shareMemory(): Promise<void> {
    await this.driver.setMemory(this.memory.shape);
    await this.raw.settled();
  }

  /**
   * Gives a command, cut into buffers of these lengths, and waits for the device to use it.
   * @param ack lengths of the device-writable buffers
   * @returns the first writable byte, used.len, and whether any other writable byte was touched
   */
  async command(
    bytes: readonly number[],
    cuts: readonly number[] = [2, bytes.length - 2],
    ack: readonly number[] = [1],
  ): Promise<{ ack: number; used: number; touched: boolean }> {
    const queue = this.queues[this.control]!;
    const start = this.bufferOf(CONTROL, 0);
    const writable = ack.reduce((sum, length) => sum + length, 0);
    this.memory.u8.set(bytes, start);
    const answer = start + bytes.length;
    this.memory.u8.fill(UNANSWERED, answer, answer + writable + 1);
    queue.beginChain(false);
    let at = start;
    for (const length of cuts) {
      queue.addBuffer(at, length, false);
      at += length;
    }
    for (const length of ack) {
      queue.addBuffer(at, length, true);
      at += length;
    }
    queue.endChain();
    this.kick(this.control);
    await this.used(this.control);
    const written = [...this.memory.u8.subarray(answer, answer + writable + 1)];
    return { ack: written[0]!, used: queue.usedLength, touched: written.slice(1).some((byte) => byte !== UNANSWERED) };
  }

  setPairs(pairs: number): Promise<{ ack: number; used: number; touched: boolean }> {
    return this.command([4, 0, pairs & 0xff, pairs >> 8]);
  }

  /**
   * Asks for the gateway's MAC address on a pair's transmit queue. Once that chain is used, an answer is there or never
   * comes: a worker publishes all its queues together. Returns the pairs whose receive queues got a frame.
   */
  async askOn(pair: number): Promise<number[]> {
    const ring = 2 * pair + 1;
    const queue = this.queues[ring]!;
    const at = this.bufferOf(ring, queue.nextHead());
    this.memory.u8.fill(0, at, at + 12 + 60);
    this.memory.u8.set(ARP_REQUEST, at + 12);
    queue.beginChain(false);
    queue.addBuffer(at, 12 + 60, false);
    queue.endChain();
    this.kick(ring);
    await this.used(ring);
    return this.pairs.filter((receiver) => {
      const taken = this.queues[2 * receiver]!.takeUsed() >= 0;
      if (taken) this.post(2 * receiver);
      return taken;
    });
  }

  private post(ring: number): void {
    const queue = this.queues[ring]!;
    queue.beginChain(false);
    queue.addBuffer(this.bufferOf(ring, queue.nextHead()), BUFFER, true);
    queue.endChain();
    queue.publish();
  }

  private kick(ring: number): void {
    this.queues[ring]!.publish();
    addon.eventfdSignal(this.kicks[ring]!);
  }

  private async used(ring: number): Promise<void> {
    const queue = this.queues[ring]!;
    await until(() => (queue.takeUsed() >= 0 ? true : undefined));
  }

  private bufferOf(ring: number, head: number): number {
    return this.buffers + (ring * SIZE + head) * BUFFER;
  }

  [Symbol.dispose](): void {
    this.raw.close();
    this.memory.unmap();
    for (const fd of this.fds) addon.close(fd);
  }
}

/** RFC 826: 10.0.2.15 asks for 10.0.2.2. */
const ARP_REQUEST = Buffer.from(
  'ffffffffffff52540012345608060001080006040001525400123456_0a00020f_000000000000_0a000202'.replaceAll('_', ''),
  'hex',
);
