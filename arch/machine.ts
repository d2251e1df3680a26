/** What a machine of Slipway's own VMM has to know about the processor, behind one interface. */
import type { PciAccess } from '../device/pci/bus.js';
import type { AccessHandler, GuestEnd } from '../src/vmm/vcpu.js';
import type { Route, Vm } from '../src/vmm/kvm.js';
import type { UartPort } from '../src/vmm/uart.js';

/** A piece of the guest's physical address space. */
export interface AddressRange {
  readonly start: number;
  readonly size: number;
}

export interface GuestImage {
  /** Path of the kernel: an ELF file or, on x86, a bzImage. */
  readonly kernel: string;
  /** Path of the initial file system; `undefined`: none. */
  readonly initramfs: string | undefined;
  readonly commandLine: string;
}

/** Guest memory, as this process sees it. */
export interface GuestRam {
  readonly ranges: readonly AddressRange[];
  readonly mappings: readonly Uint8Array[];
}

/** What a board is made of, beside the devices that it brings itself. */
export interface BoardParts {
  readonly console: UartPort;
  /** Has all memory that is neither the guest's nor the board's. */
  readonly pci: PciAccess;
  readonly ended: (end: GuestEnd) => void;
}

export interface MachineArch {
  /** vCPUs at most. */
  readonly maxCpus: number;
  /** Where memory of that many bytes lies: device memory is left out. Each range fits one mapping. */
  memoryRanges(bytes: number): AddressRange[];
  /** Where PCI functions' registers go. */
  readonly pciMemory: AddressRange;
  /** Where bus 0's ECAM lies; `undefined`: functions are configured by ports alone. */
  readonly ecam: number | undefined;
  /** The GSIs of the interrupt controller. */
  readonly routes: readonly Route[];
  /** The GSI of a PCI device's INTx, by its slot. */
  lineGsi(slot: number): number;
  /** What KVM_IRQ_LINE calls a GSI. */
  lineNumber(gsi: number): number;
  /** Who sends a slot's messages, for controllers that route by that too (GICv3 ITS); `undefined`: they don't. */
  messageSender(slot: number): number | undefined;
  /** The GSI of the console's serial port. */
  readonly consoleGsi: number;
  /** The interrupt controller and what else there is one of; before the vCPUs. */
  prepareVm(vm: Vm): void;
  /** Answers everything that exits: by devices of the processor's platform, and by the PCI bus. */
  board(parts: BoardParts): AccessHandler;
  /**
   * Puts the kernel and what it reads at its start into memory.
   * @returns the address at which the first vCPU starts
   * @throws {MissingPieceError} if it is no kernel; {SlipwayError} if memory is too small for it
   */
  loadGuest(ram: GuestRam, image: GuestImage, cpus: number): Promise<bigint>;
  /** Registers and identity of vCPU `id`, of `cpus`; `entry` is `loadGuest`'s. The others wait for the first to start them. */
  prepareVcpu(vm: Vm, fd: number, id: number, cpus: number, entry: bigint): void;
}
