/**
 * A virtio device on the PCI bus (virtio 1.2 §4.1): a modern device, its structures in one 64-bit memory BAR.
 *
 * What serves the queues gets each queue's kick eventfd, which is bound to the queue's own notify address, and as call eventfd that
 * of the MSI-X vector which the driver chose: on the way of a network card's packet this thread has no part.
 */
import type { Addon } from '../../src/native/addon.js';
import type { MemoryRegion } from '../dataPlane.js';
import type { PciFunction } from './bus.js';
import { commonConfig, COMMON_CONFIG_SIZE } from './commonConfig.js';
import { ConfigSpace } from './configSpace.js';
import { VirtioInterrupts } from './interrupts.js';
import { Lifecycle } from './lifecycle.js';
import type { VirtioModel } from '../model.js';
import { Msix } from './msix.js';
import { NotifyArea } from './notifyArea.js';
import type { Platform } from './platform.js';
import { QueueRegisters } from './queueRegisters.js';
import { allOnes, readBytes, type RegisterBlock } from './registers.js';
import { addVirtioCapabilities, ConfigAccess, NOTIFY_MULTIPLIER } from './virtioCapabilities.js';

/** The BAR's contents, a page each: a hypervisor may map some of them and not others. */
const BAR = 0;
const BAR_SIZE = 0x8000;
const COMMON = 0x0000;
const ISR = 0x1000;
const DEVICE = 0x2000;
const NOTIFY = 0x3000;
const MSIX_TABLE = 0x4000;
const MSIX_PENDING = 0x5000;
const PAGE = 0x1000;

/** §4.1.2.1: a non-transitional device has revision 1 or higher; its device number is 0x1040 plus virtio's. */
const VENDOR = 0x1af4;
const FIRST_DEVICE = 0x1040;

const QUEUE_SIZE = 256;

export interface VirtioPciOptions {
  readonly addon: Addon;
  readonly platform: Platform;
  readonly model: VirtioModel;
  /** The guest's memory, as what serves the queues knows it. */
  readonly memory: readonly MemoryRegion[];
  readonly warn: (message: string) => void;
}

export class VirtioPci implements PciFunction {
  readonly config: ConfigSpace;
  private readonly msix: Msix;
  private readonly interrupts: VirtioInterrupts;
  protected readonly life: Lifecycle;
  private readonly common: RegisterBlock;
  private readonly notify: NotifyArea;
  private readonly access: ConfigAccess;
  private readonly kickFds: readonly number[];

  constructor(private readonly options: VirtioPciOptions) {
    const { addon, platform, model, memory, warn } = options;
    const device = FIRST_DEVICE + model.deviceId;
    this.config = new ConfigSpace({
      vendor: VENDOR,
      device,
      revision: 1,
      classCode: model.classCode,
      subsystemVendor: VENDOR,
      subsystem: device,
      interruptPin: 1,
    });
    this.kickFds = Array.from({ length: model.queues }, () => addon.eventfdCreate());
    this.config.addMemoryBar(BAR, BAR_SIZE);
    // A vector for each queue and one for the configuration (§4.1.5.1.2).
    const vectors = model.queues + 1;
    const messages = platform.interrupts(vectors);
    const place = { bar: BAR, tableOffset: MSIX_TABLE, pendingOffset: MSIX_PENDING };
    this.msix = new Msix(this.config, messages, vectors, place, (message) => {
      platform.faults.refusedMessages++;
      warn(message);
    });
    this.access = new ConfigAccess(this.config, this.addCapabilities(model));
    this.interrupts = new VirtioInterrupts(addon, this.config, this.msix, messages, platform.line);
    const mayAccessMemory = (): boolean => this.config.busMaster;
    const queues = this.kickFds.map((fd) => new QueueRegisters(QUEUE_SIZE, fd));
    this.life = new Lifecycle(
      { model, memory, warn, faults: platform.faults, mayAccessMemory },
      queues,
      this.interrupts,
    );
    this.common = commonConfig(this.life, this.interrupts, model);
    this.notify = new NotifyArea(addon, platform, model.plane, this.kickFds, warn);
  }

  /** Device status (§2.1), for those who look at the machine from outside. */
  get deviceStatus(): number {
    return this.life.deviceStatus;
  }

  readConfig(offset: number, length: number): number {
    if (this.access.touches(offset, length)) this.readByAccess();
    return this.config.read(offset, length);
  }

  writeConfig(offset: number, length: number, value: number): void | Promise<void> {
    this.config.write(offset, length, value);
    if (this.access.touches(offset, length)) return this.writeByAccess();
    this.notify.place(this.notifyAddress());
    this.msix.update();
    this.interrupts.updateLine();
    return this.life.settle();
  }

  readBar(_bar: number, offset: number, length: number): number {
    const inPage = offset % PAGE;
    switch (offset - inPage) {
      case COMMON:
        return this.common.read(inPage, length);
      case ISR:
        return inPage === 0 ? this.interrupts.readIsr() : 0;
      case DEVICE:
        return readBytes(this.options.model.configSpace(), inPage, length);
      case MSIX_TABLE:
        return inPage < this.msix.tableSize ? this.msix.readTable(inPage, length) : 0;
      case MSIX_PENDING:
        return inPage < this.msix.pendingSize ? this.msix.readPending(inPage, length) : 0;
      default:
        return 0;
    }
  }

  writeBar(_bar: number, offset: number, length: number, value: number): void | Promise<void> {
    const inPage = offset % PAGE;
    switch (offset - inPage) {
      case COMMON:
        return this.common.write(inPage, length, value);
      case NOTIFY:
        return this.notify.written(inPage);
      case MSIX_TABLE:
        if (inPage < this.msix.tableSize) this.msix.writeTable(inPage, length, value);
        return;
      default:
        // ISR, the pending bits and, without a legacy driver, the device configuration are read-only (§5.1.4, §5.3.4).
        return;
    }
  }

  /** Stops the queues and gives back what the device has. The model and the platform are their owners' business. */
  async close(): Promise<void> {
    await this.life.close();
    this.notify.place(undefined);
    this.msix.close();
    this.interrupts.close();
    for (const fd of this.kickFds) this.options.addon.close(fd);
  }

  private addCapabilities(model: VirtioModel): number {
    return addVirtioCapabilities(this.config, {
      bar: BAR,
      common: { offset: COMMON, length: COMMON_CONFIG_SIZE },
      isr: { offset: ISR, length: 1 },
      device: { offset: DEVICE, length: model.configLength },
      notify: { offset: NOTIFY, length: NOTIFY_MULTIPLIER * model.queues },
    });
  }

  private notifyAddress(): number | undefined {
    const base = this.config.barAddress(BAR);
    return base === undefined ? undefined : base + NOTIFY;
  }

  private readByAccess(): void {
    const { access } = this.access;
    if (access === undefined || !this.reaches(access.bar, access.offset, access.length)) return;
    this.access.data = this.readBar(access.bar, access.offset, access.length);
  }

  private writeByAccess(): void | Promise<void> {
    const { access } = this.access;
    if (access === undefined || !this.reaches(access.bar, access.offset, access.length)) return;
    const value = this.access.data & allOnes(access.length);
    return this.writeBar(access.bar, access.offset, access.length, value >>> 0);
  }

  /** Works whether memory accesses are on or not: that is what it is for (§4.1.4.9). */
  private reaches(bar: number, offset: number, length: number): boolean {
    return bar === BAR && offset + length <= BAR_SIZE;
  }
}
