/** What KVM of this kernel did, by its own tracepoints (Documentation/trace/events.rst). */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SlipwayError } from '../../../src/errors.js';

const TRACING = '/sys/kernel/debug/tracing';

/** Requests of ioctl(2) that raise an interrupt by hand, from linux/kvm.h; `_IOW(KVMIO, nr, size)`. */
const INTERRUPT_REQUESTS = {
  KVM_IRQ_LINE: 0x4008ae61,
  KVM_IRQ_LINE_STATUS: 0xc008ae67,
  KVM_SIGNAL_MSI: 0x4020aea5,
} as const;

export type InterruptRequest = keyof typeof INTERRUPT_REQUESTS;

export interface KvmActivity {
  /** ioctl(2) calls by request. */
  readonly requests: Readonly<Record<InterruptRequest, number>>;
  /** Returns of KVM_RUN to user space, by reason: `KVM_EXIT_IO`, `KVM_EXIT_MMIO`, … */
  readonly userExits: Readonly<Record<string, number>>;
  /** Exits of the guest to KVM, by the processor's reason: `npf`, `msr`, `hlt`, `interrupt`, … */
  readonly exits: Readonly<Record<string, number>>;
  /** 16-bit writes of the guest to memory that is none: virtio's doorbells (virtio 1.2 §4.1.5.2), once its devices are set up. */
  readonly doorbells: number;
  /** Messages (MSI) that KVM took for the guest, from whomever. */
  readonly messages: number;
  /** Interrupts that entered a vCPU, those of its own timer among them. */
  readonly injections: number;
}

/** The kernel's trace can't be relied on. */
export class TraceError extends SlipwayError {
  override readonly name = 'TraceError';
}

/** `kvm_mmio` has what KVM's emulator writes, `kvm_fast_mmio` what takes the shorter way to an ioeventfd. */
const EVENTS = ['kvm_userspace_exit', 'kvm_exit', 'kvm_mmio', 'kvm_fast_mmio', 'kvm_msi_set_irq', 'kvm_inj_virq'];

/**
 * All that KVM did while `work` was done, for whomever.
 * @throws {TraceError} if that was more than fits the kernel's buffer
 */
export async function traced(work: () => Promise<unknown>): Promise<KvmActivity> {
  const filter = Object.values(INTERRUPT_REQUESTS).map((request) => `cmd == ${request}`);
  set('buffer_size_kb', '8192');
  set('events/syscalls/sys_enter_ioctl/filter', filter.join(' || '));
  set('trace', '');
  set('events/syscalls/sys_enter_ioctl/enable', '1');
  for (const event of EVENTS) set(`events/kvm/${event}/enable`, '1');
  try {
    await work();
    set('tracing_on', '0');
    return parseTrace(readFileSync(join(TRACING, 'trace'), 'latin1'));
  } finally {
    set('events/enable', '0');
    set('tracing_on', '1');
  }
}

function set(file: string, value: string): void {
  writeFileSync(join(TRACING, file), value);
}

/**
 * Lines such as `node-123 [000] ..... 1.5: sys_ioctl(fd: d, cmd: 4008ae61, arg: 0)`, `…: kvm_userspace_exit: reason KVM_EXIT_IO (2)`,
 * `…: kvm_exit: vcpu 0 reason npf rip 0x… info1 …` and `…: kvm_mmio: mmio write len 2 gpa 0xc0003004 val 0x1`.
 */
function parseTrace(trace: string): KvmActivity {
  const [, kept, written] = /entries-in-buffer\/entries-written: (\d+)\/(\d+)/.exec(trace) ?? [];
  if (kept !== written) throw new TraceError(`the kernel kept ${kept} of ${written} events`);
  const calls = countBy(trace, / sys_ioctl\(fd: \w+, cmd: (\w+)/g);
  const requests = Object.fromEntries(
    Object.entries(INTERRUPT_REQUESTS).map(([name, request]) => [name, calls[request.toString(16)] ?? 0]),
  ) as Record<InterruptRequest, number>;
  return {
    requests,
    userExits: countBy(trace, / kvm_userspace_exit: reason (\w+)/g),
    exits: countBy(trace, / kvm_exit: (?:vcpu \d+ )?reason (\S+)/g),
    doorbells: [...trace.matchAll(/ kvm_mmio: mmio write len 2 | kvm_fast_mmio: /g)].length,
    messages: [...trace.matchAll(/ kvm_msi_set_irq: /g)].length,
    injections: [...trace.matchAll(/ kvm_inj_virq: /g)].length,
  };
}

/** How often each of the pattern's first group occurs. */
function countBy(text: string, pattern: RegExp): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const [, key] of text.matchAll(pattern)) counts[key!] = (counts[key!] ?? 0) + 1;
  return counts;
}
