/** How a vCPU starts on x86: identity (CPUID), and 64-bit mode for the first. */
import type { Vm } from '../../src/vmm/kvm.js';
import { BOOT_PARAMS, GDT, PAGE_TABLES, STACK } from './memoryMap.js';

const PAGE = 4096;
/** KVM_CAP_TSC_DEADLINE_TIMER */
const CAP_TSC_DEADLINE_TIMER = 72;
const MAX_CPUID_ENTRIES = 256;
const CPUID_ENTRY = 40;

/** What the 64-bit boot protocol wants (Documentation/arch/x86/boot.rst): __BOOT_CS is 0x10, __BOOT_DS 0x18. */
const CODE = 0x10;
const DATA = 0x18;
const GDT_ENTRIES = [0n, 0n, 0x00af_9b00_0000_ffffn, 0x00cf_9300_0000_ffffn];

/** struct kvm_sregs of x86. */
const SREGS_BYTES = 312;
const SEGMENT_BYTES = 24;
const SREGS_GDT = 8 * SEGMENT_BYTES;
const SREGS_CR0 = SREGS_GDT + 32;
const SREGS_EFER = SREGS_CR0 + 40;
const CR0_PE_ET_PG = 0x8000_0011n;
const CR4_PAE = 0x20n;
const EFER_LME_LMA = 0x500n;

/** struct kvm_regs of x86: rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 … r15, rip, rflags. */
const REGS_WORDS = 18;
const RSI = 4;
const RSP = 6;
const RIP = 16;
const RFLAGS = 17;

/** Memory is write-back unless said otherwise (Intel SDM 3 §12.11.2.1): bit 11 enables, 6 is write-back. */
const MSR_MTRR_DEF_TYPE = 0x2ff;
const MTRR_WRITE_BACK = 0x806n;

/** Writes the tables that 64-bit mode needs before there is anything else: segments, and 4 GiB mapped one to one by 2 MiB. */
export function writeStartTables(low: Uint8Array): void {
  const view = new DataView(low.buffer, low.byteOffset, low.byteLength);
  GDT_ENTRIES.forEach((entry, index) => view.setBigUint64(GDT + 8 * index, entry, true));
  const directories = PAGE_TABLES + 2 * PAGE;
  view.setBigUint64(PAGE_TABLES, BigInt(PAGE_TABLES + PAGE) | 3n, true);
  for (let n = 0; n < 4; n++) view.setBigUint64(PAGE_TABLES + PAGE + 8 * n, BigInt(directories + n * PAGE) | 3n, true);
  for (let n = 0; n < 2048; n++) view.setBigUint64(directories + 8 * n, (BigInt(n) << 21n) | 0x83n, true);
}

/** The first vCPU: 64-bit mode, at the kernel's entry. */
export function startIn64Bit(vm: Vm, fd: number, entry: bigint): void {
  const { addon } = vm;
  const sregs = new Uint8Array(SREGS_BYTES);
  addon.kvmTransfer(fd, 'KVM_GET_SREGS', sregs);
  const view = new DataView(sregs.buffer);
  writeSegment(view, 0, CODE, 0xb, true);
  for (let segment = 1; segment < 6; segment++) writeSegment(view, segment * SEGMENT_BYTES, DATA, 3, false);
  view.setBigUint64(SREGS_GDT, BigInt(GDT), true);
  view.setUint16(SREGS_GDT + 8, 8 * GDT_ENTRIES.length - 1, true);
  const controls = [CR0_PE_ET_PG, 0n, BigInt(PAGE_TABLES), CR4_PAE];
  controls.forEach((value, index) => view.setBigUint64(SREGS_CR0 + 8 * index, value, true));
  view.setBigUint64(SREGS_EFER, EFER_LME_LMA, true);
  addon.kvmTransfer(fd, 'KVM_SET_SREGS', sregs);

  const regs = new BigUint64Array(REGS_WORDS);
  regs[RSI] = BigInt(BOOT_PARAMS);
  regs[RSP] = BigInt(STACK);
  regs[RIP] = entry;
  regs[RFLAGS] = 2n;
  addon.kvmTransfer(fd, 'KVM_SET_REGS', new Uint8Array(regs.buffer));
}

/** struct kvm_segment: base, limit, selector, then type, present, dpl, db, s, l, g, avl. */
function writeSegment(view: DataView, at: number, selector: number, type: number, is64Bit: boolean): void {
  view.setBigUint64(at, 0n, true);
  view.setUint32(at + 8, 0xffff_ffff, true);
  view.setUint16(at + 12, selector, true);
  [type, 1, 0, is64Bit ? 0 : 1, 1, is64Bit ? 1 : 0, 1, 0].forEach((value, n) => view.setUint8(at + 14 + n, value));
}

export function setMemoryType(vm: Vm, fd: number): void {
  const msrs = new Uint8Array(8 + 16);
  const view = new DataView(msrs.buffer);
  view.setUint32(0, 1, true);
  view.setUint32(8, MSR_MTRR_DEF_TYPE, true);
  view.setBigUint64(16, MTRR_WRITE_BACK, true);
  vm.addon.kvmTransfer(fd, 'KVM_SET_MSRS', msrs);
}

/** What KVM can show, with the vCPU's place among the others: one socket, a core for each, APIC id = number. */
export function setCpuid(vm: Vm, fd: number, id: number, cpus: number): void {
  const bytes = new Uint8Array(8 + MAX_CPUID_ENTRIES * CPUID_ENTRY);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAX_CPUID_ENTRIES, true);
  vm.system('KVM_GET_SUPPORTED_CPUID', bytes);
  const tscDeadline = vm.extension(CAP_TSC_DEADLINE_TIMER) > 0;
  const count = view.getUint32(0, true);
  for (let n = 0; n < count; n++) placeVcpu(new DataView(bytes.buffer, 8 + n * CPUID_ENTRY), id, cpus, tscDeadline);
  vm.addon.kvmTransfer(fd, 'KVM_SET_CPUID2', bytes);
}

/** struct kvm_cpuid_entry2: function, index, flags, eax, ebx, ecx, edx. */
const INDEX = 4;
const EAX = 12;
const EBX = 16;
const ECX = 20;
const EDX = 24;

/** Level types of leaf 0xb (Intel SDM 2, CPUID). */
const LEVEL_THREAD = 1;
const LEVEL_CORE = 2;

function placeVcpu(entry: DataView, id: number, cpus: number, tscDeadline: boolean): void {
  const get = (at: number): number => entry.getUint32(at, true);
  const set = (at: number, value: number): void => entry.setUint32(at, value >>> 0, true);
  const idBits = Math.ceil(Math.log2(cpus));
  const index = get(INDEX);
  switch (get(0)) {
    case 1:
      set(EBX, (get(EBX) & 0x0000_ffff) | (cpus << 16) | (id << 24));
      // 31: under a hypervisor.
      set(ECX, get(ECX) | 0x8000_0000 | (tscDeadline ? 1 << 24 : 0));
      if (cpus > 1) set(EDX, get(EDX) | (1 << 28));
      break;
    case 4:
      // Cores in the package, and who shares the cache: nobody.
      if ((get(EAX) & 0x1f) !== 0) set(EAX, (get(EAX) & 0x3fff) | (((1 << idBits) - 1) << 26));
      break;
    case 0xb:
    case 0x1f:
      set(EAX, index === 1 ? idBits : 0);
      set(EBX, index === 0 ? 1 : index === 1 ? cpus : 0);
      set(ECX, index | ((index === 0 ? LEVEL_THREAD : index === 1 ? LEVEL_CORE : 0) << 8));
      set(EDX, id);
      break;
    case 0x8000_0008:
      set(ECX, (idBits << 12) | (cpus - 1));
      break;
    case 0x8000_001e:
      set(EAX, id);
      set(EBX, id);
      set(ECX, 0);
      break;
    default:
      break;
  }
}
