/**
 * A data plane for tests that is a small network: it answers ARP, TCP through `PeerTcp`, and UDP as it is told. It checks every frame by its
 * own means, and can lose packets, and send them on any queue pair.
 */
import type { DeviceDataPlane, MemoryRegion, VirtqueueSetup } from '../../../device/dataPlane.js';
import { NET_STATE_WORDS, NetState } from '../../../device/netState.js';
import { ModelMemory, ModelQueue } from './modelQueue.js';
import { PeerTcp } from './peerTcp.js';
import type { Segment } from './peerTcp.js';

export const PEER_MAC = [0x02, 0x11, 0x22, 0x33, 0x44, 0x55];
/** Bytes of the tests' receive buffers. */
export const RX_BUFFER = 2048;
const CSUM = 1n << 0n;
const GUEST_CSUM = 1n << 1n;
const GUEST_TSO4 = 1n << 7n;
const HOST_TSO4 = 1n << 11n;
const MRG_RXBUF = 1n << 15n;
const EVENT_IDX = 1n << 29n;
const SYN = 2;
const TCP = 6;
const UDP = 17;

/** How a packet goes into receive buffers, and what the driver is told of it. */
export interface Delivery {
  /** Bytes that each buffer gets. */
  pieces: number[];
  /** used.len of each. */
  used: number[];
  numBuffers: number;
  /** Use the buffers in the opposite order of that in which they were offered. */
  backwards: boolean;
}

/** What the guest sends; the host's port and the guest's. */
export interface Datagram {
  readonly localPort: number;
  readonly remotePort: number;
  readonly payload: Buffer;
}

export interface PeerOptions {
  /** Chance of a TCP packet, or a datagram, in either direction to be lost. */
  readonly loss?: number;
  /** The queue pair that a packet to the guest goes out on, for the one that its flow sent on last. */
  readonly route?: (pair: number) => number;
  /** Given each datagram of the guest's; `answer` sends it another one. Without it datagrams are lost. */
  readonly udp?: (datagram: Datagram, answer: (payload: Uint8Array) => void) => void;
  readonly service?: ConstructorParameters<typeof PeerTcp>[0];
  /** 0 … 1, for `loss`. */
  readonly random?: () => number;
  /** Changes how a TCP packet to the guest is delivered: devices that break virtio's rules. */
  readonly tamper?: (delivery: Delivery) => void;
  /** Bytes of mergeable receive buffers, if not RX_BUFFER. */
  readonly rxBuffer?: number;
  /** MSS that SYN-ACKs announce; by default the guest's own. */
  readonly mss?: number;
  /** Answer no ARP request. */
  readonly mute?: boolean;
}

/** The services of bench/native/serve.c from port 18000. */
function standardService(port: number): ReturnType<ConstructorParameters<typeof PeerTcp>[0]> {
  const offset = port - 18_000;
  if (offset >= 0 && offset < 8) return 'echo';
  if (offset === 10) return 'sink';
  if (offset === 11) return 'source';
  if (offset === 12) return 'check';
  return offset === 13 ? 'silent' : 'refuse';
}

export class PeerNetwork implements DeviceDataPlane {
  readonly net = new NetState(new Int32Array(NET_STATE_WORDS));
  onQueueBroken: (index: number, reason: string) => void = () => undefined;
  readonly tcp: PeerTcp;
  /** What the guest broke. */
  readonly complaints: string[] = [];
  largeSegments = 0;
  lost = 0;
  readonly pairPackets: number[];

  private features = 0n;
  private memory = new ModelMemory([]);
  private readonly queues = new Map<number, ModelQueue>();
  private readonly waiting: { readonly pair: number; readonly header: Uint8Array; readonly frame: Buffer }[] = [];
  private guestMac: number[] = [];
  private readonly flowPair = new Map<number, number>();

  constructor(
    readonly pairs: number,
    private readonly options: PeerOptions = {},
  ) {
    this.pairPackets = Array.from({ length: pairs }, () => 0);
    this.tcp = new PeerTcp(
      options.service ?? standardService,
      (segment) => this.sendTcp(segment),
      (mss) => (this.has(GUEST_TSO4) ? mss * Math.max(1, Math.floor(60_000 / mss)) : mss),
    );
  }

  async setFeatures(features: bigint): Promise<void> {
    this.features = features;
  }

  async setMemory(regions: readonly MemoryRegion[]): Promise<void> {
    this.memory.unmap();
    this.memory = new ModelMemory(regions);
  }

  async startQueue(index: number, setup: VirtqueueSetup): Promise<void> {
    this.queues.set(index, new ModelQueue(this.memory, setup, this.has(EVENT_IDX)));
  }

  async stopQueue(index: number): Promise<number> {
    this.queues.delete(index);
    return 0;
  }

  async setQueueEnabled(): Promise<void> {
    // Every started queue is served.
  }

  async setCallFd(): Promise<void> {
    // No test changes it.
  }

  kick(): boolean {
    return false;
  }

  async reset(): Promise<void> {
    this.queues.clear();
    this.memory.unmap();
    this.memory = new ModelMemory([]);
  }

  /** A virtqueue that runs, by its index. @throws {Error} if it doesn't */
  queue(index: number): ModelQueue {
    const queue = this.queues.get(index);
    if (queue === undefined) throw new Error(`queue ${index} does not run`);
    return queue;
  }

  private has(feature: bigint): boolean {
    return (this.features & feature) !== 0n;
  }

  private unlucky(): boolean {
    const lost = (this.options.random ?? Math.random)() < (this.options.loss ?? 0);
    if (lost) this.lost++;
    return lost;
  }

  /** Takes what the guest sent, answers, and delivers what there is room for. */
  step(): void {
    for (let pair = 0; pair < this.pairs; pair++) {
      const queue = this.queues.get(2 * pair + 1);
      if (queue === undefined) continue;
      for (let chain = queue.take(); chain !== undefined; chain = queue.take()) {
        const packet = Buffer.concat(chain.readable);
        queue.use(chain.head, 0);
        if (chain.writable.length > 0) this.complaints.push('a writable buffer in a transmit queue');
        this.pairPackets[pair]++;
        this.input(pair, packet.subarray(0, 12), packet.subarray(12));
      }
      queue.wantKicks(true);
      queue.publish();
    }
    this.tcp.step();
    this.deliver();
  }

  private input(pair: number, header: Buffer, frame: Buffer): void {
    this.guestMac = [...frame.subarray(6, 12)];
    const type = frame.readUInt16BE(12);
    if (type === 0x0806) return this.arp(pair, frame);
    if (type !== 0x0800) return void this.complaints.push(`EtherType ${type}`);
    const ip = frame.subarray(14);
    const length = ip.readUInt16BE(2);
    if (sum(ip.subarray(0, 20)) !== 0xffff) this.complaints.push('IP header checksum');
    if (length !== ip.length) this.complaints.push(`IP length ${length} in a frame of ${ip.length}`);
    if (ip[9] === UDP) return this.udpInput(pair, header, ip);
    if (ip[9] !== TCP) return void this.complaints.push(`protocol ${ip[9]}`);
    const tcp = ip.subarray(20);
    const headerLength = (tcp[12] >> 4) * 4;
    this.checkChecksum(header, ip, 16);
    this.checkSegmentation(header, tcp.length - headerLength);
    if (this.unlucky()) return;
    this.flowPair.set(tcp.readUInt16BE(0), pair);
    const mss = tcp[13] & SYN ? { mss: tcp.readUInt16BE(22) } : {};
    this.tcp.input({
      localPort: tcp.readUInt16BE(0),
      remotePort: tcp.readUInt16BE(2),
      sequence: tcp.readInt32BE(4),
      acknowledgement: tcp.readInt32BE(8),
      flags: tcp[13],
      window: tcp.readUInt16BE(14),
      payload: tcp.subarray(headerLength),
      ...mss,
    });
  }

  private udpInput(pair: number, header: Buffer, ip: Buffer): void {
    const udp = ip.subarray(20);
    this.checkChecksum(header, ip, 6);
    if (udp.readUInt16BE(4) !== udp.length) this.complaints.push(`UDP length ${udp.readUInt16BE(4)} of ${udp.length}`);
    if (udp.readUInt16BE(6) === 0) this.complaints.push('no UDP checksum');
    if (header[1] !== 0) this.complaints.push(`gso_type ${header[1]} of a datagram`);
    if (this.unlucky()) return;
    const [localPort, remotePort] = [udp.readUInt16BE(0), udp.readUInt16BE(2)];
    this.options.udp?.({ localPort, remotePort, payload: udp.subarray(8) }, (payload) => {
      if (this.unlucky()) return;
      const answer = Buffer.alloc(8 + payload.length);
      answer.writeUInt16BE(remotePort, 0);
      answer.writeUInt16BE(localPort, 2);
      answer.writeUInt16BE(answer.length, 4);
      answer.set(payload, 8);
      this.sendIp(pair, UDP, answer, 6);
    });
  }

  /** virtio 1.2 §5.1.6.2: what the driver may ask of the device; `field` is that of the checksum. */
  private checkChecksum(header: Buffer, ip: Buffer, field: number): void {
    const l4 = ip.subarray(20);
    const pseudo = pseudoSum(ip, l4.length);
    if (header[0] & 1) {
      if (!this.has(CSUM)) this.complaints.push('a partial checksum without CSUM');
      if (header.readUInt16LE(6) !== 34 || header.readUInt16LE(8) !== field)
        this.complaints.push('csum_start, csum_offset');
      if (l4.readUInt16BE(field) !== pseudo) this.complaints.push('sum of the pseudo-header');
    } else if (sum(l4, pseudo) !== 0xffff) {
      this.complaints.push(`checksum of protocol ${ip[9]}`);
    }
  }

  private checkSegmentation(header: Buffer, payload: number): void {
    const [flags, gso] = header;
    const segment = header.readUInt16LE(4);
    if (gso === 0) return;
    this.largeSegments++;
    if (!this.has(HOST_TSO4) || gso !== 1 || !(flags & 1)) this.complaints.push(`gso_type ${gso}`);
    if (header.readUInt16LE(2) !== 54 || segment === 0 || segment >= payload) this.complaints.push('hdr_len, gso_size');
  }

  private arp(pair: number, frame: Buffer): void {
    if (this.options.mute === true) return;
    const answer = Buffer.from(frame.subarray(0, 42));
    answer.set(this.guestMac, 0);
    answer.set(PEER_MAC, 6);
    answer.writeUInt16BE(2, 20);
    answer.set(PEER_MAC, 22);
    frame.copy(answer, 28, 38, 42);
    answer.set(this.guestMac, 32);
    frame.copy(answer, 38, 28, 32);
    this.waiting.push({ pair, header: new Uint8Array(12), frame: answer });
  }

  private sendTcp(segment: Segment): void {
    if (this.unlucky()) return;
    const mss = this.options.mss ?? segment.mss ?? 536;
    const options = segment.flags & SYN ? [2, 4, mss >> 8, mss & 255, 1, 3, 3, 4] : [];
    const tcp = Buffer.alloc(20 + options.length + segment.payload.length);
    tcp.writeUInt16BE(segment.localPort, 0);
    tcp.writeUInt16BE(segment.remotePort, 2);
    tcp.writeInt32BE(segment.sequence, 4);
    tcp.writeInt32BE(segment.acknowledgement, 8);
    tcp[12] = (5 + options.length / 4) << 4;
    tcp[13] = segment.flags;
    tcp.writeUInt16BE(segment.window, 14);
    tcp.set(options, 20);
    tcp.set(segment.payload, 20 + options.length);
    const large = segment.payload.length > (segment.mss ?? 65_535);
    this.sendIp(this.flowPair.get(segment.remotePort) ?? 0, TCP, tcp, 16, large ? segment.mss : 0);
  }

  /** @param field where the checksum is; `segmentSize` of one large segment */
  private sendIp(pair: number, protocol: number, l4: Buffer, field: number, segmentSize = 0): void {
    const frame = Buffer.alloc(34 + l4.length);
    frame.set(this.guestMac, 0);
    frame.set(PEER_MAC, 6);
    frame.writeUInt16BE(0x0800, 12);
    const ip = frame.subarray(14);
    ip.set([0x45, 0, ip.length >> 8, ip.length & 255, 0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 2, 2, 10, 0, 2, 15]);
    ip.writeUInt16BE(~sum(ip.subarray(0, 20)) & 0xffff, 10);
    ip.set(l4, 20);
    const header = Buffer.alloc(12);
    const pseudo = pseudoSum(ip, l4.length);
    if (this.has(GUEST_CSUM)) {
      header[0] = 1;
      header.writeUInt16LE(34, 6);
      header.writeUInt16LE(field, 8);
      ip.writeUInt16BE(pseudo, 20 + field);
    } else {
      ip.writeUInt16BE(~sum(ip.subarray(20), pseudo) & 0xffff, 20 + field);
    }
    if (segmentSize > 0) {
      header[1] = 1;
      header.writeUInt16LE(54, 2);
      header.writeUInt16LE(segmentSize, 4);
    }
    this.waiting.push({ pair: (this.options.route ?? ((own: number) => own))(pair), header, frame });
  }

  /** Writes what waits into receive buffers, several to a packet where they are mergeable. */
  private deliver(): void {
    for (const [n, { pair, header, frame }] of this.waiting.splice(0).entries()) {
      const queue = this.queues.get(2 * pair);
      if (queue === undefined) continue;
      if (n % 16 === 0) queue.wantKicks(false);
      const packet = Buffer.concat([header, frame]);
      const delivery = this.plan(packet.length);
      if (frame.readUInt16BE(12) === 0x0800) this.options.tamper?.(delivery);
      // What finds no buffer is lost.
      if (queue.available() < delivery.pieces.length) continue;
      packet.writeUInt16LE(delivery.numBuffers, 10);
      const chains = delivery.pieces.map(() => queue.take());
      if (delivery.backwards) chains.reverse();
      let at = 0;
      for (const [k, length] of delivery.pieces.entries()) {
        const chain = chains[k];
        if (chain?.writable.length !== 1) throw new Error('no writable buffer in a receive queue');
        chain.writable[0].set(packet.subarray(at, at + length));
        queue.use(chain.head, delivery.used[k]);
        at += length;
      }
      queue.publish();
    }
  }

  /** virtio 1.2 §5.1.6.4.1: all buffers but the last are used to the full. */
  private plan(bytes: number): Delivery {
    const room = this.has(MRG_RXBUF) ? (this.options.rxBuffer ?? RX_BUFFER) : bytes;
    const pieces = Array.from({ length: Math.ceil(bytes / room) }, (_, n) => Math.min(bytes - n * room, room));
    return { pieces, used: [...pieces], numBuffers: pieces.length, backwards: false };
  }

  close(): void {
    this.memory.unmap();
    this.memory = new ModelMemory([]);
  }
}

/** Ones' complement sum, big-endian, folded. */
function sum(bytes: Uint8Array, seed = 0): number {
  let total = seed;
  for (let n = 0; n < bytes.length; n += 2) total += (bytes[n] << 8) | (bytes[n + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 65_536);
  return total;
}

function pseudoSum(ip: Buffer, length: number): number {
  return sum(Buffer.concat([ip.subarray(12, 20), Buffer.from([0, ip[9], length >> 8, length & 255])]));
}
