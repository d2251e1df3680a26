/**
 * The front end's side of a vhost-user connection, for tests: sends what it is told, right or wrong, and reads replies.
 * It knows the wire format by itself, so that a mistake in the back end's codecs can't cancel itself out.
 */
import { addon } from '../../../src/native/addon.js';

export const GET_FEATURES = 1;
export const SET_FEATURES = 2;
export const SET_OWNER = 3;
export const RESET_OWNER = 4;
export const SET_MEM_TABLE = 5;
export const SET_VRING_NUM = 8;
export const SET_VRING_ADDR = 9;
export const SET_VRING_BASE = 10;
export const GET_VRING_BASE = 11;
export const SET_VRING_KICK = 12;
export const SET_VRING_CALL = 13;
export const SET_VRING_ERR = 14;
export const GET_PROTOCOL_FEATURES = 15;
export const SET_PROTOCOL_FEATURES = 16;
export const GET_QUEUE_NUM = 17;
export const SET_VRING_ENABLE = 18;
export const SEND_RARP = 19;
export const GET_CONFIG = 24;
export const SET_CONFIG = 25;
export const RESET_DEVICE = 34;
export const GET_MAX_MEM_SLOTS = 36;
export const ADD_MEM_REG = 37;
export const REM_MEM_REG = 38;

export const FLAG_REPLY = 4;
export const FLAG_NEED_REPLY = 8;
export const NO_FD = 0x100;

export const F_PROTOCOL_FEATURES = 1n << 30n;
export const PROTOCOL_F_REPLY_ACK = 1n << 3n;

export interface Reply {
  readonly request: number;
  readonly flags: number;
  readonly payload: DataView;
}

export interface Region {
  readonly guestAddress: number;
  readonly size: number;
  readonly userAddress: bigint;
  readonly fileOffset: number;
}

export function u64(value: bigint | number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}

export function state(index: number, num: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(index, num).buffer);
}

/** "A vring address description". */
export function vringAddress(index: number, desc: bigint, avail: bigint, used: bigint, flags = 0): Uint8Array {
  const bytes = new Uint8Array(40);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, index, true);
  view.setUint32(4, flags, true);
  view.setBigUint64(8, desc, true);
  view.setBigUint64(16, used, true);
  view.setBigUint64(24, avail, true);
  return bytes;
}

export function regionBytes(region: Region): Uint8Array {
  const { guestAddress, size, userAddress, fileOffset } = region;
  return new Uint8Array(BigUint64Array.of(BigInt(guestAddress), BigInt(size), userAddress, BigInt(fileOffset)).buffer);
}

/** Payload of SET_MEM_TABLE. */
export function memoryTable(regions: readonly Region[], count = regions.length): Uint8Array {
  return concat(state(count, 0), ...regions.map(regionBytes));
}

/** Payload of ADD_MEM_REG and REM_MEM_REG. */
export function singleRegion(region: Region): Uint8Array {
  return concat(u64(0), regionBytes(region));
}

/** Payload of GET_CONFIG and SET_CONFIG. */
export function configAccess(offset: number, size: number, bytes = size): Uint8Array {
  return concat(state(offset, size), new Uint8Array(4 + bytes));
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

export function message(
  request: number,
  payload: Uint8Array = new Uint8Array(0),
  flags = 1,
  size = payload.length,
): Uint8Array {
  return concat(new Uint8Array(Uint32Array.of(request, flags, size).buffer), payload);
}

export class FrontEnd {
  private closed = false;

  /** Takes the socket over. */
  constructor(readonly fd: number) {}

  static connect(path: string): FrontEnd {
    return new FrontEnd(addon.unixConnect(path));
  }

  /** Sends bytes as they are. Returns false if the other side has gone or takes no more now. */
  sendBytes(bytes: Uint8Array, fds: readonly number[] = []): boolean {
    try {
      return addon.unixSend(this.fd, bytes, 0, fds) === bytes.length;
    } catch {
      return false;
    }
  }

  send(request: number, payload?: Uint8Array, fds: readonly number[] = [], flags = 1): void {
    this.sendBytes(message(request, payload, flags), fds);
  }

  /** Sends one byte at a time, the descriptors with the first, and lets the other side read each by itself. */
  async trickle(bytes: Uint8Array, fds: readonly number[] = []): Promise<void> {
    for (const [n, byte] of bytes.entries()) {
      this.sendBytes(Uint8Array.of(byte), n === 0 ? fds : []);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** The next reply; `undefined` when the other side has closed. */
  async receive(): Promise<Reply | undefined> {
    const header = await this.read(12);
    if (header === undefined) return undefined;
    const view = new DataView(header.buffer);
    const payload = (await this.read(view.getUint32(8, true))) ?? new Uint8Array(0);
    return { request: view.getUint32(0, true), flags: view.getUint32(4, true), payload: new DataView(payload.buffer) };
  }

  /** Sends a request that has a reply of its own and waits for it. Throws if the connection ends or the reply is another's. */
  async ask(request: number, payload?: Uint8Array, fds: readonly number[] = [], flags = 1): Promise<DataView> {
    this.send(request, payload, fds, flags);
    const reply = await this.receive();
    if (reply === undefined) throw new Error(`the back end closed the connection upon request ${request}`);
    if (reply.request !== request || reply.flags !== (1 | FLAG_REPLY)) {
      throw new Error(`request ${request} was answered by ${reply.request} with flags ${reply.flags}`);
    }
    return reply.payload;
  }

  async askU64(request: number): Promise<bigint> {
    return (await this.ask(request)).getBigUint64(0, true);
  }

  /** Sends a request with NEED_REPLY and returns the acknowledgement: 0 for success. */
  async ack(request: number, payload?: Uint8Array, fds: readonly number[] = []): Promise<bigint> {
    return (await this.ask(request, payload, fds, 1 | FLAG_NEED_REPLY)).getBigUint64(0, true);
  }

  /** Resolves once everything sent so far has been obeyed. */
  async settled(): Promise<void> {
    await this.ask(GET_FEATURES);
  }

  /** Reads replies until the other side closes. */
  async ended(): Promise<void> {
    while ((await this.receive()) !== undefined);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    addon.close(this.fd);
  }

  /** `length` bytes; `undefined` if the other side closed before the last. */
  private async read(length: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const bytes = new Uint8Array(length);
    let filled = 0;
    while (filled < length) {
      const received = this.receiveSome(bytes, filled);
      if (received === 0) return undefined;
      if (received < 0) await this.readable();
      else filled += received;
    }
    return bytes;
  }

  /** Bytes read; 0 at the end, -1 if there are none yet. */
  private receiveSome(bytes: Uint8Array, offset: number): number {
    try {
      const received = addon.unixReceive(this.fd, bytes, offset, bytes.length - offset);
      for (const fd of received?.fds ?? []) addon.close(fd);
      return received?.length ?? -1;
    } catch {
      return 0;
    }
  }

  private async readable(): Promise<void> {
    await new Promise<void>((resolve) => {
      const watcher = addon.watch(this.fd, { readable: true }, () => {
        watcher.close();
        resolve();
      });
    });
  }
}

/** Guest memory of one file, with rings laid out at its start, and the eventfds of each ring. Owns all descriptors. */
export class Guest {
  static readonly SIZE = 1 << 20;
  readonly memory = addon.createMemory('guest', Guest.SIZE);
  readonly kick = addon.eventfdCreate();
  readonly call = addon.eventfdCreate();
  readonly err = addon.eventfdCreate();
  readonly region: Region;

  constructor(guestAddress = 0x4000_0000, userAddress = 0x7f00_0000_0000n) {
    this.region = { guestAddress, size: Guest.SIZE, userAddress, fileOffset: 0 };
  }

  /** Payload of SET_VRING_ADDR of ring `index`: each ring has 16 KiB, enough for 256 entries. */
  ringAddress(index: number, flags = 0): Uint8Array {
    const start = this.region.userAddress + BigInt(index) * 0x4000n;
    return vringAddress(index, start, start + 0x1000n, start + 0x2000n, flags);
  }

  close(): void {
    for (const fd of [this.memory, this.kick, this.call, this.err]) addon.close(fd);
  }
}
