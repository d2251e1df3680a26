/**
 * A virtio device's life (virtio 1.2 §2.1, §3.1): status, features, and what of its queues runs in the data plane.
 *
 * Registers change at once; the data plane follows: after each change that concerns it, `settle` starts, stops and rewires
 * queues until they are as the registers say. A queue runs from DRIVER_OK to reset, while it is enabled and the function
 * may access memory. Steps are taken one after the other, in the order of the writes that asked for them.
 */
import type { MemoryRegion, QueuePlane } from '../dataPlane.js';
import { VIRTIO_F_RING_RESET } from '../features.js';
import type { VirtioInterrupts } from './interrupts.js';
import type { VirtioModel } from '../model.js';
import type { DriverFaults } from './platform.js';
import type { QueueRegisters } from './queueRegisters.js';

const STATUS_ACKNOWLEDGE = 1;
const STATUS_DRIVER = 2;
const STATUS_DRIVER_OK = 4;
const STATUS_FEATURES_OK = 8;
const STATUS_NEEDS_RESET = 64;
const STATUS_FAILED = 128;
const DRIVER_BITS = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_DRIVER_OK | STATUS_FEATURES_OK | STATUS_FAILED;

export interface LifecycleOptions {
  readonly model: VirtioModel;
  readonly memory: readonly MemoryRegion[];
  readonly warn: (message: string) => void;
  readonly faults: DriverFaults;
  /** Whether the function may access memory (PCI's Bus Master bit). */
  readonly mayAccessMemory: () => boolean;
}

export class Lifecycle {
  /** What the driver accepted so far; the device's word is FEATURES_OK. */
  driverFeatures = 0n;
  private status = 0;
  /** The driver wrote 0, and what ran doesn't all stand yet. */
  private resetting = false;
  /** The data plane knows the features. */
  private configured = false;
  /** Steps under way, and how many of them. */
  private steps: Promise<void> = Promise.resolve();
  private waiting = 0;
  private readonly plane: QueuePlane;

  constructor(
    private readonly options: LifecycleOptions,
    readonly queues: readonly QueueRegisters[],
    private readonly interrupts: VirtioInterrupts,
  ) {
    this.plane = options.model.plane;
    options.model.reset();
    this.plane.onQueueBroken = (queue, reason) => this.queueBroken(queue, reason);
  }

  get deviceStatus(): number {
    return this.status;
  }

  /** Resolves once queues are as the register says. */
  setStatus(value: number): void | Promise<void> {
    if (value === 0) return this.reset();
    // A driver waits until it reads 0 (§4.1.4.3.2): what it writes before is lost with the rest.
    if (this.resetting) return;
    const fresh = value & DRIVER_BITS & ~this.status;
    if ((fresh & STATUS_FEATURES_OK) !== 0 && !this.acceptFeatures()) this.status |= fresh & ~STATUS_FEATURES_OK;
    // "The driver MUST NOT clear a device status bit" (§2.1.1): it can't.
    else this.status |= fresh;
    if ((fresh & STATUS_DRIVER_OK) === 0) return;
    if ((this.status & STATUS_FEATURES_OK) === 0) this.needReset('DRIVER_OK without FEATURES_OK (virtio 1.2 §3.1.1)');
    return this.settle();
  }

  /** §3.1.1: features are negotiated before FEATURES_OK and not after. */
  setDriverFeatures(word: number, bits: number): void {
    if (word > 1 || (this.status & STATUS_FEATURES_OK) !== 0) return;
    const kept = BigInt.asUintN(64, this.driverFeatures & ~(0xffff_ffffn << BigInt(32 * word)));
    this.driverFeatures = kept | (BigInt(bits) << BigInt(32 * word));
  }

  /** The registers of queue `index`; `undefined` if there is none under the features that were negotiated. */
  queue(index: number): QueueRegisters | undefined {
    const place = this.placeOf(index);
    return place < 0 ? undefined : this.queues[place];
  }

  /** Which of all queues, and so of all notify addresses, number `index` is under the features that were negotiated; -1: none. */
  placeOf(index: number): number {
    if (index >= this.queues.length) return -1;
    if ((this.status & STATUS_FEATURES_OK) === 0) return index;
    return this.options.model.placeOf(index, this.driverFeatures);
  }

  /** RING_RESET (§2.6.1). Resolves once the queue is reset. */
  resetQueue(queue: QueueRegisters): void | Promise<void> {
    if ((this.negotiated & VIRTIO_F_RING_RESET) === 0n || (this.status & STATUS_DRIVER_OK) === 0) return;
    queue.resetting = true;
    return this.settle();
  }

  /** Tells the driver that the configuration has changed, once it is there to be told (§2.5). */
  configChanged(): void {
    if ((this.status & STATUS_DRIVER_OK) !== 0) this.interrupts.configChanged();
  }

  /**
   * Makes the data plane follow the registers. Nothing to wait for if it does so already. Never rejects: a data plane that
   * fails is a device that needs a reset.
   */
  settle(): void | Promise<void> {
    if (this.waiting === 0 && this.settled()) return;
    this.waiting++;
    this.steps = this.steps.then(() => this.step());
    return this.steps;
  }

  /** Stops all queues: the device is unplugged. */
  async close(): Promise<void> {
    await this.reset();
    this.plane.onQueueBroken = () => undefined;
  }

  private get live(): boolean {
    const both = STATUS_DRIVER_OK | STATUS_FEATURES_OK;
    return (this.status & both) === both && !this.resetting && this.options.mayAccessMemory();
  }

  /** The features in force; none before FEATURES_OK. */
  get negotiated(): bigint {
    return (this.status & STATUS_FEATURES_OK) !== 0 ? this.driverFeatures : 0n;
  }

  private acceptFeatures(): boolean {
    const fault = this.options.model.featuresFault(this.driverFeatures);
    if (fault === undefined) return true;
    this.options.faults.refusedFeatures++;
    this.options.warn(`the driver's features are refused: ${fault}`);
    return false;
  }

  private reset(): void | Promise<void> {
    this.resetting = true;
    if (this.waiting === 0 && !this.configured && this.settled()) return this.completeReset();
    this.waiting++;
    this.steps = this.steps.then(() => this.step());
    return this.steps;
  }

  private completeReset(): void {
    for (const queue of this.queues) queue.reset();
    this.interrupts.reset();
    this.options.model.reset();
    this.driverFeatures = 0n;
    this.status = 0;
    this.resetting = false;
  }

  private wanted(queue: QueueRegisters): boolean {
    return this.live && queue.enabled && !queue.broken && !queue.resetting;
  }

  private settled(): boolean {
    return this.queues.every((queue) => {
      if (queue.resetting || this.wanted(queue) !== (queue.running !== undefined)) return false;
      return queue.running === undefined || queue.running.callFd === this.interrupts.callFd(queue.vector);
    });
  }

  private async step(): Promise<void> {
    try {
      for (const queue of this.queues) if (queue.running !== undefined && !this.wanted(queue)) await this.stop(queue);
      for (const queue of this.queues) if (queue.resetting) queue.reset();
      if (this.resetting) await this.finishReset();
      else if (this.live) await this.run();
    } catch (error) {
      this.needReset(`the data plane failed: ${String(error)}`);
    } finally {
      this.waiting--;
    }
  }

  private async finishReset(): Promise<void> {
    try {
      if (this.configured) await this.plane.setFeatures(0n);
    } catch (error) {
      this.options.warn(`the data plane failed: ${String(error)}`);
    } finally {
      this.configured = false;
      this.completeReset();
    }
  }

  private async stop(queue: QueueRegisters): Promise<void> {
    const { queue: number } = queue.running!;
    queue.running = undefined;
    try {
      queue.lastAvailIdx = await this.plane.stopQueue(number);
    } catch (error) {
      // Others still have to stop, and a reset to end.
      this.queueBroken(number, `the data plane failed: ${String(error)}`);
    }
  }

  private async run(): Promise<void> {
    if (!this.configured) {
      this.configured = true;
      this.options.model.negotiate(this.driverFeatures);
      await this.plane.setFeatures(this.driverFeatures);
    }
    for (const [number, queue] of this.queues.entries()) {
      const callFd = this.interrupts.callFd(queue.vector);
      if (queue.running === undefined && this.wanted(queue)) await this.start(number, queue, callFd);
      else if (queue.running !== undefined && queue.running.callFd !== callFd && !queue.broken) {
        await this.plane.setCallFd(number, callFd);
        queue.running.callFd = callFd;
      }
    }
  }

  private async start(number: number, queue: QueueRegisters, callFd: number): Promise<void> {
    const setup = queue.setup(this.options.memory, callFd);
    if (typeof setup === 'string') {
      this.queueBroken(number, setup);
      return;
    }
    await this.plane.startQueue(number, setup);
    queue.running = { queue: number, callFd };
    await this.plane.setQueueEnabled(number, true);
  }

  private queueBroken(number: number, reason: string): void {
    this.queues[number]!.broken = true;
    this.needReset(`queue ${number} is stopped: ${reason}`);
  }

  /** §2.1.2: the driver is told by the bit and, once it is ready, by a configuration change notification. */
  private needReset(reason: string): void {
    this.options.faults.resetsNeeded++;
    this.options.warn(`the driver has to reset the device: ${reason}`);
    this.status |= STATUS_NEEDS_RESET;
    this.configChanged();
  }
}
