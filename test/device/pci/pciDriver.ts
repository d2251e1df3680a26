/** A driver's hands on a PCI bus: configuration space, capabilities, and the structures of a virtio function (virtio 1.2 §4.1). */
import type { PciBus } from '../../../device/pci/bus.js';

export const SLOT = 3;

/** Offsets in the common configuration (§4.1.4.3). */
export const DEVICE_FEATURE_SELECT = 0x00;
export const DEVICE_FEATURE = 0x04;
export const DRIVER_FEATURE_SELECT = 0x08;
export const DRIVER_FEATURE = 0x0c;
export const CONFIG_MSIX_VECTOR = 0x10;
export const NUM_QUEUES = 0x12;
export const DEVICE_STATUS = 0x14;
export const CONFIG_GENERATION = 0x15;
export const QUEUE_SELECT = 0x16;
export const QUEUE_SIZE = 0x18;
export const QUEUE_MSIX_VECTOR = 0x1a;
export const QUEUE_ENABLE = 0x1c;
export const QUEUE_NOTIFY_OFF = 0x1e;
export const QUEUE_DESC = 0x20;
export const QUEUE_DRIVER = 0x28;
export const QUEUE_DEVICE = 0x30;
export const QUEUE_RESET = 0x3a;

export const CFG_COMMON = 1;
export const CFG_NOTIFY = 2;
export const CFG_ISR = 3;
export const CFG_DEVICE = 4;
export const CFG_PCI = 5;

export interface VirtioCapability {
  /** Of the capability itself, in configuration space. */
  readonly at: number;
  readonly size: number;
  readonly bar: number;
  readonly offset: number;
  readonly length: number;
}

export class PciDriver {
  /** Where a virtio structure is, by its type. */
  readonly structures: ReadonlyMap<number, VirtioCapability>;
  /** Offset of the MSI-X capability. */
  readonly msix: number;

  constructor(
    readonly bus: PciBus,
    private readonly slot = SLOT,
  ) {
    const structures = new Map<number, VirtioCapability>();
    let msix = 0;
    for (const at of this.capabilities()) {
      const id = this.config(at, 1);
      if (id === 0x11) msix = at;
      if (id !== 0x09) continue;
      structures.set(this.config(at + 3, 1), {
        at,
        size: this.config(at + 2, 1),
        bar: this.config(at + 4, 1),
        offset: this.config(at + 8, 4),
        length: this.config(at + 12, 4),
      });
    }
    this.structures = structures;
    this.msix = msix;
  }

  config(offset: number, length: number): number {
    return this.bus.readConfig(this.slot << 3, offset, length);
  }

  setConfig(offset: number, length: number, value: number): void | Promise<void> {
    return this.bus.writeConfig(this.slot << 3, offset, length, value);
  }

  /** Offsets of all capabilities, in the order of the list. */
  capabilities(): number[] {
    const found: number[] = [];
    for (let at = this.config(0x34, 1); at !== 0; at = this.config(at + 1, 1)) {
      if (found.includes(at)) throw new Error('the list of capabilities is a ring');
      found.push(at);
    }
    return found;
  }

  bar(index: number): number {
    const low = this.config(0x10 + 4 * index, 4);
    return this.config(0x14 + 4 * index, 4) * 2 ** 32 + ((low & ~0xf) >>> 0);
  }

  addressOf(type: number): number {
    const { bar, offset } = this.structures.get(type)!;
    return this.bar(bar) + offset;
  }

  common(offset: number, length: number): number {
    return this.bus.readMemory(this.addressOf(CFG_COMMON) + offset, length);
  }

  async setCommon(offset: number, length: number, value: number): Promise<void> {
    await this.bus.writeMemory(this.addressOf(CFG_COMMON) + offset, length, value);
  }

  get status(): number {
    return this.common(DEVICE_STATUS, 1);
  }

  async setStatus(status: number): Promise<void> {
    await this.setCommon(DEVICE_STATUS, 1, status);
  }

  isr(): number {
    return this.bus.readMemory(this.addressOf(CFG_ISR), 1);
  }

  deviceConfig(offset: number, length: number): number {
    return this.bus.readMemory(this.addressOf(CFG_DEVICE) + offset, length);
  }

  /** @param queueNotifyOff what the queue's register says; the queue's index while all queues are there */
  notifyAddress(queueNotifyOff: number): number {
    const { at } = this.structures.get(CFG_NOTIFY)!;
    return this.addressOf(CFG_NOTIFY) + queueNotifyOff * this.config(at + 16, 4);
  }

  async offeredFeatures(): Promise<bigint> {
    let features = 0n;
    for (const word of [0, 1]) {
      await this.setCommon(DEVICE_FEATURE_SELECT, 4, word);
      features |= BigInt(this.common(DEVICE_FEATURE, 4)) << BigInt(32 * word);
    }
    return features;
  }

  async acceptFeatures(features: bigint): Promise<void> {
    for (const word of [0, 1]) {
      await this.setCommon(DRIVER_FEATURE_SELECT, 4, word);
      await this.setCommon(DRIVER_FEATURE, 4, Number((features >> BigInt(32 * word)) & 0xffff_ffffn));
    }
  }

  /** Memory accesses and bus mastering on. */
  async enable(): Promise<void> {
    await this.setConfig(4, 2, 0x0006);
  }

  /** §3.1.1, steps 1 to 6. Returns whether the device took the features. */
  async negotiate(features: bigint): Promise<boolean> {
    await this.setStatus(0);
    await this.setStatus(1);
    await this.setStatus(3);
    await this.acceptFeatures(features);
    await this.setStatus(11);
    return (this.status & 8) !== 0;
  }

  /** Describes and enables queue `index`. */
  async setQueue(
    index: number,
    queue: { size: number; desc: number; driver: number; device: number; vector?: number },
  ): Promise<void> {
    await this.setCommon(QUEUE_SELECT, 2, index);
    await this.setCommon(QUEUE_SIZE, 2, queue.size);
    if (queue.vector !== undefined) await this.setCommon(QUEUE_MSIX_VECTOR, 2, queue.vector);
    const parts = [
      [QUEUE_DESC, queue.desc],
      [QUEUE_DRIVER, queue.driver],
      [QUEUE_DEVICE, queue.device],
    ] as const;
    for (const [offset, address] of parts) {
      await this.setCommon(offset, 4, address % 2 ** 32);
      await this.setCommon(offset + 4, 4, Math.floor(address / 2 ** 32));
    }
    await this.setCommon(QUEUE_ENABLE, 2, 1);
  }

  /** Enables MSI-X with every vector unmasked: vector n sends `data` 0x40 + n to address 0xfee00000. */
  async enableMsix(): Promise<void> {
    await this.setConfig(this.msix + 2, 2, 0xc000);
    const vectors = (this.config(this.msix + 2, 2) & 0x7ff) + 1;
    for (let vector = 0; vector < vectors; vector++) this.setVector(vector, 0xfee0_0000, 0x40 + vector, 0);
    await this.setConfig(this.msix + 2, 2, 0x8000);
  }

  get tableAddress(): number {
    const place = this.config(this.msix + 4, 4);
    return this.bar(place & 7) + (place & ~7);
  }

  get pendingAddress(): number {
    const place = this.config(this.msix + 8, 4);
    return this.bar(place & 7) + (place & ~7);
  }

  setVector(vector: number, address: number, data: number, control: number): void {
    const at = this.tableAddress + 16 * vector;
    void this.bus.writeMemory(at, 4, address % 2 ** 32);
    void this.bus.writeMemory(at + 4, 4, Math.floor(address / 2 ** 32));
    void this.bus.writeMemory(at + 8, 4, data);
    void this.bus.writeMemory(at + 12, 4, control);
  }

  /** A vector's mask bit. */
  setMask(vector: number, masked: boolean): void {
    void this.bus.writeMemory(this.tableAddress + 16 * vector + 12, 4, masked ? 1 : 0);
  }

  pending(vector: number): boolean {
    return ((this.bus.readMemory(this.pendingAddress + 4 * (vector >> 5), 4) >>> (vector & 31)) & 1) === 1;
  }
}
