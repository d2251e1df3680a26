/**
 * The front end's side of the vhost-user protocol: what a VMM does to hand a virtio-net device to a back end.
 * Source: the vhost-user protocol ("Message types", "Communication").
 */
import { rmSync } from 'node:fs';
import { HEADER_SIZE, ProtocolFeature, Request, requestName } from '../../device/vhostUser/messages.js';
import { SlipwayError } from '../../src/errors.js';
import { addon } from '../../src/native/addon.js';
import { queueSizes } from './driverQueue.js';
import type { QueueLayout } from './driverQueue.js';
import { acceptFeatures, has } from './features.js';
import type { FeatureName } from './features.js';
import { guestRegions, userAddress } from './guestMemory.js';
import type { GuestMemoryShape } from './guestMemory.js';

const VERSION = 1;
const VERSION_MASK = 3;
const FLAG_REPLY = 4;
const FLAG_NEED_REPLY = 8;
const ANSWER_TIMEOUT_MS = 10_000;
/** Bytes of payload; no answer that is asked for here comes near it. */
const LARGEST_REPLY = 4_096;
/** Bytes of `struct virtio_net_config` up to and with `mtu`. */
const NET_CONFIG_BYTES = 12;
const TAKEN_PROTOCOL_FEATURES = ProtocolFeature.MQ | ProtocolFeature.REPLY_ACK | ProtocolFeature.CONFIG;

/** The back end refused a message, broke the protocol or went away. */
export class FrontEndError extends SlipwayError {
  override readonly name = 'FrontEndError';
}

/** What the two sides agreed on. */
export interface Negotiated {
  readonly offered: bigint;
  readonly features: bigint;
  readonly offeredProtocol: bigint;
  readonly protocol: bigint;
  /** The back end's answer to GET_QUEUE_NUM: queue pairs in some back ends, rings in others; 1 without the feature MQ. */
  readonly maxQueues: number;
}

/** The device's configuration space, as far as a driver may read it. */
export interface NetConfig {
  readonly mac: Uint8Array;
  readonly maxPairs: number;
  readonly mtu: number;
}

export class FrontEnd {
  private acknowledged = false;
  private protocol = 0n;
  private closed = false;

  /** Takes the connected socket over. */
  constructor(private readonly fd: number) {}

  /** @throws {FrontEndError} if nobody listens there */
  static connect(path: string): FrontEnd {
    try {
      return new FrontEnd(addon.unixConnect(path));
    } catch (error) {
      throw new FrontEndError(`no back end at ${path} (${(error as Error).message})`, { cause: error });
    }
  }

  /**
   * Waits for one back end to connect (the back end's client mode). The socket file is gone afterwards.
   * @throws {FrontEndError} if the path can't be listened at, or nobody comes
   */
  static async listen(path: string, timeoutMs = ANSWER_TIMEOUT_MS): Promise<FrontEnd> {
    const listener = listenAt(path);
    try {
      const deadline = Date.now() + timeoutMs;
      for (;;) {
        const fd = addon.unixAccept(listener);
        if (fd >= 0) return new FrontEnd(fd);
        await ready(listener, { readable: true }, deadline, `no back end connected to ${path}`);
      }
    } finally {
      addon.close(listener);
      rmSync(path, { force: true });
    }
  }

  /**
   * Agrees on features, and on protocol features where the back end has them.
   * @throws {FrontEndError} if VERSION_1 is not offered or an answer is wrong
   */
  async negotiate(refused: readonly FeatureName[]): Promise<Negotiated> {
    const offered = await this.getU64(Request.GET_FEATURES);
    const features = acceptFeatures(offered, refused);
    if (!has(features, 'VERSION_1')) throw new FrontEndError('the back end does not offer VIRTIO_F_VERSION_1');
    let offeredProtocol = 0n;
    let maxQueues = 1;
    if (has(features, 'PROTOCOL_FEATURES')) {
      offeredProtocol = await this.getU64(Request.GET_PROTOCOL_FEATURES);
      this.protocol = offeredProtocol & TAKEN_PROTOCOL_FEATURES;
      await this.send(Request.SET_PROTOCOL_FEATURES, u64(this.protocol));
      if (this.protocol & ProtocolFeature.MQ && has(features, 'MQ')) {
        maxQueues = Number(await this.getU64(Request.GET_QUEUE_NUM));
      }
      this.acknowledged = (this.protocol & ProtocolFeature.REPLY_ACK) !== 0n;
    }
    await this.set(Request.SET_OWNER);
    await this.set(Request.SET_FEATURES, u64(features));
    return { offered, features, offeredProtocol, protocol: this.protocol, maxQueues };
  }

  /** The configuration space; `undefined` if the back end keeps none (no protocol feature CONFIG). */
  async getConfig(): Promise<NetConfig | undefined> {
    if ((this.protocol & ProtocolFeature.CONFIG) === 0n) return undefined;
    const payload = new Uint8Array(12 + NET_CONFIG_BYTES);
    new DataView(payload.buffer).setUint32(4, NET_CONFIG_BYTES, true);
    await this.send(Request.GET_CONFIG, payload);
    const reply = await this.receive(Request.GET_CONFIG, payload.length);
    return {
      mac: new Uint8Array(reply.buffer, 12, 6),
      maxPairs: reply.getUint16(20, true),
      mtu: reply.getUint16(22, true),
    };
  }

  async setMemory(shape: GuestMemoryShape): Promise<void> {
    const regions = guestRegions(shape);
    const payload = new Uint8Array(8 + 32 * regions.length);
    const view = new DataView(payload.buffer);
    view.setUint32(0, regions.length, true);
    for (const [n, region] of regions.entries()) {
      const fields = [region.guestAddress, region.size, region.userAddress, region.fileOffset];
      for (const [k, value] of fields.entries()) view.setBigUint64(8 + 32 * n + 8 * k, BigInt(value), true);
    }
    await this.set(
      Request.SET_MEM_TABLE,
      payload,
      regions.map(() => shape.fd),
    );
  }

  /** Sets a queue up and starts it; with protocol features it is still disabled ("Ring states"). */
  async startQueue(
    index: number,
    layout: QueueLayout,
    kickFd: number,
    callFd: number,
    base: number,
    shape: GuestMemoryShape,
  ): Promise<void> {
    checkPlaced(layout, shape);
    await this.set(Request.SET_VRING_NUM, vringState(index, layout.size));
    await this.set(Request.SET_VRING_BASE, vringState(index, base));
    const addresses = new Uint8Array(40);
    const view = new DataView(addresses.buffer);
    view.setUint32(0, index, true);
    view.setBigUint64(8, BigInt(userAddress(layout.descTable)), true);
    view.setBigUint64(16, BigInt(userAddress(layout.usedRing)), true);
    view.setBigUint64(24, BigInt(userAddress(layout.availRing)), true);
    await this.set(Request.SET_VRING_ADDR, addresses);
    await this.set(Request.SET_VRING_CALL, u64(BigInt(index)), [callFd]);
    await this.set(Request.SET_VRING_KICK, u64(BigInt(index)), [kickFd]);
  }

  async enableQueue(index: number, enabled: boolean): Promise<void> {
    await this.set(Request.SET_VRING_ENABLE, vringState(index, enabled ? 1 : 0));
  }

  /** Stops a queue. Returns its next available index. */
  async stopQueue(index: number): Promise<number> {
    await this.send(Request.GET_VRING_BASE, vringState(index, 0));
    return (await this.receive(Request.GET_VRING_BASE, 8)).getUint32(4, true);
  }

  /** Whether the back end has hung up; for those that send nothing on their own. */
  isDisconnected(): boolean {
    if (this.closed) return true;
    try {
      const received = addon.unixReceive(this.fd, new Uint8Array(1), 0, 1);
      for (const fd of received?.fds ?? []) addon.close(fd);
      return received?.length === 0;
    } catch {
      return true;
    }
  }

  close(): void {
    if (!this.closed) addon.close(this.fd);
    this.closed = true;
  }

  /** A request without a reply of its own: waits for the acknowledgement where that was agreed on. */
  private async set(
    request: number,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
  ): Promise<void> {
    await this.send(request, payload, fds, this.acknowledged ? FLAG_NEED_REPLY : 0);
    if (!this.acknowledged) return;
    const code = (await this.receive(request, 8)).getBigUint64(0, true);
    if (code !== 0n) throw new FrontEndError(`the back end refused ${requestName(request)} (${code})`);
  }

  private async getU64(request: number): Promise<bigint> {
    await this.send(request);
    return (await this.receive(request, 8)).getBigUint64(0, true);
  }

  private async send(
    request: number,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
    flags = 0,
  ): Promise<void> {
    const bytes = new Uint8Array(HEADER_SIZE + payload.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, request, true);
    view.setUint32(4, VERSION | flags, true);
    view.setUint32(8, payload.length, true);
    bytes.set(payload, HEADER_SIZE);
    const deadline = Date.now() + ANSWER_TIMEOUT_MS;
    for (let sent = 0; sent < bytes.length;) {
      const taken = this.guarded(request, () => addon.unixSend(this.fd, bytes, sent, sent === 0 ? fds : []));
      sent += taken;
      if (taken === 0) {
        await ready(this.fd, { writable: true }, deadline, `the back end does not read ${requestName(request)}`);
      }
    }
  }

  private async receive(request: number, least: number): Promise<DataView> {
    const header = new DataView((await this.read(request, HEADER_SIZE)).buffer);
    const complaint = faultOfReply(request, header, least);
    if (complaint !== undefined) throw new FrontEndError(`${requestName(request)} was answered ${complaint}`);
    return new DataView((await this.read(request, header.getUint32(8, true))).buffer);
  }

  private async read(request: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    const deadline = Date.now() + ANSWER_TIMEOUT_MS;
    for (let filled = 0; filled < length;) {
      const received = this.guarded(request, () => addon.unixReceive(this.fd, bytes, filled, length - filled));
      if (received === undefined) {
        await ready(this.fd, { readable: true }, deadline, `the back end does not answer ${requestName(request)}`);
        continue;
      }
      for (const fd of received.fds) addon.close(fd);
      if (received.length === 0) throw new FrontEndError(`the back end hung up at ${requestName(request)}`);
      filled += received.length;
    }
    return bytes;
  }

  /** A system call on the socket, its failure told as what it means. */
  private guarded<Result>(request: number, call: () => Result): Result {
    try {
      return call();
    } catch (error) {
      throw new FrontEndError(`the back end hung up at ${requestName(request)}`, { cause: error });
    }
  }
}

function listenAt(path: string): number {
  try {
    return addon.unixListen(path);
  } catch (error) {
    throw new FrontEndError(`cannot listen at ${path} (${(error as Error).message})`, { cause: error });
  }
}

/** What is wrong with the header of a reply, if anything; looked at before its payload is waited for. */
function faultOfReply(request: number, header: DataView, least: number): string | undefined {
  const [answered, flags, size] = [0, 4, 8].map((at) => header.getUint32(at, true));
  if (answered !== request) return `by ${requestName(answered)}`;
  if ((flags & VERSION_MASK) !== VERSION) return `in version ${flags & VERSION_MASK}`;
  if ((flags & FLAG_REPLY) === 0) return 'by a message without the reply flag';
  return size < least || size > LARGEST_REPLY ? `by ${size} bytes instead of ${least}` : undefined;
}

/** Resolves when `fd` is ready. */
async function ready(
  fd: number,
  events: { readable?: boolean; writable?: boolean },
  deadline: number,
  complaint: string,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const watcher = addon.watch(fd, events, () => {
      clearTimeout(timer);
      watcher.close();
      resolve();
    });
    const timer = setTimeout(
      () => {
        watcher.close();
        reject(new FrontEndError(complaint));
      },
      Math.max(deadline - Date.now(), 0),
    );
  });
}

/** A back end translates the start of each part only: each must lie in one region as a whole. */
function checkPlaced(layout: QueueLayout, shape: GuestMemoryShape): void {
  const sizes = queueSizes(layout.size);
  for (const part of ['descTable', 'availRing', 'usedRing'] as const) {
    const first = Math.floor(layout[part] / shape.regionSize);
    const last = Math.floor((layout[part] + sizes[part] - 1) / shape.regionSize);
    if (first !== last) throw new RangeError(`the ${part} at ${layout[part]} straddles two regions`);
  }
}

function u64(value: bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(value).buffer);
}

function vringState(index: number, num: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(index, num).buffer);
}
