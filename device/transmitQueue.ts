/**
 * Frames that the driver transmits (virtio 1.2 §5.1.6.2), taken from a virtqueue without copying.
 *
 * The headers are read where they lie if the first buffer holds them, else from a copy: nothing is assumed about how
 * the driver cuts a frame into descriptors (§2.7.4.1). The payload is named by triples in the iovec scratch.
 */
import type { GuestMemory } from './guestMemory.js';
import {
  GSO_ECN,
  GSO_NONE,
  GSO_TCPV4,
  GSO_TCPV6,
  HDR_CSUM_OFFSET,
  HDR_CSUM_START,
  HDR_F_NEEDS_CSUM,
  HDR_FLAGS,
  HDR_GSO_SIZE,
  HDR_GSO_TYPE,
} from './netHeader.js';
import type { Virtqueue } from './virtqueue.js';

/** Ethernet, the longest IPv4 and the longest TCP header: what `headers` holds at least of a frame that has it. */
const HEADERS = 14 + 60 + 60;
/** The longest frame: a 64 KiB IP packet in Ethernet. */
const MAX_FRAME = 65535 + 14;

/** Ethernet header and one VLAN tag: what a frame has beside its packet. */
const LINK_HEADER = 14 + 4;

/** What the driver may send, by what it negotiated (virtio 1.2 §5.1.6.2.1, §5.1.4.2). A frame beyond it is no frame. */
export class TransmitRules {
  /** The driver may leave checksums to us; else the flag that says so is ignored. */
  csum = true;
  /** Bit n: frames of GSO type n. */
  gsoTypes = -1;
  /** Bytes of a frame that isn't to be segmented, at most. */
  longest = MAX_FRAME;

  /** @param mtu bytes of an IP packet; `undefined` if the driver was not told */
  negotiated(csum: boolean, tso4: boolean, tso6: boolean, mtu: number | undefined): void {
    this.csum = csum;
    this.gsoTypes = (1 << GSO_NONE) | (tso4 ? 1 << GSO_TCPV4 : 0) | (tso6 ? 1 << GSO_TCPV6 : 0);
    this.longest = mtu === undefined ? MAX_FRAME : Math.min(MAX_FRAME, mtu + LINK_HEADER);
  }

  allow(gsoType: number, length: number): boolean {
    if (gsoType > 31 || ((this.gsoTypes >>> gsoType) & 1) === 0) return false;
    return gsoType !== GSO_NONE || length <= this.longest;
  }
}

/** A frame in guest memory. All fields hold until the next `read`. */
export class TransmitFrame {
  /** The frame's first bytes: `linear` of them from `offset`. */
  bytes: Uint8Array = new Uint8Array(0);
  offset = 0;
  linear = 0;
  /** The whole frame, in bytes, without the virtio-net header. */
  length = 0;
  /** The driver left the checksum to us: `csumStart + csumOffset` lies in the frame. */
  needsCsum = false;
  csumStart = 0;
  csumOffset = 0;
  /** GSO type without the ECN bit, and the driver's segment size. */
  gsoType = 0;
  gsoSize = 0;
  /** Triples set by `payload`. */
  payloadFirst = 0;
  payloadCount = 0;

  private first = 0;
  private count = 0;
  private savedFirst = 0;
  private savedCount = 0;
  private skipped = 0;
  private trimmedAt = 0;
  private trimmedBy = 0;
  private readonly scratch = new Uint8Array(2048);
  private readonly header = new Uint8Array(12);

  constructor(
    private readonly memory: GuestMemory,
    private readonly iovecs: Uint32Array,
    private readonly rules: TransmitRules = new TransmitRules(),
  ) {}

  /**
   * Reads the frame of the chain that `queue` walked last.
   * @param headerSize bytes of the virtio-net header that was negotiated
   * @returns false for a chain that is no frame: writable parts, too short, too long, not as was negotiated
   */
  read(queue: Virtqueue, headerSize: number): boolean {
    if (queue.count !== queue.readable) return false;
    this.length = queue.readableBytes - headerSize;
    if (this.length < 14 || this.length > MAX_FRAME) return false;
    this.first = queue.first;
    this.count = queue.count;
    this.gather(headerSize, this.header);
    this.parseHeader();
    if (!this.rules.allow(this.gsoType, this.length)) return false;
    this.skip(headerSize);
    this.linearize(HEADERS);
    return true;
  }

  /** Makes at least `wanted` bytes (or the whole frame, or 2048) readable in `bytes`. */
  linearize(wanted: number): void {
    const triple = 3 * this.first;
    const length = this.iovecs[triple + 2]!;
    const enough = Math.min(wanted, this.length, this.scratch.length);
    if (length >= enough) {
      this.bytes = this.memory.bytesOf(this.iovecs[triple]!);
      this.offset = this.iovecs[triple + 1]!;
      this.linear = Math.min(length, this.length);
      return;
    }
    this.gather(enough, this.scratch);
    this.bytes = this.scratch;
    this.offset = 0;
    this.linear = enough;
  }

  /**
   * Points `payloadFirst` and `payloadCount` at `length` bytes that begin `from` bytes into the frame, or those of them
   * that it has. The triples are trimmed in place: `rewind` comes before the next call.
   */
  payload(from: number, length: number): void {
    this.savedFirst = this.first;
    this.savedCount = this.count;
    this.skip(from);
    this.payloadFirst = this.first;
    let rest = length;
    let n = 0;
    while (rest > 0 && n < this.count) {
      const at = 3 * (this.first + n++) + 2;
      if (this.iovecs[at]! > rest) {
        this.trimmedAt = at;
        this.trimmedBy = this.iovecs[at]! - rest;
        this.iovecs[at] = rest;
      }
      rest -= this.iovecs[at]!;
    }
    this.payloadCount = n;
  }

  /** Makes the triples name the whole frame again after `payload`. */
  rewind(): void {
    this.iovecs[this.trimmedAt] = this.iovecs[this.trimmedAt]! + this.trimmedBy;
    const triple = 3 * this.first;
    this.iovecs[triple + 1] = this.iovecs[triple + 1]! - this.skipped;
    this.iovecs[triple + 2] = this.iovecs[triple + 2]! + this.skipped;
    this.first = this.savedFirst;
    this.count = this.savedCount;
    this.trimmedBy = 0;
    this.skipped = 0;
  }

  /** Drops the first `bytes` bytes from the triples. */
  private skip(bytes: number): void {
    let rest = bytes;
    this.skipped = 0;
    this.trimmedBy = 0;
    while (rest > 0 && this.count > 0) {
      const triple = 3 * this.first;
      const length = this.iovecs[triple + 2]!;
      if (length > rest) {
        this.iovecs[triple + 1] = this.iovecs[triple + 1]! + rest;
        this.iovecs[triple + 2] = length - rest;
        this.skipped = rest;
        return;
      }
      this.first++;
      this.count--;
      rest -= length;
    }
  }

  /** Copies the triples' first `length` bytes to `out`. */
  private gather(length: number, out: Uint8Array): void {
    let done = 0;
    for (let n = 0; n < this.count && done < length; n++) {
      const triple = 3 * (this.first + n);
      const source = this.memory.bytesOf(this.iovecs[triple]!);
      const at = this.iovecs[triple + 1]!;
      const piece = Math.min(this.iovecs[triple + 2]!, length - done);
      for (let i = 0; i < piece; i++) out[done + i] = source[at + i]!;
      done += piece;
    }
  }

  /** Unknown flags are ignored, and hdr_len isn't used at all (§5.1.6.2.2). */
  private parseHeader(): void {
    const h = this.header;
    this.needsCsum = this.rules.csum && (h[HDR_FLAGS]! & HDR_F_NEEDS_CSUM) !== 0;
    this.gsoType = h[HDR_GSO_TYPE]! & ~GSO_ECN;
    this.gsoSize = h[HDR_GSO_SIZE]! | (h[HDR_GSO_SIZE + 1]! << 8);
    this.csumStart = h[HDR_CSUM_START]! | (h[HDR_CSUM_START + 1]! << 8);
    this.csumOffset = h[HDR_CSUM_OFFSET]! | (h[HDR_CSUM_OFFSET + 1]! << 8);
  }
}
