/**
 * One driver thread: its queue pairs, TCP, UDP and the network's bring-up in one loop, as NAPI does it: while there is work
 * the queues are polled and interrupts are off; they are on only while the thread sleeps.
 */
import { addon } from '../../src/native/addon.js';
import { BringUp } from './bringUp.js';
import type { DeviceDescription } from './deviceDescription.js';
import type { Flow } from './flow.js';
import { LOWEST_PORT } from './flowTable.js';
import { FrameReader, Kind } from './frameReader.js';
import { FrameWriter } from './frameWriter.js';
import { MappedMemory } from './guestMemory.js';
import { HandoverRing } from './handover.js';
import type { NetworkState } from './network.js';
import { Packet, QueuePair } from './queuePair.js';
import { bindDriverScratch, events } from './scratch.js';
import { Counter } from './statistics.js';
import { TcpStack } from './tcp.js';
import type { TcpOptions } from './tcpOutput.js';
import { UdpStack } from './udp.js';
import type { UdpFlow } from './udp.js';

export interface LoopOptions extends TcpOptions {
  /** Receive window of each flow, bytes. */
  readonly windowBytes: number;
  /** Check checksums even where the device vouches for them. */
  readonly strictChecksums: boolean;
  /** Ask for address, gateway and MTU by DHCP first. */
  readonly dhcp: boolean;
}

export const LOOP_DEFAULTS: LoopOptions = {
  rtoMs: 200,
  timeoutMs: 5_000,
  sendBufferBytes: 4_194_304,
  windowBytes: 4_194_304,
  strictChecksums: false,
  dhcp: false,
};

const EPOLLIN = 1;
/** Token of the descriptor that wakes the thread for other reasons than a queue's. */
const WAKE = -1;
/** Packets taken from each queue in one turn. */
const RECEIVE_BUDGET = 64;

export class EventLoop {
  readonly tcp: TcpStack;
  readonly udp: UdpStack;
  readonly memory: MappedMemory;
  readonly pairs: readonly QueuePair[];

  private readonly reader: FrameReader;
  private readonly bringUp: BringUp;
  private readonly packet = new Packet();
  private readonly epoll: number;
  /** By thread: rings from this one and to this one; empty with a single thread. */
  private readonly outbound: readonly HandoverRing[];
  private readonly inbound: readonly HandoverRing[];

  /**
   * @param wakeFds by thread: an eventfd that wakes it
   * @param flows the thread's flows of TCP, and `udpFlows` those of UDP
   */
  constructor(
    private readonly device: DeviceDescription,
    private readonly thread: number,
    private readonly wakeFds: readonly number[],
    flows: readonly Flow[],
    udpFlows: readonly UdpFlow[],
    private readonly network: NetworkState,
    private readonly statistics: Float64Array,
    options: LoopOptions,
  ) {
    bindDriverScratch();
    const { threads } = device;
    this.memory = new MappedMemory(device.memory);
    const own = device.pairs.map((_, n) => n).filter((n) => n % threads === thread);
    this.pairs = own.map((n) => new QueuePair(this.memory, device, n, statistics));
    this.reader = new FrameReader(this.memory, device, statistics, options.strictChecksums);
    const writer = new FrameWriter(this.memory, device, network, options.windowBytes);
    this.tcp = new TcpStack(
      this.memory,
      device,
      this.pairs,
      flows,
      network,
      writer,
      this.reader,
      statistics,
      options,
      thread,
    );
    this.udp = new UdpStack(this.pairs, udpFlows, this.reader, writer, statistics, thread, threads);
    this.bringUp = new BringUp(this.memory, this.pairs[0], writer, this.reader, network, options.dhcp);
    const ring = (from: number, to: number): HandoverRing =>
      new HandoverRing(this.memory, device.handover[from * threads + to]);
    const others = threads === 1 ? [] : Array.from({ length: threads }, (_, n) => n);
    this.outbound = others.map((n) => ring(thread, n));
    this.inbound = others.map((n) => ring(n, thread));
    this.epoll = addon.epollCreate();
    this.watch(own);
  }

  private watch(own: readonly number[]): void {
    addon.epollAdd(this.epoll, this.wakeFds[this.thread], EPOLLIN, WAKE, 0);
    for (const [n, pair] of own.entries()) {
      addon.epollAdd(this.epoll, this.device.pairs[pair].rxCall, EPOLLIN, 2 * n, 0);
      addon.epollAdd(this.epoll, this.device.pairs[pair].txCall, EPOLLIN, 2 * n + 1, 0);
    }
  }

  /**
   * One turn: what came in, timers, what goes out. Sleeps at most `maxWaitMs` beforehand if there is nothing to do. Reads
   * the clock once.
   */
  turn(maxWaitMs: number): void {
    const wait = Math.min(this.tcp.timers(), maxWaitMs);
    if (this.thread === 0) this.bringUp.tick();
    if (this.poll()) addon.readClock();
    else this.sleep(wait);
  }

  /** Receives and sends. Returns whether there is more to do at once. */
  private poll(): boolean {
    let work = false;
    for (let n = 0; n < this.pairs.length; n++) work = this.receive(n) || work;
    for (let from = 0; from < this.inbound.length; from++) work = this.takeOver(this.inbound[from]) || work;
    work = this.tcp.flush() || work;
    return this.udp.flush() || work;
  }

  private receive(n: number): boolean {
    const pair = this.pairs[n];
    let received = 0;
    let woken = 0;
    while (received < RECEIVE_BUDGET && pair.receive(this.packet)) {
      received++;
      const owner = this.ownerOf(this.packet);
      if (owner === this.thread) this.input(n);
      else if (this.handOver(owner)) woken |= 1 << owner;
    }
    if (received > 0) pair.refill();
    for (let thread = 0; woken >>> thread !== 0; thread++) {
      if ((woken >>> thread) & 1) addon.eventfdSignal(this.wakeFds[thread]);
    }
    if (pair.blocked) pair.reclaim();
    return received > 0;
  }

  /** Flows' ports are dealt to the threads by turns; what is for none of them is for thread 0. */
  private ownerOf(packet: Packet): number {
    if (this.outbound.length === 0) return this.thread;
    const port = this.reader.localPort(packet);
    return port < LOWEST_PORT ? 0 : port % this.device.threads;
  }

  private handOver(owner: number): boolean {
    const taken = this.outbound[owner].push(this.packet);
    this.statistics[taken ? Counter.handedOver : Counter.handoverDrops]++;
    return taken;
  }

  private takeOver(ring: HandoverRing): boolean {
    let taken = 0;
    for (; taken < RECEIVE_BUDGET && ring.peek(this.packet); taken++) {
      this.input(-1);
      ring.release();
    }
    return taken > 0;
  }

  private input(pair: number): void {
    const kind = this.reader.read(this.packet, this.network.address, this.network.mtu);
    if (kind === Kind.TCP) this.tcp.input(this.packet, pair);
    else if (kind === Kind.ARP) this.bringUp.arpInput();
    else if (kind === Kind.UDP && this.reader.destinationPort < LOWEST_PORT) this.bringUp.udpInput(this.packet);
    else if (kind === Kind.UDP) this.udp.input(this.packet, pair);
  }

  private sleep(maxWaitMs: number): void {
    let idle = true;
    for (const pair of this.pairs) idle = pair.enableInterrupts() && idle;
    const count = addon.epollWait(this.epoll, idle ? maxWaitMs : 0);
    for (const pair of this.pairs) pair.disableInterrupts();
    for (let n = 0; n < count; n++) {
      const token = events[3 * n];
      if (token === WAKE) addon.eventfdDrain(this.wakeFds[this.thread]);
      else this.pairs[token >> 1].interrupted((token & 1) === 1);
    }
  }

  /** Ends the thread's use of the device. */
  close(): void {
    addon.close(this.epoll);
    this.memory.unmap();
  }
}
