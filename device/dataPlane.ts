/**
 * What a front (vhost-user, or PCI for Slipway's own VMM) hands to the data plane: guest memory and virtqueues.
 * Nothing below this interface knows which front it is.
 */

import type { NetState } from './netState.js';

/** A piece of guest memory. */
export interface MemoryRegion {
  /** Where the guest sees it (guest physical address), bytes; less than 2^53. */
  readonly guestAddress: number;
  /** Bytes. */
  readonly size: number;
  /** The file that holds it; stays the front's: the data plane maps it and never closes it. */
  readonly fd: number;
  /** Where in the file it begins, bytes. */
  readonly fileOffset: number;
}

/** A split virtqueue, ready to run. Addresses are guest physical, checked by the front to lie in guest memory and to be aligned (virtio 1.2 §2.7). */
export interface VirtqueueSetup {
  /** Entries: a power of two, 1 … 32768. */
  readonly size: number;
  readonly descTable: number;
  readonly availRing: number;
  readonly usedRing: number;
  /** Index of the next available entry to process, 0 … 65535. */
  readonly lastAvailIdx: number;
  /** eventfd that the driver's notifications come through; -1: none, the queue is polled. */
  readonly kickFd: number;
  /** eventfd for used-buffer notifications; -1: none wanted. */
  readonly callFd: number;
}

/**
 * What serves a device's virtqueues. Every call resolves once whoever serves them has obeyed: after `stopQueue` no thread
 * touches the queue. Calls are made one at a time.
 */
export interface QueuePlane {
  /** Virtio feature bits that the driver accepted, for queues started from now on. */
  setFeatures(features: bigint): Promise<void>;
  startQueue(index: number, setup: VirtqueueSetup): Promise<void>;
  /** Stops a queue, chains in flight given back first. Returns the next available index; what was set up as `lastAvailIdx` if it never ran. */
  stopQueue(index: number): Promise<number>;
  /** Enables or disables a started queue: a disabled receive queue is not filled, a disabled transmit queue is drained and its packets dropped. */
  setQueueEnabled(index: number, enabled: boolean): Promise<void>;
  /** Replaces the call eventfd of a started queue. The data plane is done with the old one when this resolves. */
  setCallFd(index: number, callFd: number): Promise<void>;
  /**
   * The driver's notification of a queue, where it doesn't come by the kick eventfd; nothing happens to a queue that doesn't run.
   * Returns false when it can't be told now: signal the kick eventfd instead.
   */
  kick(index: number): boolean;
  /** Called when a queue was stopped because the driver broke the rules; `reason` names the rule. */
  onQueueBroken: (index: number, reason: string) => void;
}

/**
 * One virtio-net device's side of the data plane. Queue 2n is pair n's receive queue, 2n + 1 its transmit queue; queue
 * 2 × pairs is the control queue. After `setMemory` no thread touches the memory that went.
 */
export interface DeviceDataPlane extends QueuePlane {
  /**
   * Replaces guest memory. Regions don't overlap and each lies within its file. Queues that run go on with their rings in the new memory; a queue whose
   * rings don't lie in it is stopped and reported broken.
   * @throws {Error} with `code` when a region can't be mapped; memory is then as before.
   */
  setMemory(regions: readonly MemoryRegion[]): Promise<void>;
  /** Drops all flows, stops all queues, unmaps all memory: the state before the first call. */
  reset(): Promise<void>;
  /** Number of queue pairs. */
  readonly pairs: number;
  /** What the control queue changes. A front that offers its features resets it and tells it what was negotiated, while no queue runs. */
  readonly net: NetState;
}

/** The network configuration that a device shows its driver (virtio 1.2 §5.1.4) and DHCP hands out. */
export interface DeviceConfig {
  /** 6 bytes. */
  readonly mac: Uint8Array;
  /** Bytes, 68 … 65535. */
  readonly mtu: number;
  readonly pairs: number;
}
