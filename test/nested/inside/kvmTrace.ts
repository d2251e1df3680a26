/** What KVM of this kernel did, by its own tracepoints and counters (tracefs and debugfs; Documentation/trace/events.rst). */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const TRACING = '/sys/kernel/debug/tracing';
const COUNTERS = '/sys/kernel/debug/kvm';

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
  /** How the counters of /sys/kernel/debug/kvm, sums over all VMs, have grown: `exits`, `io_exits`, `irq_injections`, … */
  readonly counters: Readonly<Record<string, number>>;
}

/** @returns what `work` gave, and all that KVM did meanwhile, for whomever */
export async function traced<T>(work: () => Promise<T>): Promise<{ result: T; activity: KvmActivity }> {
  const filter = Object.values(INTERRUPT_REQUESTS).map((request) => `cmd == ${request}`);
  set('buffer_size_kb', '4096');
  set('events/syscalls/sys_enter_ioctl/filter', filter.join(' || '));
  set('trace', '');
  set('events/syscalls/sys_enter_ioctl/enable', '1');
  set('events/kvm/kvm_userspace_exit/enable', '1');
  const before = readCounters();
  try {
    const result = await work();
    const after = readCounters();
    set('tracing_on', '0');
    const trace = readFileSync(join(TRACING, 'trace'), 'latin1');
    return { result, activity: { ...parseTrace(trace), counters: difference(before, after) } };
  } finally {
    set('events/enable', '0');
    set('tracing_on', '1');
  }
}

function set(file: string, value: string): void {
  writeFileSync(join(TRACING, file), value);
}

/** Lines such as `node-123 [000] ..... 1.5: sys_ioctl(fd: d, cmd: 4008ae61, arg: 0)` and `…: kvm_userspace_exit: reason KVM_EXIT_IO (2)`. */
function parseTrace(trace: string): Pick<KvmActivity, 'requests' | 'userExits'> {
  const requests = { KVM_IRQ_LINE: 0, KVM_IRQ_LINE_STATUS: 0, KVM_SIGNAL_MSI: 0 };
  for (const [, cmd] of trace.matchAll(/ sys_ioctl\(fd: \w+, cmd: (\w+)/g)) {
    const request = (Object.keys(requests) as InterruptRequest[]).find(
      (name) => INTERRUPT_REQUESTS[name] === Number.parseInt(cmd!, 16),
    );
    if (request !== undefined) requests[request] += 1;
  }
  const userExits: Record<string, number> = {};
  for (const [, reason] of trace.matchAll(/ kvm_userspace_exit: reason (\w+)/g)) {
    userExits[reason!] = (userExits[reason!] ?? 0) + 1;
  }
  return { requests, userExits };
}

function readCounters(): Map<string, number> {
  const files = readdirSync(COUNTERS, { withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(files.map(({ name }) => [name, Number(readFileSync(join(COUNTERS, name), 'latin1'))]));
}

function difference(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): Record<string, number> {
  const grown = [...after].map(([name, value]) => [name, value - (before.get(name) ?? 0)] as const);
  return Object.fromEntries(grown.filter(([, growth]) => growth > 0));
}
