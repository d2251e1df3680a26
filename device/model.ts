/** What the transport has to know of a device type (virtio 1.2 §5). */
import type { QueuePlane } from './dataPlane.js';

export interface VirtioModel {
  /** Virtio's number of the type (§5), and PCI's class code. */
  readonly deviceId: number;
  readonly classCode: number;
  /** How many virtqueues it has at most, and what serves them. */
  readonly queues: number;
  readonly plane: QueuePlane;
  /** Feature bits offered. */
  readonly features: bigint;
  /** What is wrong with a set of features that the driver accepted; `undefined`: nothing. */
  featuresFault(accepted: bigint): string | undefined;
  /** Which of the queues the driver calls number `index` (below `queues`) under these features; -1: none. */
  placeOf(index: number, features: bigint): number;
  /** The state after a reset of the device; no queue runs. */
  reset(): void;
  /** Takes note of what was negotiated, before the first queue runs. */
  negotiate(features: bigint): void;
  /** Bytes of the device configuration's fields, and the configuration; its generation changes with it (§2.5). */
  readonly configLength: number;
  configSpace(): Uint8Array;
  readonly generation: number;
}
