/** The guest of `queueGuest.ts` on a PCI bus, its device driven by real workers. */
import { guestRegions } from '../../../bench/driver/guestMemory.js';
import type { DeviceConfig, DeviceDataPlane } from '../../../device/dataPlane.js';
import { PciBus } from '../../../device/pci/bus.js';
import { VirtioNetPci } from '../../../device/pci/virtioNetPci.js';
import { addon } from '../../../src/native/addon.js';
import { CONTROL, FEATURES, QueueGuest } from '../queueGuest.js';
import { FakePlatform } from './fakePlatform.js';
import { PCI_HOLE } from './harness.js';
import { PciDriver, QUEUE_NOTIFY_OFF, SLOT } from './pciDriver.js';

export interface PciGuestOptions {
  readonly features?: bigint;
  readonly rings?: readonly number[];
  readonly msix?: boolean;
  readonly receiveBuffer?: number;
}

export class PciGuest extends QueueGuest implements AsyncDisposable {
  readonly platform = new FakePlatform(undefined);
  readonly bus = new PciBus();
  readonly device: VirtioNetPci;
  readonly driver: PciDriver;
  readonly warnings: string[] = [];
  private readonly notifyAddresses = new Map<number, number>();

  private constructor(
    features: bigint,
    private readonly dataPlane: DeviceDataPlane,
    config: DeviceConfig,
    receiveBuffer?: number,
  ) {
    super(features, receiveBuffer);
    const memory = this.regions();
    this.device = new VirtioNetPci({
      addon,
      platform: this.platform,
      dataPlane,
      config,
      memory,
      warn: (message) => this.warnings.push(message),
    });
    this.bus.add(SLOT, this.device);
    this.bus.assignBars(PCI_HOLE, PCI_HOLE + 0x10_0000);
    this.driver = new PciDriver(this.bus);
  }

  static async open(
    dataPlane: DeviceDataPlane,
    config: DeviceConfig,
    options: PciGuestOptions = {},
  ): Promise<PciGuest> {
    const guest = new PciGuest(options.features ?? FEATURES, dataPlane, config, options.receiveBuffer);
    await dataPlane.setMemory(guest.regions());
    await guest.driver.enable();
    if (options.msix !== false) await guest.driver.enableMsix();
    await guest.start(options.rings ?? [0, 1, 2, 3, CONTROL]);
    return guest;
  }

  /** Resets the device and brings these queues up. */
  async start(rings: readonly number[]): Promise<void> {
    const { driver } = this;
    if (!(await driver.negotiate(this.features))) throw new Error(this.warnings.at(-1));
    await driver.setCommon(0x10, 2, 0);
    for (const ring of rings) await this.describe(ring);
    this.postAll();
    await driver.setStatus(15);
  }

  /** Describes and enables a queue; queue n has vector n + 1. */
  async describe(ring: number): Promise<void> {
    const { size, descTable, availRing, usedRing } = this.queues[ring]!.layout;
    const { guestBase } = this.memory.shape;
    await this.driver.setQueue(ring, {
      size,
      desc: guestBase + descTable,
      driver: guestBase + availRing,
      device: guestBase + usedRing,
      vector: ring + 1,
    });
    this.notifyAddresses.set(ring, this.driver.notifyAddress(this.driver.common(QUEUE_NOTIFY_OFF, 2)));
  }

  protected notify(ring: number): void {
    void this.bus.writeMemory(this.notifyAddresses.get(ring)!, 2, ring);
  }

  interrupted(ring: number): boolean {
    return addon.eventfdDrain(this.platform.messages.eventfd(ring + 1)) === 0;
  }

  /** Unplugs the device; the data plane stays its owner's. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.device.close();
    await this.dataPlane.reset();
    this.platform[Symbol.dispose]();
    super[Symbol.dispose]();
  }

  private regions(): { guestAddress: number; size: number; fd: number; fileOffset: number }[] {
    const { shape } = this.memory;
    return guestRegions(shape).map(({ guestAddress, size, fileOffset }) => ({
      guestAddress,
      size,
      fileOffset,
      fd: shape.fd,
    }));
  }
}
