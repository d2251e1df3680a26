/** A device behind a vhost-user socket as the threads know it that drive its queues. */
import type { QueueLayout } from './driverQueue.js';
import type { Offloads } from './features.js';
import type { GuestMemoryShape } from './guestMemory.js';

/** One queue pair in guest memory, and its eventfds. */
export interface PairDescription {
  readonly rx: QueueLayout;
  readonly tx: QueueLayout;
  /** By head: receive buffers of `rxBufferSize` bytes. */
  readonly rxBuffers: number;
  readonly rxBufferSize: number;
  /** By head: transmit slots of `txSlotSize` bytes. */
  readonly txSlots: number;
  readonly txSlotSize: number;
  readonly rxKick: number;
  readonly rxCall: number;
  readonly txKick: number;
  readonly txCall: number;
}

/** A device with its queues running; plain data, for any thread of this process. */
export interface DeviceDescription {
  readonly memory: GuestMemoryShape;
  readonly offloads: Offloads;
  readonly mtu: number;
  readonly fragment: number;
  readonly threads: number;
  /** Descriptors of the longest chain that is sent, wherever they lie. */
  readonly longestChain: number;
  readonly pairs: readonly PairDescription[];
  /** Offset of the payload pattern, PATTERN_LENGTH + PATTERN_SPARE bytes. */
  readonly pattern: number;
  /** Offsets of the handover rings: from thread a to thread b is a × threads + b. */
  readonly handover: readonly number[];
}
