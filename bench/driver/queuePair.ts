/**
 * A receive and a transmit queue as a network driver uses them: received packets, mergeable buffers put together, and
 * frames sent from slots (virtio 1.2 §5.1.6).
 */
import {
  GSO_TCPV4,
  HDR_CSUM_OFFSET,
  HDR_CSUM_START,
  HDR_FLAGS,
  HDR_F_NEEDS_CSUM,
  HDR_GSO_SIZE,
  HDR_GSO_TYPE,
  HDR_HDR_LEN,
  HDR_NUM_BUFFERS,
  NET_HDR_SIZE,
} from '../../device/netHeader.js';
import { SlipwayError } from '../../src/errors.js';
import { addon } from '../../src/native/addon.js';
import type { DeviceDescription, PairDescription } from './deviceDescription.js';
import { DriverQueue } from './driverQueue.js';
import type { MappedMemory } from './guestMemory.js';
import { Counter, PairCounter, pairCounters } from './statistics.js';

/** Pieces of the largest packet in the smallest receive buffers. */
const MAX_PIECES = 300;
/** Payload that waits for the device before it is told at once: it can work while the driver goes on. */
const NOTIFY_BYTES = 131_072;

/** The device broke a rule of virtio so that its queue can't be used any further. */
export class DeviceError extends SlipwayError {
  override readonly name = 'DeviceError';
}

/** A received packet in place: where its pieces lie. */
export class Packet {
  /** Offset of the virtio-net header. */
  header = 0;
  pieces = 0;
  /** Bytes of the frame. */
  length = 0;
  readonly offsets = new Uint32Array(MAX_PIECES);
  readonly lengths = new Uint32Array(MAX_PIECES);

  /** A copy of `length` bytes of the frame from `skip` on, or of as many as there are. */
  copy(memory: Uint8Array, skip: number, length: number): Uint8Array {
    const pieces = Array.from({ length: this.pieces }, (_, n) =>
      memory.subarray(this.offsets[n], this.offsets[n] + this.lengths[n]),
    );
    return Uint8Array.from(Buffer.concat(pieces).subarray(skip, skip + length));
  }
}

export class QueuePair {
  readonly rx: DriverQueue;
  readonly tx: DriverQueue;
  /** Set when a frame found no room; the transmit queue should interrupt when there is some again. */
  blocked = false;
  /** Frames sent and given back so far, modulo 2^32. */
  sent = 0;
  reclaimed = 0;

  private unnotified = 0;
  private readonly description: PairDescription;
  private readonly mergeable: boolean;
  private readonly fragment: number;
  private readonly indirect: boolean;
  /** Descriptors of the ring that the longest chain takes. */
  private readonly longestChain: number;
  private readonly pairCounters: number;

  constructor(
    private readonly memory: MappedMemory,
    device: DeviceDescription,
    readonly index: number,
    private readonly statistics: Float64Array,
  ) {
    const { eventIdx, mergeable, indirect } = device.offloads;
    this.description = device.pairs[index];
    this.mergeable = mergeable;
    this.indirect = indirect;
    this.fragment = device.fragment;
    this.longestChain = indirect ? 1 : device.longestChain;
    this.rx = new DriverQueue(memory, this.description.rx, eventIdx);
    this.tx = new DriverQueue(memory, this.description.tx, eventIdx);
    this.pairCounters = pairCounters(index);
    this.refill();
  }

  // -- receiving -----------------------------------------------------------------------------------------------------

  /**
   * Takes the next packet; its memory stays valid until `refill`. Those that the device gave back wrong (virtio 1.2
   * §5.1.6.4) are counted and dropped. Returns false if there is none.
   * @throws {DeviceError} if the used ring is wrong
   */
  receive(packet: Packet): boolean {
    for (let head = this.rx.takeUsed(); head >= 0; head = this.rx.takeUsed()) {
      this.statistics[this.pairCounters + PairCounter.rxPackets]++;
      if (this.collect(packet, head)) return true;
      this.statistics[Counter.ringErrors]++;
    }
    if (this.rx.ringErrors > 0) this.refuse('receive', this.rx);
    return false;
  }

  /** Puts the packet together that begins in the buffer `head`. Returns false if it can't be one. */
  private collect(packet: Packet, head: number): boolean {
    const { rxBuffers, rxBufferSize } = this.description;
    packet.header = rxBuffers + head * rxBufferSize;
    packet.pieces = 0;
    packet.length = 0;
    const buffers = this.mergeable ? this.memory.u16[(packet.header + HDR_NUM_BUFFERS) / 2] : 1;
    if (buffers === 0) return false;
    let right = this.addPiece(packet, head, NET_HDR_SIZE);
    for (let n = 1; n < buffers; n++) {
      // virtio 1.2 §5.1.6.4.1: all but the last are used to the full; they become visible together.
      if (this.rx.usedLength !== rxBufferSize) this.statistics[Counter.ringErrors]++;
      const next = this.rx.takeUsed();
      if (next < 0) return false;
      right = this.addPiece(packet, next, 0) && right;
    }
    return right;
  }

  /** Adds what the device wrote into the buffer that it gave back last, from `skip` on. */
  private addPiece(packet: Packet, head: number, skip: number): boolean {
    const { rxBuffers, rxBufferSize } = this.description;
    const { usedLength } = this.rx;
    if (usedLength < skip || usedLength > rxBufferSize || packet.pieces === MAX_PIECES) return false;
    packet.offsets[packet.pieces] = rxBuffers + head * rxBufferSize + skip;
    packet.lengths[packet.pieces++] = usedLength - skip;
    packet.length += usedLength - skip;
    return true;
  }

  private refuse(direction: string, queue: DriverQueue): never {
    throw new DeviceError(
      `the back end broke the ${direction} queue of pair ${this.index}: ${queue.fault} (virtio 1.2 §2.7.8)`,
    );
  }

  /** Gives all free receive buffers to the device. */
  refill(): void {
    const { rx, description } = this;
    if (rx.freeCount === 0) return;
    while (rx.freeCount > 0) {
      rx.beginChain(false);
      rx.addBuffer(description.rxBuffers + rx.nextHead() * description.rxBufferSize, description.rxBufferSize, true);
      rx.endChain();
    }
    rx.publish();
    if (rx.needsNotification()) this.kick(description.rxKick);
  }

  // -- sending -------------------------------------------------------------------------------------------------------

  /**
   * The slot of the next frame, its virtio-net header cleared; the frame goes behind that. -1 if the queue is full.
   * The slot is used up by `send`, not by this.
   */
  slot(): number {
    if (this.tx.freeCount < this.longestChain) {
      this.reclaim();
      if (this.tx.freeCount < this.longestChain) {
        if (!this.blocked) this.statistics[Counter.txFull]++;
        this.blocked = true;
        return -1;
      }
    }
    this.blocked = false;
    const offset = this.description.txSlots + this.tx.nextHead() * this.description.txSlotSize;
    const { u32 } = this.memory;
    u32[offset / 4] = 0;
    u32[offset / 4 + 1] = 0;
    u32[offset / 4 + 2] = 0;
    return offset;
  }

  /** Marks the frame in `slot` as one whose checksum field, `field` bytes behind `start`, is partial. */
  setPartialChecksum(slot: number, start: number, field: number): void {
    this.memory.u8[slot + HDR_FLAGS] = HDR_F_NEEDS_CSUM;
    this.memory.u16[(slot + HDR_CSUM_START) / 2] = start;
    this.memory.u16[(slot + HDR_CSUM_OFFSET) / 2] = field;
  }

  /** Marks the frame in `slot` as one to be cut into segments of `segmentSize` bytes of payload. */
  setSegmentation(slot: number, headerLength: number, segmentSize: number): void {
    this.memory.u8[slot + HDR_GSO_TYPE] = GSO_TCPV4;
    this.memory.u16[(slot + HDR_HDR_LEN) / 2] = headerLength;
    this.memory.u16[(slot + HDR_GSO_SIZE) / 2] = segmentSize;
  }

  /** Sends the slot's first `length` bytes, virtio-net header included, and `payloadLength` bytes at `payload` behind them. */
  send(length: number, payload: number, payloadLength: number): void {
    const { tx, fragment } = this;
    const slot = this.description.txSlots + tx.nextHead() * this.description.txSlotSize;
    tx.beginChain(this.indirect && payloadLength > 0);
    tx.addBuffer(slot, length, false);
    for (let done = 0; done < payloadLength; done += fragment) {
      tx.addBuffer(payload + done, Math.min(fragment, payloadLength - done), false);
    }
    tx.endChain();
    this.sent = (this.sent + 1) | 0;
    this.unnotified += length + payloadLength;
    this.statistics[this.pairCounters + PairCounter.txPackets]++;
    if (this.unnotified >= NOTIFY_BYTES) this.flush();
  }

  /** Shows the device all frames sent so far. */
  flush(): void {
    if (this.unnotified === 0) return;
    this.unnotified = 0;
    this.tx.publish();
    if (this.tx.needsNotification()) this.kick(this.description.txKick);
  }

  /** Takes back the slots of frames that the device is done with. */
  reclaim(): void {
    while (this.tx.takeUsed() >= 0) this.reclaimed = (this.reclaimed + 1) | 0;
    if (this.tx.ringErrors > 0) this.refuse('transmit', this.tx);
  }

  // -- notifications -------------------------------------------------------------------------------------------------

  /** Asks for interrupts before a sleep. Returns false if there is work already. */
  enableInterrupts(): boolean {
    const idle = this.rx.enableInterrupts(0);
    // Half of what is in flight: room for a batch, and the device isn't left without work meanwhile.
    return (!this.blocked || this.tx.enableInterrupts(this.tx.inFlight() >> 1)) && idle;
  }

  disableInterrupts(): void {
    this.rx.disableInterrupts();
    this.tx.disableInterrupts();
  }

  /** Takes note of an interrupt. */
  interrupted(transmit: boolean): void {
    addon.eventfdDrain(transmit ? this.description.txCall : this.description.rxCall);
    this.statistics[this.pairCounters + PairCounter.interrupts]++;
  }

  private kick(fd: number): void {
    addon.eventfdSignal(fd);
    this.statistics[this.pairCounters + PairCounter.kicks]++;
  }
}
