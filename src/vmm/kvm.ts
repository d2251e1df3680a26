/** A virtual machine of KVM: memory, interrupt routes, eventfds. Structures are those of linux/kvm.h, little-endian. */
import type { Addon } from '../native/addon.js';
import type { MappedRegion } from '../native/regions.js';
import type { KvmTransfer } from '../native/kvm.js';
import { SlipwayError } from '../errors.js';

/** What KVM can do, by number (KVM_CAP_*). */
export const KVM_CAP = {
  IRQFD: 32,
  IOEVENTFD: 36,
  MAX_VCPUS: 66,
  SIGNAL_MSI: 77,
  IRQFD_RESAMPLE: 82,
  IMMEDIATE_EXIT: 136,
} as const;

const API_VERSION = 12;
const ROUTING_ENTRY = 48;
const ROUTING_IRQCHIP = 1;
const ROUTING_MSI = 2;
const MSI_VALID_DEVID = 1;
const IRQFD_DEASSIGN = 1;
const IRQFD_RESAMPLE = 2;
const IOEVENTFD_DEASSIGN = 4;

/** Where a GSI leads. */
export type Route =
  | { readonly kind: 'irqchip'; readonly gsi: number; readonly chip: number; readonly pin: number }
  | ({ readonly kind: 'msi'; readonly gsi: number } & Message);

/** A message-signalled interrupt. */
export interface Message {
  readonly address: bigint;
  readonly data: number;
  /** Who sends it, where the interrupt controller routes by that too; `undefined`: it doesn't. */
  readonly sender: number | undefined;
}

/** Hardware virtualization can't be used here. */
export class KvmError extends SlipwayError {
  override readonly name = 'KvmError';
}

export class Vm {
  readonly fd: number;
  private readonly kvm: number;
  private readonly regions: MappedRegion[] = [];
  private memoryFd = -1;

  /** @throws {KvmError} when there is no /dev/kvm that this user may open */
  constructor(
    readonly addon: Addon,
    device = '/dev/kvm',
  ) {
    this.kvm = openDevice(addon, device);
    try {
      this.fd = addon.kvmCall(this.kvm, 'KVM_CREATE_VM', 0);
    } catch (error) {
      addon.close(this.kvm);
      throw new KvmError(`${device} makes no virtual machine (${(error as Error).message})`);
    }
  }

  /** KVM_CHECK_EXTENSION: 0 if it isn't there. */
  extension(capability: number): number {
    return this.addon.kvmCall(this.fd, 'KVM_CHECK_EXTENSION', capability);
  }

  /** An ioctl of the device, not of the machine. */
  system(request: KvmTransfer, bytes: Uint8Array): void {
    this.addon.kvmTransfer(this.kvm, request, bytes);
  }

  /**
   * Gives the guest memory from one memfd.
   * @param ranges in the order of the file; each at most 4 GiB
   * @returns the file, which stays the machine's, and a mapping of each range
   */
  createMemory(ranges: readonly { start: number; size: number }[]): { fd: number; mappings: Uint8Array[] } {
    const total = ranges.reduce((sum, { size }) => sum + size, 0);
    this.memoryFd = this.addon.createMemory('slipway-guest', total);
    let offset = 0;
    const mappings = ranges.map(({ start, size }, slot) => {
      const mapped = this.addon.mapRegion(this.memoryFd, offset, size);
      this.regions.push(mapped);
      this.addon.kvmSetMemory(this.fd, slot, start, mapped.region);
      offset += size;
      return new Uint8Array(mapped.buffer);
    });
    return { fd: this.memoryFd, mappings };
  }

  createVcpu(id: number): number {
    return this.addon.kvmCall(this.fd, 'KVM_CREATE_VCPU', id);
  }

  /** Bytes of a vCPU's kvm_run and what follows it. */
  get runSize(): number {
    return this.addon.kvmCall(this.kvm, 'KVM_GET_VCPU_MMAP_SIZE', 0);
  }

  /** KVM_SET_GSI_ROUTING: these routes and no others. */
  setRoutes(routes: readonly Route[]): void {
    const bytes = new Uint8Array(8 + ROUTING_ENTRY * routes.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, routes.length, true);
    routes.forEach((route, index) => {
      const at = 8 + ROUTING_ENTRY * index;
      view.setUint32(at, route.gsi, true);
      view.setUint32(at + 4, route.kind === 'msi' ? ROUTING_MSI : ROUTING_IRQCHIP, true);
      if (route.kind === 'msi') {
        view.setBigUint64(at + 16, route.address, true);
        view.setUint32(at + 24, route.data, true);
        if (route.sender !== undefined) {
          view.setUint32(at + 8, MSI_VALID_DEVID, true);
          view.setUint32(at + 28, route.sender, true);
        }
      } else {
        view.setUint32(at + 16, route.chip, true);
        view.setUint32(at + 20, route.pin, true);
      }
    });
    this.addon.kvmTransfer(this.fd, 'KVM_SET_GSI_ROUTING', bytes);
  }

  /** KVM_IRQFD. With `resample` the GSI is a level: KVM takes it back at the guest's end of interrupt and signals that eventfd. */
  connectIrq(gsi: number, fd: number, resample?: number): void {
    this.irqfd(fd, gsi, resample === undefined ? 0 : IRQFD_RESAMPLE, resample ?? 0);
  }

  disconnectIrq(gsi: number, fd: number): void {
    this.irqfd(fd, gsi, IRQFD_DEASSIGN, 0);
  }

  /** KVM_SIGNAL_MSI: for where there is no irqfd. */
  signalMessage({ address, data, sender }: Message): void {
    const bytes = new Uint8Array(32);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, address, true);
    view.setUint32(8, data, true);
    if (sender !== undefined) {
      view.setUint32(12, MSI_VALID_DEVID, true);
      view.setUint32(16, sender, true);
    }
    this.addon.kvmTransfer(this.fd, 'KVM_SIGNAL_MSI', bytes);
  }

  /** KVM_IRQ_LINE: for where there is no irqfd. */
  setLine(line: number, level: boolean): void {
    const words = Uint32Array.of(line, level ? 1 : 0);
    this.addon.kvmTransfer(this.fd, 'KVM_IRQ_LINE', new Uint8Array(words.buffer));
  }

  /** KVM_IOEVENTFD on guest physical memory: writes of any length and value. */
  setDoorbell(address: number, fd: number, attached: boolean): void {
    const bytes = new Uint8Array(64);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(8, BigInt(address), true);
    view.setInt32(20, fd, true);
    view.setUint32(24, attached ? 0 : IOEVENTFD_DEASSIGN, true);
    this.addon.kvmTransfer(this.fd, 'KVM_IOEVENTFD', bytes);
  }

  /** Gives everything back. The vCPUs have ended, and their descriptors are closed. */
  close(): void {
    this.addon.close(this.fd);
    this.addon.close(this.kvm);
    for (const { region } of this.regions) this.addon.unmapRegion(region);
    if (this.memoryFd >= 0) this.addon.close(this.memoryFd);
  }

  private irqfd(fd: number, gsi: number, flags: number, resample: number): void {
    const bytes = new Uint8Array(32);
    new Uint32Array(bytes.buffer).set([fd, gsi, flags, resample]);
    this.addon.kvmTransfer(this.fd, 'KVM_IRQFD', bytes);
  }
}

function openDevice(addon: Addon, device: string): number {
  let fd: number;
  try {
    fd = addon.kvmOpen(device);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT')
      throw new KvmError(`there is no ${device}: load the kernel's kvm module, or use QEMU (vmm: qemu)`);
    if (code === 'EACCES')
      throw new KvmError(`${device} is not yours to open: join its group (kvm), or use QEMU (vmm: qemu)`);
    throw new KvmError(`${device} can't be opened (${message})`);
  }
  try {
    const version = addon.kvmCall(fd, 'KVM_GET_API_VERSION', 0);
    if (version === API_VERSION) return fd;
  } catch {
    // Not KVM at all: said below.
  }
  addon.close(fd);
  throw new KvmError(`${device} is not KVM with API version ${API_VERSION}`);
}
