/**
 * Opens a virtio-net device behind a vhost-user socket: negotiates, lays guest memory out, starts the queues. The
 * result can be handed to worker threads, which drive the queues.
 */
import { addon } from '../../src/native/addon.js';
import { NET_HDR_SIZE } from '../../device/netHeader.js';
import { UsageError } from '../../src/errors.js';
import type { DeviceDescription } from './deviceDescription.js';
import { queueSizes } from './driverQueue.js';
import type { QueueLayout } from './driverQueue.js';
import { has, offloads } from './features.js';
import type { FeatureName, Offloads } from './features.js';
import { FrontEnd, FrontEndError } from './frontEnd.js';
import type { Negotiated, NetConfig } from './frontEnd.js';
import { MappedMemory, MemoryPlan } from './guestMemory.js';
import { handoverRingBytes } from './handover.js';
import { PATTERN_LENGTH, PATTERN_SPARE, fillPattern } from './pattern.js';
import { ETHERNET_HEADER, IP_HEADER, LARGEST_DATAGRAM, UDP_HEADER } from './wire.js';

export interface DeviceOptions {
  /** Queue pairs to use. */
  readonly pairs: number;
  /** Entries of each queue, a power of two. */
  readonly queueSize: number;
  /**
   * Bytes of a receive buffer. More is taken where that is needed for the largest packet: for one buffer to hold it, or,
   * with mergeable buffers, for all of the queue (virtio 1.2 §5.1.6.3.1).
   */
  readonly rxBufferSize: number;
  /** The guest's MTU, bytes. */
  readonly mtu: number;
  /** Pieces that payload is cut into for the device, bytes. */
  readonly fragment: number;
  /** Features not to take. */
  readonly refused: readonly FeatureName[];
  /** Threads that will drive the queues, 1 … MAX_THREADS: pair p belongs to thread p mod threads. */
  readonly threads: number;
  /** Bytes of each memory region (a multiple of 4096), and of the hole after it; by default a single region. */
  readonly regionSize?: number;
  readonly regionGap?: number;
  /** Guest physical address of the first region. */
  readonly guestBase?: number;
}

export const DEVICE_DEFAULTS: DeviceOptions = {
  pairs: 1,
  queueSize: 256,
  rxBufferSize: 4096,
  mtu: 1500,
  fragment: 32_768,
  refused: [],
  threads: 1,
};

/** Room for the largest headers and for payload that is copied behind them. */
const GATHER_SLOT_SIZE = 1024;
/** A thread names others by the bits of a signed integer. */
export const MAX_THREADS = 31;
const DEFAULT_GUEST_BASE = 0x4000_0000;

export class DriverDevice {
  private closed = false;

  private constructor(
    readonly frontEnd: FrontEnd,
    readonly negotiated: Negotiated,
    readonly config: NetConfig | undefined,
    readonly description: DeviceDescription,
  ) {}

  /**
   * Brings the device behind a connected front end up. Takes the front end over, also when it fails.
   * @throws {FrontEndError} if the back end refuses, or has fewer queue pairs
   * @throws {UsageError} if the queues are too small for what is to be sent
   */
  static async open(frontEnd: FrontEnd, options: DeviceOptions): Promise<DriverDevice> {
    const fds: number[] = [];
    try {
      const negotiated = await frontEnd.negotiate(options.refused);
      const config = await frontEnd.getConfig();
      const multiqueue = has(negotiated.features, 'MQ');
      const maxPairs = multiqueue ? Math.min(negotiated.maxQueues, config?.maxPairs ?? Infinity) : 1;
      if (maxPairs < options.pairs) {
        throw new FrontEndError(`${options.pairs} queue pairs are wanted, the back end has ${maxPairs}`);
      }
      const description = describe(options, offloads(negotiated.features), fds);
      fillMemory(description);
      const device = new DriverDevice(frontEnd, negotiated, config, description);
      await device.start(negotiated);
      return device;
    } catch (error) {
      frontEnd.close();
      for (const fd of fds) addon.close(fd);
      throw error;
    }
  }

  private async start(negotiated: Negotiated): Promise<void> {
    const { memory, pairs } = this.description;
    await this.frontEnd.setMemory(memory);
    for (const [n, pair] of pairs.entries()) {
      await this.frontEnd.startQueue(2 * n, pair.rx, pair.rxKick, pair.rxCall, 0, memory);
      await this.frontEnd.startQueue(2 * n + 1, pair.tx, pair.txKick, pair.txCall, 0, memory);
    }
    // "If VHOST_USER_F_PROTOCOL_FEATURES has not been negotiated, the ring starts directly in the enabled state."
    if (negotiated.offeredProtocol === 0n) return;
    for (let index = 0; index < 2 * pairs.length; index++) await this.frontEnd.enableQueue(index, true);
  }

  /** Disconnects and closes memory and eventfds. Threads that drive the queues must have ended. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.frontEnd.close();
    const { memory, pairs } = this.description;
    for (const fd of [memory.fd, ...pairs.flatMap((p) => [p.rxKick, p.rxCall, p.txKick, p.txCall])]) addon.close(fd);
  }
}

/** Plans and makes the memory and the eventfds; adds every descriptor to `fds`. */
function describe(options: DeviceOptions, taken: Offloads, fds: number[]): DeviceDescription {
  const { mtu, fragment, threads, queueSize } = options;
  const longestChain = descriptorsToSend(options, taken);
  if (longestChain > queueSize) {
    throw new UsageError(
      `a queue of ${queueSize} entries is too small for chains of ${longestChain} descriptors; take larger queues or fragments`,
    );
  }
  const plan = new MemoryPlan(options.regionSize ?? Infinity);
  const layouts = Array.from({ length: options.pairs }, () => placePair(plan, options, taken, longestChain));
  const pattern = plan.place(PATTERN_LENGTH + PATTERN_SPARE, 4096);
  const handover =
    threads === 1 ? [] : Array.from({ length: threads * threads }, () => plan.place(handoverRingBytes, 4096));
  const memory = plan.create(options.regionGap ?? 0, options.guestBase ?? DEFAULT_GUEST_BASE);
  fds.push(memory.fd);
  const eventfd = (): number => {
    const fd = addon.eventfdCreate();
    fds.push(fd);
    return fd;
  };
  const pairs = layouts.map((layout) => ({
    ...layout,
    rxKick: eventfd(),
    rxCall: eventfd(),
    txKick: eventfd(),
    txCall: eventfd(),
  }));
  return { memory, offloads: taken, mtu, fragment, threads, longestChain, pairs, pattern, handover };
}

/** The headers, and the pieces of the largest payload: no chain may be longer than the queue, indirect or not (virtio 1.2 §2.7.5.3.1). */
function descriptorsToSend(options: DeviceOptions, taken: Offloads): number {
  if (!taken.csum) return 1;
  const largest = taken.hostTso4 ? LARGEST_DATAGRAM : options.mtu;
  return 1 + Math.ceil((largest - IP_HEADER - UDP_HEADER) / options.fragment);
}

/** Bytes of a receive buffer of which the queue can hold the largest packet. */
function receiveBufferSize(options: DeviceOptions, taken: Offloads): number {
  const largest = NET_HDR_SIZE + ETHERNET_HEADER + (taken.guestTso4 ? LARGEST_DATAGRAM : options.mtu);
  return align(Math.max(options.rxBufferSize, taken.mergeable ? largest / options.queueSize : largest));
}

function placePair(plan: MemoryPlan, options: DeviceOptions, taken: Offloads, longestChain: number) {
  const { queueSize, mtu } = options;
  const rxBufferSize = receiveBufferSize(options, taken);
  // Without checksum offload the driver has to read the payload anyway: one linear frame, as Linux sends it.
  const txSlotSize = taken.csum
    ? GATHER_SLOT_SIZE
    : Math.max(align(NET_HDR_SIZE + ETHERNET_HEADER + mtu), GATHER_SLOT_SIZE);
  return {
    rx: placeQueue(plan, queueSize, 0),
    tx: placeQueue(plan, queueSize, taken.indirect ? longestChain : 0),
    rxBuffers: plan.place(queueSize * rxBufferSize, 4096),
    rxBufferSize,
    txSlots: plan.place(queueSize * txSlotSize, 4096),
    txSlotSize,
  };
}

function placeQueue(plan: MemoryPlan, size: number, indirectEntries: number): QueueLayout {
  const sizes = queueSizes(size);
  return {
    size,
    descTable: plan.place(sizes.descTable, 4096),
    availRing: plan.place(sizes.availRing, 64),
    usedRing: plan.place(sizes.usedRing, 4096),
    indirectTables: plan.place(size * indirectEntries * 16, 4096),
    indirectEntries,
  };
}

function fillMemory(description: DeviceDescription): void {
  const memory = new MappedMemory(description.memory);
  fillPattern(memory.u8.subarray(description.pattern, description.pattern + PATTERN_LENGTH + PATTERN_SPARE));
  memory.unmap();
}

/** Frames begin at multiples of 64 bytes: header fields can be written as 16-bit words. */
function align(bytes: number): number {
  return Math.ceil(bytes / 64) * 64;
}
