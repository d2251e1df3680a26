/**
 * A console device with one port (virtio 1.2 §5.3), served by the main thread. With MULTIPORT the port is no console but a
 * stream of bytes, which the driver opens and closes.
 */
import type { Addon } from '../src/native/addon.js';
import type { MemoryRegion, QueuePlane, VirtqueueSetup } from './dataPlane.js';
import { modernFault, VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_VERSION_1 } from './features.js';
import { GuestMemory } from './guestMemory.js';
import type { VirtioModel } from './model.js';
import { ServedQueue } from './servedQueue.js';

export const VIRTIO_CONSOLE_F_MULTIPORT = 1n << 1n;

/** Queues (§5.3.2): port 0's, then those of the control messages. */
export const RECEIVE = 0;
export const TRANSMIT = 1;
export const CONTROL_RECEIVE = 2;
export const CONTROL_TRANSMIT = 3;
const CONSOLE_QUEUES = 4;

/** Events of `struct virtio_console_control` (§5.3.6.2): port id (32 bits), event, value (16 bits each). */
export const DEVICE_READY = 0;
export const DEVICE_ADD = 1;
export const PORT_READY = 3;
export const PORT_OPEN = 6;
const CONTROL_SIZE = 8;

/** PCI's class code of a communication controller that is none of those listed. */
const COMMUNICATION_CONTROLLER = 0x07_8000;

/** Bytes of the fields of `struct virtio_console_config` (§5.3.4). */
const CONFIG_FIELDS = 12;
const OFFSET_MAX_PORTS = 4;

export class Console implements VirtioModel, QueuePlane {
  readonly deviceId = 3;
  readonly classCode = COMMUNICATION_CONTROLLER;
  readonly queues = CONSOLE_QUEUES;
  readonly configLength = CONFIG_FIELDS;
  /** It has nothing to change. */
  readonly generation = 0;
  readonly plane = this;
  readonly features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_CONSOLE_F_MULTIPORT;
  onQueueBroken: QueuePlane['onQueueBroken'] = () => undefined;
  private readonly memory: GuestMemory;
  private readonly served: readonly ServedQueue[];
  private negotiated = 0n;
  /** The driver has the port open. */
  private open = false;
  private input: Uint8Array[] = [];
  private controlInput: Buffer[] = [];

  /**
   * @param memory the guest's; mapped until `close`
   * @param output gets what the guest writes to the port
   */
  constructor(
    addon: Addon,
    memory: readonly MemoryRegion[],
    private readonly output: (bytes: Buffer) => void,
  ) {
    this.memory = new GuestMemory(addon);
    for (const region of memory) this.memory.map(region);
    const serve = [this.receive, this.transmit, this.controlReceive, this.controlTransmit];
    this.served = serve.map((each, index) => {
      const broke = (reason: string): void => this.onQueueBroken(index, reason);
      return new ServedQueue(addon, this.memory, each, broke);
    });
  }

  /** Bytes for the guest, which gets them once it has opened the port and has buffers. */
  send(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.input.push(bytes);
    this.served[RECEIVE]!.run();
  }

  kick(index: number): boolean {
    this.served[index]?.run();
    return true;
  }

  featuresFault(accepted: bigint): string | undefined {
    return modernFault(accepted, this.features);
  }

  /** §5.3.2: queues beyond the port's "only exist if VIRTIO_CONSOLE_F_MULTIPORT is set". */
  placeOf(index: number, features: bigint): number {
    return index <= TRANSMIT || (features & VIRTIO_CONSOLE_F_MULTIPORT) !== 0n ? index : -1;
  }

  reset(): void {
    this.negotiated = 0n;
    this.open = false;
    this.input = [];
    this.controlInput = [];
  }

  configSpace(): Uint8Array {
    const space = new Uint8Array(CONFIG_FIELDS);
    new DataView(space.buffer).setUint32(OFFSET_MAX_PORTS, 1, true);
    return space;
  }

  /** Without MULTIPORT nobody opens the port. */
  negotiate(features: bigint): void {
    this.negotiated = features;
    this.open = (features & VIRTIO_CONSOLE_F_MULTIPORT) === 0n;
  }

  async setFeatures(): Promise<void> {
    // `negotiate` has told them.
  }

  async startQueue(index: number, setup: VirtqueueSetup): Promise<void> {
    this.served[index]!.start(setup, this.negotiated);
  }

  async stopQueue(index: number): Promise<number> {
    return this.served[index]!.stop();
  }

  async setQueueEnabled(): Promise<void> {
    // A console's queues are enabled while they run.
  }

  async setCallFd(index: number, callFd: number): Promise<void> {
    this.served[index]!.setCallFd(callFd);
  }

  /** Stops the queues and unmaps the memory. */
  close(): void {
    for (const queue of this.served) queue.stop();
    this.memory.clear();
  }

  private readonly receive = (queue: ServedQueue): void => {
    if (!this.open) return;
    while (this.input.length > 0 && queue.next()) {
      const bytes = this.input.length === 1 ? this.input[0]! : Buffer.concat(this.input);
      const written = queue.write(bytes);
      this.input = written < bytes.length ? [bytes.subarray(written)] : [];
      queue.complete(written);
    }
  };

  private readonly transmit = (queue: ServedQueue): void => {
    while (queue.next()) {
      const bytes = queue.read();
      queue.complete(0);
      if (bytes.length > 0) this.output(bytes);
    }
  };

  private readonly controlReceive = (queue: ServedQueue): void => {
    while (this.controlInput.length > 0 && queue.next()) {
      const message = this.controlInput.shift()!;
      queue.complete(queue.write(message));
    }
  };

  private readonly controlTransmit = (queue: ServedQueue): void => {
    while (queue.next()) {
      const message = queue.read();
      queue.complete(0);
      if (message.length >= CONTROL_SIZE) this.control(message.readUInt16LE(4), message.readUInt16LE(6));
    }
  };

  /** §5.3.6.2. There is one port: whatever the driver says concerns it. */
  private control(event: number, value: number): void {
    if (event === DEVICE_READY && value === 1) this.tell(DEVICE_ADD, 1);
    else if (event === PORT_READY && value === 1) this.tell(PORT_OPEN, 1);
    else if (event === PORT_OPEN) {
      this.open = value === 1;
      this.served[RECEIVE]!.run();
    }
  }

  /** What waits already is not said twice: a driver that asks for ever and has no buffers would fill our memory. */
  private tell(event: number, value: number): void {
    if (this.controlInput.some((message) => message.readUInt16LE(4) === event)) return;
    const message = Buffer.alloc(CONTROL_SIZE);
    message.writeUInt16LE(event, 4);
    message.writeUInt16LE(value, 6);
    this.controlInput.push(message);
    this.served[CONTROL_RECEIVE]!.run();
  }
}
