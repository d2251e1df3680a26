/** The addon's door to KVM (Documentation/virt/kvm/api.rst): requests by name, structures as bytes, vCPUs as threads. */
import type { MappedRegion } from './regions.js';

/** Requests of ioctl(2) whose argument is an integer. */
export type KvmCall =
  | 'KVM_GET_API_VERSION'
  | 'KVM_CHECK_EXTENSION'
  | 'KVM_GET_VCPU_MMAP_SIZE'
  | 'KVM_CREATE_VM'
  | 'KVM_CREATE_IRQCHIP'
  | 'KVM_CREATE_VCPU'
  | 'KVM_SET_TSS_ADDR';

/** Requests whose argument is a structure. */
export type KvmTransfer =
  | 'KVM_IRQ_LINE'
  | 'KVM_SET_GSI_ROUTING'
  | 'KVM_IRQFD'
  | 'KVM_IOEVENTFD'
  | 'KVM_SIGNAL_MSI'
  | 'KVM_SET_IDENTITY_MAP_ADDR'
  | 'KVM_CREATE_PIT2'
  | 'KVM_GET_SUPPORTED_CPUID'
  | 'KVM_SET_CPUID2'
  | 'KVM_SET_REGS'
  | 'KVM_GET_SREGS'
  | 'KVM_SET_SREGS'
  | 'KVM_SET_MSRS';

export interface KvmDoor {
  /** open(2) of /dev/kvm or of what stands for it. Returns the descriptor. */
  kvmOpen(path: string): number;
  /** ioctl(2). Returns what it returns; throws when the kernel refuses. */
  kvmCall(fd: number, request: KvmCall, value: number): number;
  /**
   * ioctl(2) with a structure, which the kernel reads or writes. Throws EINVAL for fewer bytes than the structure, with
   * as many elements as its first word says, has.
   */
  kvmTransfer(fd: number, request: KvmTransfer, bytes: Uint8Array): number;
  /** KVM_SET_USER_MEMORY_REGION: the region becomes the guest's memory from `guestAddress`. Keep it mapped while the guest runs. */
  kvmSetMemory(vm: number, slot: number, guestAddress: number, region: number): void;
  /** Maps a vCPU's `struct kvm_run` and what follows it. */
  kvmMapVcpu(vcpu: number, size: number): MappedRegion;

  /**
   * Makes a thread for the vCPU, which stands still at first. Whenever it stops, it signals the eventfd `exits`; the exit
   * is in its kvm_run. Returns the thread's handle. It ends with this thread at the latest.
   */
  vcpuStart(vcpu: number, runSize: number, exits: number): number;
  /** Ends the thread, whatever the guest does, and waits until it has gone. */
  vcpuEnd(handle: number): void;
  /** hot: lets it enter the guest, the exit being answered. 0; -EBUSY if it runs. */
  vcpuResume(handle: number): number;
  /** hot: makes it stop, soon, with -EINTR; nothing happens if it stands still. */
  vcpuKick(handle: number): number;
  /** hot: 0: it runs; 1: it stopped at an exit; -errno: it stopped because KVM_RUN failed. */
  vcpuState(handle: number): number;
}
