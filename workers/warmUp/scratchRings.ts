/** The driver's side of one queue pair, in memory that no guest has. */
import { NET_HDR_SIZE } from '../../device/netHeader.js';
import type { Addon } from '../../src/native/addon.js';
import type { GuestMemory, MemoryWindow } from '../../device/guestMemory.js';
import type { QueueSnapshot } from '../snapshot.js';

const F_NEXT = 1;
const F_WRITE = 2;
const F_INDIRECT = 4;

const SIZE = 128;
/** Bytes of one queue's rings, and where they begin in them (virtio 1.2 §2.7). */
const RINGS = 4096;
const AVAIL = 16 * SIZE;
const USED = AVAIL + 512;
/** The first window: rings, receive queue's first, then tables of two descriptors each. */
const TABLES = 2 * RINGS;
const RINGS_BYTES = TABLES + 32 * SIZE;
/** The second: receive buffers, then headers of frames to send, then what they all carry. */
const BUFFER = 4096;
const HEADERS = SIZE * BUFFER;
const HEADER = 256;
const PAYLOAD = HEADERS + SIZE * HEADER;
const MAX_PAYLOAD = 64 << 10;
const BUFFERS_BYTES = PAYLOAD + MAX_PAYLOAD;
/** Buffers lie above 4 GiB, as they may in a guest. */
const RINGS_ADDRESS = 0x10_0000;
const BUFFERS_ADDRESS = 0x1_0000_0000;

const RECEIVE = 0;
const TRANSMIT = 1;

/** How a frame's payload lies in descriptors. */
export const INLINE = 0;
export const CHAINED = 1;
export const INDIRECT = 2;

export class ScratchRings {
  /** The buffers: of frames that came in, and of those to send. */
  readonly bytes: Uint8Array;
  private readonly u16: Uint16Array;
  private readonly u32: Uint32Array;
  private readonly avail = [0, 0];
  private readonly seen = [0, 0];

  /** The memory's windows, in the file `fd`. */
  static windows(addon: Addon): { readonly fd: number; readonly windows: readonly MemoryWindow[] } {
    const fd = addon.createMemory('slipway-warm-up', RINGS_BYTES + BUFFERS_BYTES);
    const rings = { guestAddress: RINGS_ADDRESS, size: RINGS_BYTES, fd, fileOffset: 0 };
    const buffers = { guestAddress: BUFFERS_ADDRESS, size: BUFFERS_BYTES, fd, fileOffset: RINGS_BYTES };
    return { fd, windows: [rings, buffers] };
  }

  /** The two queues' set-ups. @param kickFds the receive queue's and the transmit queue's */
  static queues(kickFds: readonly number[], callFd: number): QueueSnapshot[] {
    return kickFds.map((kickFd, index) => {
      const descTable = RINGS_ADDRESS + index * RINGS;
      const rings = { descTable, availRing: descTable + AVAIL, usedRing: descTable + USED };
      return { index, enabled: true, setup: { size: SIZE, lastAvailIdx: 0, kickFd, callFd, ...rings } };
    });
  }

  /** @param memory with the windows mapped */
  constructor(memory: GuestMemory) {
    this.u16 = memory.u16[0]!;
    this.u32 = memory.u32[0]!;
    this.bytes = memory.u8[1]!;
    for (let n = 0; n < SIZE; n++) {
      this.describe(RECEIVE * RINGS + 16 * n, BUFFER * n, BUFFER, F_WRITE, 0);
      this.offer(RECEIVE, n);
    }
    this.publish();
  }

  /** Where the header of the next frame to send is to be written. */
  get header(): number {
    return HEADERS + HEADER * (this.avail[TRANSMIT]! % (SIZE / 2));
  }

  /** Sends the frame at `header`: its first `length` bytes, then `payload` bytes. `way`: how these lie in descriptors. */
  send(length: number, payload: number, way: number): void {
    const head = this.avail[TRANSMIT]! % (SIZE / 2);
    const at = RINGS + 16 * head;
    const { header } = this;
    if (payload === 0 || way === INLINE) this.describe(at, header, length + payload, 0, 0);
    else if (way === CHAINED) {
      this.describe(at, header, length, F_NEXT, SIZE / 2 + head);
      this.describe(at + 8 * SIZE, PAYLOAD, payload, 0, 0);
    } else {
      const table = TABLES + 32 * head;
      this.describe(table, header, length, F_NEXT, 1);
      this.describe(table + 16, PAYLOAD, payload, 0, 0);
      this.write(at, RINGS_ADDRESS + table, 32, F_INDIRECT, 0);
    }
    this.offer(TRANSMIT, head);
  }

  /** Where the next frame that came in begins, its buffers offered again; -1: none. It lies there until `publish`. */
  receive(): number {
    const seen = this.seen[RECEIVE]!;
    if (Atomics.load(this.u16, (USED + 2) / 2) === seen) return -1;
    const first = this.usedHead(seen) * BUFFER;
    const buffers = this.bytes[first + NET_HDR_SIZE - 2]!;
    for (let n = 0; n < buffers; n++) this.offer(RECEIVE, this.usedHead(seen + n));
    this.seen[RECEIVE] = (seen + buffers) & 0xffff;
    return first + NET_HDR_SIZE;
  }

  /** Shows the device what was offered, and that it is to interrupt for the next that it uses. */
  publish(): void {
    for (const queue of [RECEIVE, TRANSMIT]) {
      const avail = (queue * RINGS + AVAIL) / 2;
      const used = Atomics.load(this.u16, (queue * RINGS + USED + 2) / 2);
      Atomics.store(this.u16, avail + 2 + SIZE, used);
      Atomics.store(this.u16, avail + 1, this.avail[queue]!);
    }
  }

  private usedHead(index: number): number {
    return this.u32[(USED + 4) / 4 + 2 * (index % SIZE)]!;
  }

  private offer(queue: number, head: number): void {
    const index = this.avail[queue]!;
    this.u16[(queue * RINGS + AVAIL) / 2 + 2 + (index % SIZE)] = head;
    this.avail[queue] = (index + 1) & 0xffff;
  }

  /** Writes the descriptor at `at` for bytes of the buffers. */
  private describe(at: number, buffer: number, length: number, flags: number, next: number): void {
    this.write(at, BUFFERS_ADDRESS + buffer, length, flags, next);
  }

  private write(at: number, address: number, length: number, flags: number, next: number): void {
    const word = at / 4;
    this.u32[word] = address >>> 0;
    this.u32[word + 1] = Math.floor(address / 2 ** 32);
    this.u32[word + 2] = length;
    this.u32[word + 3] = flags | (next << 16);
  }
}
