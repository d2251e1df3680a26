/** What the NAT sees of a device: frames in, frames out. It knows nothing of virtqueues. */

/** A frame that the guest sent. Fields hold until the next frame is read. */
export interface FrameSource {
  /** The frame's first bytes: `linear` of them from `offset`, all headers that we read at least. */
  readonly bytes: Uint8Array;
  readonly offset: number;
  readonly linear: number;
  /** Bytes of the whole frame. */
  readonly length: number;
  /** The guest left the checksum to us. */
  readonly needsCsum: boolean;
  readonly payloadFirst: number;
  readonly payloadCount: number;
  linearize(wanted: number): void;
  /** Points the payload's triples at `length` bytes that begin `from` bytes into the frame. */
  payload(from: number, length: number): void;
  /** Undoes `payload`. */
  rewind(): void;
}

/** Several frames of one payload each, filled by one system call; see device/receiveBatch.ts. */
export interface FrameBatch {
  readonly header: Uint8Array;
  readonly headerOffset: number;
  readonly payloadTriple: number;
  readonly messages: number;
  readonly data: number;
  reserve(frames: number, headers: number, most: number): number;
  length(n: number): number;
  place(n: number, length: number): void;
  commit(length: number, csumStart: number, csumOffset: number): void;
}

/** Builds frames in the guest's own buffers; see device/receiveQueue.ts. */
export interface FrameSink {
  readonly batch: FrameBatch;
  readonly header: Uint8Array;
  readonly headerOffset: number;
  readonly payloadFirst: number;
  readonly payloadCount: number;
  reserve(least: number, most: number): number;
  payload(from: number, length: number): void;
  /** Shortens the payload's triples to `length` bytes. */
  trim(length: number): void;
  commit(
    length: number,
    headers: number,
    csumStart: number,
    csumOffset: number,
    gsoType: number,
    gsoSize: number,
  ): void;
  copy(frame: Uint8Array, length: number): boolean;
}

/** A device, as one worker serves it. */
export interface GuestLink {
  /** Bytes of an IP packet. */
  readonly mtu: number;
  /** The guest takes packets whose checksum is partial (GUEST_CSUM). */
  readonly partialChecksum: boolean;
  /** The guest takes TCP over IPv4 in segments longer than the MTU (GUEST_TSO4). */
  readonly segmentation: boolean;
  /** Where frames for the guest go: `pair` if this worker serves it and the driver has it on, else another pair of this worker's; `undefined`: none. */
  sink(pair: number): FrameSink | undefined;
  /** A sink had no room: asks the driver to notify of buffers. True if some came meanwhile. */
  wantBuffers(pair: number): boolean;
}

/** What became of a frame. */
export const DONE = 0;
/** The flow keeps its chain until the socket takes it. */
export const HELD = 1;

/** Where a frame came from, so that its chain can be given back. */
export class Origin {
  /** The worker whose queue it is. */
  worker = 0;
  device = 0;
  pair = 0;
  queue = 0;
  head = 0;
}
