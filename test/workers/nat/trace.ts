/**
 * A TCP NAT without kernel and threads, for tests that read like packet traces: the guest's side sends and receives
 * segments, the host's side is a scripted socket, and time passes only when told.
 */
import { COUNTER_NAMES } from '../../../workers/counters.js';
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from '../../../workers/engine/engine.js';
import { FLOW_WORDS } from '../../../workers/flow.js';
import { HeldChains } from '../../../workers/heldChains.js';
import { DEFAULT_ADDRESSES } from '../../../workers/nat/addresses.js';
import { Origin } from '../../../workers/nat/guestLink.js';
import type { FrameBatch, FrameSink, FrameSource, GuestLink } from '../../../workers/nat/guestLink.js';
import { IcmpErrors } from '../../../workers/nat/icmpErrors.js';
import { Nat } from '../../../workers/nat/nat.js';
import { DEFAULT_TCP_TIMES, DEFAULT_UDP_TIMES, type NatSettings } from '../../../workers/nat/settings.js';
import { SocketReads } from '../../../workers/nat/socketReads.js';
import { PROCEED } from '../../../workers/nat/sharding.js';
import { TcpEvents } from '../../../workers/nat/tcpEvents.js';
import { TcpFlows } from '../../../workers/nat/tcpFlows.js';
import { UdpFlows } from '../../../workers/nat/udpFlows.js';
import { TcpInput } from '../../../workers/nat/tcpInput.js';
import { TcpOutput } from '../../../workers/nat/tcpOutput.js';
import { BATCH_IOVECS, UdpBatch } from '../../../workers/nat/udpBatch.js';
import { UdpEvents } from '../../../workers/nat/udpEvents.js';
import { UdpInput } from '../../../workers/nat/udpInput.js';
import { UdpMappings } from '../../../workers/nat/udpMappings.js';
import { UdpOutput } from '../../../workers/nat/udpOutput.js';
import { OUTPUT_BLOCKED, OUTPUT_MORE, Protocols } from '../../../workers/flowProtocol.js';
import { Shard } from '../../../workers/shard.js';
import { BULKY, SMALL } from '../../../workers/turnLists.js';
import { setU16 } from '../../../workers/wire/bytes.js';
import { pseudoHeaderSum, sum16 } from '../../../workers/wire/checksum.js';
import { ETHERTYPE_IPV4, writeEthernet } from '../../../workers/wire/ethernet.js';
import { PROTOCOL_TCP, parseIpv4Address, writeIpv4 } from '../../../workers/wire/ipv4.js';
import * as tcp from '../../../workers/wire/tcp.js';
import { FakeEngine, type FakeSocket } from './fakeEngine.js';

export const { TCP_ACK: ACK, TCP_FIN: FIN, TCP_PSH: PSH, TCP_RST: RST, TCP_SYN: SYN, TCP_URG: URG } = tcp;

const GUEST_MAC = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);
const TCP_AT = 34;

/** A segment as a test writes and reads it. */
export interface Segment {
  readonly flags: number;
  readonly seq: number;
  readonly ack: number;
  readonly window: number;
  readonly data: string;
  /** Of a SYN or SYN-ACK. */
  readonly mss?: number;
  readonly scale?: number;
  /** Of a segment to send: its last byte changes on the way. */
  readonly corrupt?: boolean;
}

/** Region numbers, and numbers of triples. */
const FRAME_REGION = 0;
const SINK_REGION = 1;
const FRAME_TRIPLE = 0;
const SINK_TRIPLE = 8;
const BATCH_TRIPLE = 16;

class Frame implements FrameSource {
  readonly bytes: Uint8Array;
  readonly offset = 0;
  linear = 0;
  length = 0;
  needsCsum = true;
  readonly payloadFirst = FRAME_TRIPLE;
  payloadCount = 1;

  constructor(
    memory: Uint8Array,
    private readonly iovecs: Uint32Array,
  ) {
    this.bytes = memory;
  }
  linearize(): void {}
  payload(from: number, length: number): void {
    this.iovecs.set([FRAME_REGION, from, length], 3 * FRAME_TRIPLE);
  }
  rewind(): void {}
}

/** TCP sends one frame at a time. */
const NO_BATCH: FrameBatch = {
  header: new Uint8Array(0),
  headerOffset: 0,
  payloadTriple: 0,
  messages: 0,
  data: 0,
  reserve: () => 0,
  length: () => 0,
  place: () => undefined,
  commit: () => undefined,
};

class Sink implements FrameSink {
  readonly batch = NO_BATCH;
  readonly headerOffset = 0;
  readonly payloadFirst = SINK_TRIPLE;
  readonly payloadCount = 1;
  /** Frames that there are buffers for. */
  buffers = Number.POSITIVE_INFINITY;
  readonly frames: Uint8Array[] = [];

  constructor(
    readonly header: Uint8Array,
    private readonly iovecs: Uint32Array,
  ) {}
  reserve(_least: number, most: number): number {
    return this.buffers > 0 ? most : 0;
  }
  payload(from: number, length: number): void {
    this.iovecs.set([SINK_REGION, from, length], 3 * SINK_TRIPLE);
  }
  trim(length: number): void {
    this.iovecs[3 * SINK_TRIPLE + 2] = length;
  }
  commit(length: number): void {
    this.buffers--;
    this.frames.push(this.header.slice(0, length));
  }
  copy(frame: Uint8Array, length: number): boolean {
    if (this.buffers <= 0) return false;
    this.buffers--;
    this.frames.push(frame.slice(0, length));
    return true;
  }
}

export interface TraceOptions {
  readonly mtu?: number;
  readonly segmentation?: boolean;
  readonly flows?: number;
  readonly allowHostLoopback?: boolean;
  readonly peekOffset?: boolean;
  readonly mostReceiveBuffer?: number;
  /** Queue pairs, 1 or 2. */
  readonly pairs?: number;
}

export class Trace {
  readonly iovecs = new Uint32Array(3 * (BATCH_TRIPLE + BATCH_IOVECS));
  readonly memory = [new Uint8Array(70_000), new Uint8Array(70_000)] as const;
  readonly engine = new FakeEngine(this.memory, this.iovecs);
  readonly sink = new Sink(this.memory[SINK_REGION], this.iovecs);
  readonly counters = new Float64Array(COUNTER_NAMES.length);
  /** The host's name server. */
  readonly resolver = new Int32Array(1);
  /** Heads of chains that were held and given back. */
  readonly givenBack: number[] = [];
  readonly flows: TcpFlows;
  private readonly nat: Nat;
  private readonly protocols: Protocols;
  readonly frame = new Frame(this.memory[FRAME_REGION], this.iovecs);
  /** The pair that the NAT sent on last. */
  pairUsed = 0;
  private readonly chains = new Map<number, Uint8Array>();
  private readonly origin = new Origin();
  private readonly fired = new Int32Array(64);
  private nextHead = 0;
  source = parseIpv4Address('10.0.2.15');
  destination = parseIpv4Address('192.0.2.7');
  ports: readonly [source: number, destination: number] = [40_000, 80];

  constructor(options: TraceOptions = {}) {
    const { mtu = 1500, segmentation = false, flows = 4, allowHostLoopback = false, pairs = 1 } = options;
    const { peekOffset = true, mostReceiveBuffer = 0 } = options;
    const { sink } = this;
    const link: GuestLink = {
      mtu,
      segmentation,
      partialChecksum: true,
      sink: (pair) => {
        this.pairUsed = pair;
        return sink;
      },
      wantBuffers: () => false,
    };
    const settings: NatSettings = {
      addresses: DEFAULT_ADDRESSES,
      allowHostLoopback,
      times: DEFAULT_TCP_TIMES,
      udpTimes: DEFAULT_UDP_TIMES,
      resolver: this.resolver,
      peekOffset,
      mostReceiveBuffer,
      seed: 1,
    };
    const shard = new Shard(new Int32Array(flows * FLOW_WORDS), 1, new Int32Array(1));
    const held = new HeldChains(new Int32Array(HeldChains.words(16)), ({ head }) => void this.givenBack.push(head));
    const host = { link: () => link, flowClosed: () => undefined };
    this.flows = new TcpFlows(shard, this.engine, held, this.counters, settings, host, { devices: 1, pairs });
    const reads = new SocketReads(this.flows, this.iovecs, SINK_REGION);
    const output = new TcpOutput(this.flows, reads);
    const input = new TcpInput(this.flows, reads, output);
    const events = new TcpEvents(this.flows, input, output, (flow) =>
      input.drainHeld(flow, this.frame, (origin) => this.reread(origin.head), new Origin()),
    );
    const udp = new UdpFlows(this.flows, new UdpMappings(shard, 1));
    const icmp = new IcmpErrors(this.flows);
    const udpEvents = new UdpEvents(udp, new UdpOutput(udp), icmp);
    this.protocols = new Protocols(this.flows.records, events, udpEvents);
    const sharding = { known: () => PROCEED, unknown: () => PROCEED, opened: () => undefined };
    const batch = new UdpBatch(this.flows, icmp, this.iovecs, BATCH_TRIPLE);
    this.nat = new Nat(this.flows, input, new UdpInput(udp, batch, icmp, sharding), batch, sharding, this.counters);
  }

  /** Flows that exist. */
  get open(): number {
    return this.flows.shard.size;
  }

  /** The socket opened last. */
  get socket(): FakeSocket {
    return [...this.engine.sockets.values()].at(-1)!;
  }

  get socketCount(): number {
    return this.engine.sockets.size;
  }

  /** The guest goes on on this pair. */
  set pair(pair: number) {
    this.origin.pair = pair;
  }

  /** The guest sends a segment. Returns what the NAT answers in the same cycle. */
  send(segment: Partial<Segment> & { flags: number }): Segment[] {
    const head = this.nextHead++;
    this.chains.set(head, this.build(segment));
    this.reread(head);
    this.origin.head = head;
    this.nat.input(this.frame, this.origin);
    return this.turn();
  }

  /** The NAT handles a raw frame. */
  sendFrame(frame: Uint8Array): Segment[] {
    return this.sendDatagram(frame).map(parse);
  }

  /** The same for what is no TCP: returns frames. */
  sendDatagram(frame: Uint8Array): Uint8Array[] {
    this.chains.set(this.nextHead, frame);
    this.reread(this.nextHead++);
    this.nat.input(this.frame, this.origin);
    this.nat.flush();
    return this.turnFrames();
  }

  /** The NAT handles a frame of the test's own making. */
  input(frame: FrameSource): Segment[] {
    this.origin.head = this.nextHead++;
    this.nat.input(frame, this.origin);
    return this.turn();
  }

  /** A segment as `send` sends it, as a frame. */
  frameOf(segment: Partial<Segment> & { flags: number }): Uint8Array {
    return this.build(segment);
  }

  /** The socket becomes connected. */
  connects(): Segment[] {
    this.socket.state = 'connected';
    return this.event(EPOLLOUT);
  }

  fails(errno: number): Segment[] {
    this.socket.error = errno;
    return this.event(EPOLLOUT | EPOLLERR | EPOLLHUP);
  }

  /** The peer on the host's side sends. */
  receives(data: string): Segment[] {
    this.socket.received += data;
    return this.event(EPOLLIN);
  }

  /** The peer on the host's side finishes. */
  peerFinishes(): Segment[] {
    this.socket.peerFinished = true;
    return this.event(EPOLLIN | EPOLLRDHUP);
  }

  takes(bytes: number): Segment[] {
    this.socket.space = bytes;
    return this.event(EPOLLOUT);
  }

  event(bits: number): Segment[] {
    this.protocols.socket(this.socket.token, bits);
    return this.turn();
  }

  /** Time passes, in steps of 16 ms, with timers firing as they are due. */
  passes(ms: number): Segment[] {
    const segments: Segment[] = [];
    for (let left = ms; left > 0; left -= 16) {
      this.engine.clock[0] = (this.engine.clock[0]! + Math.min(left, 16)) | 0;
      const fired = this.flows.shard.wheel.advance(this.engine.clock[0]!, this.fired);
      for (let n = 0; n < fired; n++) this.protocols.timer(this.fired[n]!);
      segments.push(...this.turn());
    }
    return segments;
  }

  /** Buffers came: flows that waited for them go on. */
  buffersCome(): Segment[] {
    this.sink.buffers = Number.POSITIVE_INFINITY;
    this.flows.wakeWaiting();
    return this.turn();
  }

  /** Opens a connection from the guest: the next sequence numbers of both sides. */
  establish(options: { window?: number; scale?: number; mss?: number } = {}): { seq: number; ack: number } {
    const { window = 65_535, scale = 0, mss = 1460 } = options;
    this.send({ flags: SYN, seq: 1000, window, mss, scale });
    const [synAck] = this.connects();
    const ack = (synAck!.seq + 1) | 0;
    this.send({ flags: ACK, seq: 1001, ack, window });
    return { seq: 1001, ack };
  }

  private turn(): Segment[] {
    return this.turnFrames().map(parse);
  }

  private turnFrames(): Uint8Array[] {
    this.flows.flushDelayed();
    for (let n = this.flows.listed.length; n > 0; n--) {
      const { listed } = this.flows;
      const pair = listed.size(0, SMALL) + listed.size(0, BULKY) > 0 ? 0 : 1;
      const flow = listed.shift(pair, listed.size(pair, SMALL) > 0 ? SMALL : BULKY);
      if (!this.flows.takeListed(flow)) continue;
      const result = this.protocols.run(flow);
      if (result === OUTPUT_MORE) this.flows.list(flow);
      else if (result === OUTPUT_BLOCKED) this.flows.wait(flow);
    }
    return this.sink.frames.splice(0);
  }

  private reread(head: number): boolean {
    const frame = this.chains.get(head)!;
    this.memory[FRAME_REGION].set(frame);
    this.frame.length = frame.length;
    this.frame.linear = frame.length;
    return true;
  }

  private build(segment: Partial<Segment> & { flags: number }): Uint8Array {
    const { flags, seq = 0, ack = 0, window = 65_535, data = '', mss = 0, scale = -1 } = segment;
    const frame = new Uint8Array(TCP_AT + 60 + data.length);
    writeEthernet(frame, 0, DEFAULT_ADDRESSES.gatewayMac, GUEST_MAC, ETHERTYPE_IPV4);
    let header = 20;
    if (mss > 0) header += tcp.writeSynOptions(frame, TCP_AT + header, mss, scale);
    tcp.writeTcp(frame, TCP_AT, this.ports[0], this.ports[1], seq, ack, header, flags, window);
    for (let i = 0; i < data.length; i++) frame[TCP_AT + header + i] = data.charCodeAt(i);
    const length = header + data.length;
    writeIpv4(frame, 14, 20 + length, 0, PROTOCOL_TCP, this.source, this.destination);
    const pseudo = pseudoHeaderSum(this.source, this.destination, PROTOCOL_TCP, length);
    setU16(frame, TCP_AT + 16, ~sum16(frame, TCP_AT, length, pseudo) & 0xffff);
    if (segment.corrupt === true) frame[TCP_AT + length - 1]! ^= 1;
    return frame.slice(0, TCP_AT + length);
  }
}

function parse(frame: Uint8Array): Segment {
  const header = tcp.dataOffset(frame, TCP_AT);
  const total = (frame[16]! << 8) | frame[17]!;
  const options = new tcp.SynOptions();
  tcp.parseSynOptions(frame, TCP_AT + 20, header - 20, options);
  return {
    flags: tcp.flags(frame, TCP_AT),
    seq: tcp.sequence(frame, TCP_AT),
    ack: tcp.acknowledgment(frame, TCP_AT),
    window: tcp.window(frame, TCP_AT),
    data: String.fromCharCode(...frame.subarray(TCP_AT + header, 14 + total)),
    ...(options.mss > 0 ? { mss: options.mss, scale: options.windowScale } : {}),
  };
}
