/** A virtio-net function on a bus, over a fake platform and a data plane that records. */
import { ConfigPorts } from '../../../arch/x86_64/configPorts.js';
import { PciBus } from '../../../device/pci/bus.js';
import { VirtioNetPci } from '../../../device/pci/virtioNetPci.js';
import { addon } from '../../../src/native/addon.js';
import { FakeDataPlane } from '../vhostUser/fakeDataPlane.js';
import { FakeDoorbells, FakePlatform } from './fakePlatform.js';
import { PciDriver, SLOT } from './pciDriver.js';

export const MAC = Uint8Array.of(0x52, 0x54, 0, 1, 2, 3);
export const MEMORY = { guestAddress: 0x10_0000, size: 0x10_0000 } as const;
/** Where the machine leaves a hole for PCI: above 4 GiB, so that both halves of addresses matter. */
export const PCI_HOLE = 0x10_c000_0000;
export const ECAM = 0xb000_0000;

export class Harness implements AsyncDisposable {
  readonly bus = new PciBus(ECAM);
  /** The bus as x86 reaches its configuration space, beside ECAM. */
  readonly ports = new ConfigPorts(this.bus);
  readonly platform: FakePlatform;
  readonly dataPlane: FakeDataPlane;
  readonly device: VirtioNetPci;
  readonly driver: PciDriver;
  readonly warnings: string[] = [];
  private readonly memoryFd: number;

  private constructor(
    readonly pairs: number,
    doorbells: FakeDoorbells | undefined,
  ) {
    this.platform = new FakePlatform(doorbells);
    this.dataPlane = new FakeDataPlane(pairs);
    this.memoryFd = addon.createMemory('slipway-pci-test', MEMORY.size);
    const memory = [{ ...MEMORY, fd: this.memoryFd, fileOffset: 0 }];
    this.dataPlane.memory = memory;
    this.device = new VirtioNetPci({
      addon,
      platform: this.platform,
      dataPlane: this.dataPlane,
      config: { mac: MAC, mtu: 1500, pairs },
      memory,
      warn: (message) => this.warnings.push(message),
    });
    this.bus.add(SLOT, this.device);
    this.driver = new PciDriver(this.bus);
    this.bus.assignBars(PCI_HOLE, PCI_HOLE + 0x10_0000);
  }

  /** Memory accesses and bus mastering are on, as after the operating system's probe. */
  static async open({ pairs = 2, doorbells = true } = {}): Promise<Harness> {
    const harness = new Harness(pairs, doorbells ? new FakeDoorbells() : undefined);
    await harness.driver.enable();
    return harness;
  }

  /** Negotiates everything, and sets queues up as Linux does: vector 0 for the configuration, queue n has vector n + 1. */
  async bringUp(queues: readonly number[] = [0, 1, 2, 3, 4], { msix = true, without = 0n } = {}): Promise<void> {
    const { driver } = this;
    if (msix) await driver.enableMsix();
    if (!(await driver.negotiate((await driver.offeredFeatures()) & ~without))) throw new Error(this.warnings.at(-1));
    await driver.setCommon(0x10, 2, 0);
    for (const queue of queues) await driver.setQueue(queue, { ...place(queue), vector: queue + 1 });
    await driver.setStatus(15);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.device.close();
    this.platform[Symbol.dispose]();
    addon.close(this.memoryFd);
  }
}

/** A valid place for queue `index` of 64 entries. */
export function place(index: number): { size: number; desc: number; driver: number; device: number } {
  const base = MEMORY.guestAddress + 0x4000 * index;
  return { size: 64, desc: base, driver: base + 0x1000, device: base + 0x2000 };
}
