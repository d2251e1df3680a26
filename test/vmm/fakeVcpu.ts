/** A vCPU without KVM: its kvm_run (linux/kvm.h) is an ArrayBuffer, and exits come as a test says. */
import type { Addon } from '../../src/native/addon.js';
import { Vcpu, type AccessHandler, type ExitCounts, type GuestEnd } from '../../src/vmm/vcpu.js';

const PAGE = 4096;
/** KVM puts ports' data into the page behind kvm_run (KVM_PIO_PAGE_OFFSET). */
const PORT_DATA = PAGE;
const EXIT_REASON = 8;
const UNION = 32;
const EXIT_IO = 2;
const EXIT_MMIO = 6;
const EINTR = 4;

export class FakeVcpu {
  readonly ends: GuestEnd[] = [];
  readonly counts: ExitCounts = { io: 0, mmio: 0, interrupted: 0, other: 0 };
  /** How often it was told to enter the guest. */
  entries = 0;
  readonly vcpu: Vcpu;
  private readonly buffer = new ArrayBuffer(3 * PAGE);
  private state = 1;

  constructor(handler: AccessHandler, id = 0) {
    const addon: Partial<Addon> = {
      kvmMapVcpu: () => ({ region: 0, buffer: this.buffer }),
      unmapRegion: () => void structuredClone(this.buffer, { transfer: [this.buffer] }),
      close: () => 0,
      vcpuStart: () => 0,
      vcpuEnd: () => undefined,
      vcpuState: () => this.state,
      vcpuResume: () => this.resume(),
      vcpuKick: () => {
        if (this.state === 0) this.state = -EINTR;
        return 0;
      },
    };
    this.vcpu = new Vcpu({
      addon: addon as Addon,
      id,
      fd: 0,
      runSize: 3 * PAGE,
      exits: 0,
      handler,
      counts: this.counts,
      ended: (end) => this.ends.push(end),
    });
    this.vcpu.resume();
  }

  get running(): boolean {
    return this.state === 0;
  }

  get view(): DataView {
    return new DataView(this.buffer);
  }

  /** KVM_RUN fails. */
  fail(errno: number): void {
    this.state = -errno;
    this.vcpu.service();
  }

  /** Stops at an exit of that reason; `union` are the 32-bit words that describe it. */
  exit(reason: number, ...union: number[]): void {
    this.view.setUint32(EXIT_REASON, reason, true);
    union.forEach((word, index) => this.view.setUint32(UNION + 4 * index, word, true));
    this.state = 1;
    this.vcpu.service();
  }

  /** KVM_EXIT_IO: what lies behind it is what the guest writes, or gets. */
  portExit(isOut: boolean, port: number, size: number, count: number, data: Uint8Array = new Uint8Array()): Uint8Array {
    const bytes = new Uint8Array(this.buffer, PORT_DATA, size * count);
    bytes.set(data);
    this.exit(EXIT_IO, (isOut ? 1 : 0) | (size << 8) | (port << 16), count, PORT_DATA, 0);
    return bytes;
  }

  /** KVM_EXIT_MMIO. */
  memoryExit(isWrite: boolean, address: number, length: number, data: Uint8Array = new Uint8Array()): Uint8Array {
    const bytes = new Uint8Array(this.buffer, UNION + 8, 8);
    bytes.set(data);
    this.view.setUint32(UNION + 16, length, true);
    this.view.setUint8(UNION + 20, isWrite ? 1 : 0);
    this.exit(EXIT_MMIO, address % 2 ** 32, Math.floor(address / 2 ** 32));
    return bytes.subarray(0, length);
  }

  private resume(): number {
    this.entries++;
    this.state = 0;
    return 0;
  }
}
