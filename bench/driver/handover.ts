/**
 * Single-producer single-consumer rings of packets from one driver thread to another, in guest memory: every driver
 * thread maps it, so a packet handed over is read like any other. The device is never told of these addresses.
 */
import { NET_HDR_SIZE } from '../../device/netHeader.js';
import type { MappedMemory } from './guestMemory.js';
import type { Packet } from './queuePair.js';

const SLOTS = 64;
/** A length word, the virtio-net header, and the largest frame. */
const SLOT_SIZE = 69_632;
const HEADER = 4096;

export const handoverRingBytes = HEADER + SLOTS * SLOT_SIZE;

export class HandoverRing {
  private readonly u32: Uint32Array;
  private readonly producedAt: number;
  private readonly consumedAt: number;

  /** @param offset where the ring lies */
  constructor(
    private readonly memory: MappedMemory,
    private readonly offset: number,
  ) {
    this.u32 = memory.u32;
    this.producedAt = offset / 4;
    // A cache line of its own
    this.consumedAt = offset / 4 + 16;
  }

  /** Copies a packet in. Returns false if the ring is full or the packet larger than any frame. */
  push(packet: Packet): boolean {
    const produced = this.u32[this.producedAt];
    if (((produced - Atomics.load(this.u32, this.consumedAt)) | 0) >= SLOTS) return false;
    if (packet.length > SLOT_SIZE - 4 - NET_HDR_SIZE) return false;
    const slot = this.slot(produced);
    let to = slot + 4 + NET_HDR_SIZE;
    const { u8 } = this.memory;
    u8.copyWithin(slot + 4, packet.header, packet.header + NET_HDR_SIZE);
    for (let n = 0; n < packet.pieces; n++) {
      u8.copyWithin(to, packet.offsets[n], packet.offsets[n] + packet.lengths[n]);
      to += packet.lengths[n];
    }
    this.u32[slot / 4] = packet.length;
    Atomics.store(this.u32, this.producedAt, (produced + 1) >>> 0);
    return true;
  }

  /** Shows the oldest packet, which stays until `release`. Returns false if there is none. */
  peek(packet: Packet): boolean {
    const consumed = this.u32[this.consumedAt];
    if (Atomics.load(this.u32, this.producedAt) === consumed) return false;
    const slot = this.slot(consumed);
    packet.header = slot + 4;
    packet.pieces = 1;
    packet.offsets[0] = slot + 4 + NET_HDR_SIZE;
    packet.lengths[0] = this.u32[slot / 4];
    packet.length = packet.lengths[0];
    return true;
  }

  release(): void {
    Atomics.store(this.u32, this.consumedAt, (this.u32[this.consumedAt] + 1) >>> 0);
  }

  private slot(index: number): number {
    return this.offset + HEADER + (index % SLOTS) * SLOT_SIZE;
  }
}
