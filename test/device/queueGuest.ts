/** A guest that drives all queues of a device with two pairs itself, by whatever front it is attached, and what to say on them. */
import { DriverQueue, queueSizes } from '../../bench/driver/driverQueue.js';
import { MappedMemory, MemoryPlan } from '../../bench/driver/guestMemory.js';
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
} from '../../device/features.js';
import { addon } from '../../src/native/addon.js';
import { until } from '../until.js';

export const FEATURES = VIRTIO_F_VERSION_1 | VIRTIO_NET_F_MQ | VIRTIO_NET_F_CTRL_VQ | VIRTIO_NET_F_MRG_RXBUF;
export const PAIRS = 2;
export const CONTROL = 2 * PAIRS;
const SIZE = 64;
const BUFFER = 2048;
/** Bytes of a descriptor, and descriptors of an indirect table at most. */
const DESCRIPTOR = 16;
const INDIRECT = 4;
/** Bytes of struct virtio_net_hdr (virtio 1.2 §5.1.6). */
const HEADER = 12;
/** What an ack byte holds before the device writes it. */
export const UNANSWERED = 0xee;

/** Fields of struct virtq_desc (virtio 1.2 §2.7.5). */
const FLAGS = 12;
const NEXT = 14;
const DESC_F_WRITE = 2;

/** How a frame is cut into buffers: lengths of all but the last; and whether, and how, an indirect table has them. */
export interface Framing {
  readonly cuts: readonly number[];
  readonly indirect?: 'plain' | 'with WRITE' | 'behind the first';
}

export interface CommandResult {
  /** The first writable byte. */
  readonly ack: number;
  /** used.len. */
  readonly used: number;
  /** Whether any other writable byte was touched. */
  readonly touched: boolean;
}

export abstract class QueueGuest implements Disposable {
  readonly queues: DriverQueue[] = [];
  protected readonly memory: MappedMemory;
  protected readonly fds: number[] = [];
  /** The last frame that came in, and its virtio-net header; and what of both lay in each of its buffers, bytes. */
  lastFrame = new Uint8Array(0);
  lastHeader = new Uint8Array(0);
  lastLengths: readonly number[] = [];
  /** Whether the device wrote what it may only read, of the frame sent last and of the receive queue meanwhile. */
  wroteReadOnly = false;
  private readonly buffers: number;
  private readonly pairs: number[];
  /** The ring that is the control queue: "N=1 if neither VIRTIO_NET_F_MQ nor […]" (virtio 1.2 §5.1.2). */
  protected readonly control: number;

  /** @param receiveBuffer bytes of each receive buffer */
  protected constructor(
    protected readonly features: bigint,
    private readonly receiveBuffer = BUFFER,
  ) {
    const plan = new MemoryPlan(Infinity);
    const layouts = Array.from({ length: CONTROL + 1 }, () => {
      const sizes = queueSizes(SIZE);
      return {
        size: SIZE,
        descTable: plan.place(sizes.descTable, 16),
        availRing: plan.place(sizes.availRing, 2),
        usedRing: plan.place(sizes.usedRing, 4),
        indirectTables: plan.place(SIZE * INDIRECT * DESCRIPTOR, DESCRIPTOR),
        indirectEntries: INDIRECT,
      };
    });
    this.buffers = plan.place((CONTROL + 1) * SIZE * BUFFER, 4096);
    this.memory = new MappedMemory(plan.create(0, 0x4000_0000));
    this.fds.push(this.memory.shape.fd);
    for (const layout of layouts) this.queues.push(new DriverQueue(this.memory, layout, this.eventIdx));
    const multiqueue = (features & VIRTIO_NET_F_MQ) !== 0n;
    this.pairs = multiqueue ? [0, 1] : [0];
    this.control = multiqueue ? CONTROL : 2;
  }

  /** Notifies the device of what was published on a ring. */
  protected abstract notify(ring: number): void;

  /** Whether the device has interrupted for a ring since the last call. */
  abstract interrupted(ring: number): boolean;

  private get eventIdx(): boolean {
    return (this.features & VIRTIO_F_EVENT_IDX) !== 0n;
  }

  /** What a ring's device may not write (§2.7.4.2): the descriptors and, of a transmit queue, the buffer of chain `head`. */
  private readOnlyBytes(ring: number, head: number): Buffer {
    const { descTable, size } = this.queues[ring]!.layout;
    const buffer = this.bufferOf(ring, head);
    return Buffer.concat([
      this.memory.u8.subarray(descTable, descTable + queueSizes(size).descTable),
      this.memory.u8.subarray(buffer, ring % 2 === 0 ? buffer : buffer + BUFFER),
    ]);
  }

  /** used.flags of a ring. */
  usedFlags(ring: number): number {
    return this.memory.u16[this.queues[ring]!.layout.usedRing / 2]!;
  }

  /** Makes queues anew, as a driver does after a reset: one, or all. */
  renew(ring?: number): void {
    for (const [index, { layout }] of this.queues.entries()) {
      if (ring !== undefined && ring !== index) continue;
      const sizes = queueSizes(layout.size);
      this.memory.u8.fill(0, layout.descTable, layout.descTable + sizes.descTable);
      this.memory.u8.fill(0, layout.availRing, layout.availRing + sizes.availRing);
      this.memory.u8.fill(0, layout.usedRing, layout.usedRing + sizes.usedRing);
      this.queues[index] = new DriverQueue(this.memory, layout, this.eventIdx);
    }
  }

  /** Notifies of every queue, whether there is anything or not. */
  kickAll(): void {
    for (const ring of this.queues.keys()) this.notify(ring);
  }

  /** Makes a chain available on a ring, a frame of zeroes, and doesn't notify. */
  offer(ring: number): void {
    const queue = this.queues[ring]!;
    const at = this.bufferOf(ring, queue.nextHead());
    this.memory.u8.fill(0, at, at + 72);
    queue.beginChain(false);
    queue.addBuffer(at, 72, false);
    queue.endChain();
    queue.publish();
  }

  /** Breaks a rule that leaves the device no way to go on: the available index is further ahead than the queue is long. */
  breakRing(ring: number): void {
    const index = this.queues[ring]!.layout.availRing / 2 + 1;
    this.memory.u16[index] = this.memory.u16[index]! + SIZE + 1;
    this.notify(ring);
  }

  /** Fills the receive queues. */
  protected postAll(): void {
    for (const pair of this.pairs) while (this.queues[2 * pair]!.freeCount > 0) this.post(2 * pair);
  }

  /** Gives a command, cut into buffers of these lengths, and waits for the device to use it. `ack`: lengths of the device-writable buffers. */
  async command(
    bytes: readonly number[],
    cuts: readonly number[] = [2, bytes.length - 2],
    ack: readonly number[] = [1],
  ): Promise<CommandResult> {
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

  setPairs(pairs: number): Promise<CommandResult> {
    return this.command([4, 0, pairs & 0xff, pairs >> 8]);
  }

  /**
   * Asks for the gateway's MAC address on a pair's transmit queue. Once that chain is used, an answer is there or never
   * comes: a worker publishes all its queues together. Returns the pairs whose receive queues got a frame.
   * @param mac who asks, and so gets the answer: 12 hexadecimal digits
   */
  askOn(pair: number, mac = '525400123456'): Promise<number[]> {
    return this.sendOn(pair, arpRequest(mac));
  }

  /**
   * Sends a frame behind a virtio-net header, which is all zeroes if left out. Returns the pairs whose receive queues got one.
   * @param framing how header and frame lie in the chain; in one buffer if left out
   */
  async sendOn(
    pair: number,
    frame: Uint8Array,
    header: Uint8Array = new Uint8Array(HEADER),
    framing: Framing = { cuts: [] },
  ): Promise<number[]> {
    const ring = 2 * pair + 1;
    const queue = this.queues[ring]!;
    const length = Math.max(60, frame.length);
    const head = queue.nextHead();
    const at = this.bufferOf(ring, head);
    this.memory.u8.fill(0, at, at + HEADER + length);
    this.memory.u8.set(header, at);
    this.memory.u8.set(frame, at + HEADER);
    this.chain(queue, at, HEADER + length, framing);
    const readOnly = (): Buffer => Buffer.concat([this.readOnlyBytes(ring, head), this.readOnlyBytes(2 * pair, 0)]);
    const before = readOnly();
    this.kick(ring);
    await this.used(ring);
    this.wroteReadOnly = !readOnly().equals(before);
    return this.pairs.filter((receiver) => this.receiveOn(receiver));
  }

  /** Sends frames that the device sees all at once, each cut into pieces as `cuts` says for it, and waits until all are used. */
  async sendAllOn(
    pair: number,
    frames: readonly Uint8Array[],
    cuts: (frame: number) => readonly number[] = () => [],
    header: Uint8Array = new Uint8Array(HEADER),
  ): Promise<void> {
    const ring = 2 * pair + 1;
    const queue = this.queues[ring]!;
    for (const [n, frame] of frames.entries()) {
      const at = this.bufferOf(ring, queue.nextHead());
      this.memory.u8.set(header, at);
      this.memory.u8.set(frame, at + HEADER);
      this.chain(queue, at, HEADER + frame.length, { cuts: cuts(n) });
    }
    this.kick(ring);
    for (const _ of frames) await this.used(ring);
  }

  /** Takes a frame off a pair's receive queue, to `lastFrame`. False when there is none. */
  takeFrameOn(pair: number): boolean {
    return this.receiveOn(pair);
  }

  /** Waits for a frame on a pair's receive queue. */
  async frameOn(pair: number): Promise<void> {
    await until(() => this.receiveOn(pair));
  }

  private chain(queue: DriverQueue, at: number, length: number, { cuts, indirect }: Framing): void {
    const pieces = [...cuts, length - cuts.reduce((sum, cut) => sum + cut, 0)];
    let from = at;
    queue.beginChain(indirect !== undefined);
    for (const piece of pieces) {
      queue.addBuffer(from, piece, false);
      from += piece;
    }
    const { descTable, indirectTables } = queue.layout;
    const head = queue.endChain();
    if (indirect === undefined) return;
    const { u8 } = this.memory;
    const named = descTable + head * DESCRIPTOR;
    if (indirect === 'with WRITE') u8[named + FLAGS] = u8[named + FLAGS]! | DESC_F_WRITE;
    if (indirect !== 'behind the first') return;
    // The first entry of the table becomes the chain's head; another descriptor names the others.
    const table = indirectTables + head * INDIRECT * DESCRIPTOR;
    const other = queue.nextHead();
    const view = new DataView(u8.buffer, u8.byteOffset);
    u8.copyWithin(descTable + other * DESCRIPTOR, named, named + DESCRIPTOR);
    const entry = descTable + other * DESCRIPTOR;
    view.setUint32(entry + 8, (pieces.length - 1) * DESCRIPTOR, true);
    u8.copyWithin(named, table, table + DESCRIPTOR);
    view.setUint16(named + NEXT, other, true);
    u8.copyWithin(table, table + DESCRIPTOR, table + pieces.length * DESCRIPTOR);
    // "next" counts from the table's beginning, and no entry links to the one that moved away.
    for (let n = 0; n < pieces.length - 2; n++) view.setUint16(table + n * DESCRIPTOR + NEXT, n + 1, true);
  }

  private receiveOn(pair: number): boolean {
    const queue = this.queues[2 * pair]!;
    let head = queue.takeUsed();
    if (head < 0) return false;
    const lengths: number[] = [];
    const pieces: Uint8Array[] = [];
    let buffers = 1;
    for (let n = 0; n < buffers; n++) {
      if (n > 0) head = queue.takeUsed();
      // §5.1.6.4.1: the device shows them together.
      if (head < 0) throw new Error(`${n} of ${buffers} buffers of a frame were shown`);
      const at = this.bufferOf(2 * pair, head);
      pieces.push(this.memory.u8.slice(at, at + queue.usedLength));
      lengths.push(queue.usedLength);
      if (n === 0) buffers = Math.max(1, pieces[0]![10]! | (pieces[0]![11]! << 8));
      this.post(2 * pair);
    }
    const whole = Uint8Array.from(pieces.flatMap((piece) => [...piece]));
    this.lastHeader = whole.slice(0, HEADER);
    this.lastFrame = whole.slice(HEADER);
    this.lastLengths = lengths;
    return true;
  }

  private post(ring: number): void {
    const queue = this.queues[ring]!;
    queue.beginChain(false);
    queue.addBuffer(this.bufferOf(ring, queue.nextHead()), this.receiveBuffer, true);
    queue.endChain();
    queue.publish();
  }

  private kick(ring: number): void {
    this.queues[ring]!.publish();
    this.notify(ring);
  }

  private async used(ring: number): Promise<void> {
    const queue = this.queues[ring]!;
    await until(() => queue.takeUsed() >= 0);
  }

  private bufferOf(ring: number, head: number): number {
    return this.buffers + (ring * SIZE + head) * BUFFER;
  }

  [Symbol.dispose](): void {
    this.memory.unmap();
    for (const fd of this.fds) addon.close(fd);
  }
}

/** RFC 826: 10.0.2.15 asks for 10.0.2.2. */
export function arpRequest(mac = '525400123456'): Uint8Array {
  const request = `ffffffffffff${mac}08060001080006040001${mac}0a00020f0000000000000a000202`;
  return Buffer.from(request, 'hex');
}
