/** One vCPU: its thread, and its exits as they lie in `struct kvm_run` (linux/kvm.h). */
import type { AddressSpace } from '../../device/pci/platform.js';
import { describeError } from '../errors.js';
import type { Addon, MappedRegion } from '../native/addon.js';

/** What answers the guest's accesses to ports and to memory that is none. */
export interface AccessHandler {
  /** @param length 1, 2 or 4 bytes */
  read(space: AddressSpace, address: number, length: number): number;
  /** The vCPU waits for a promise. */
  write(space: AddressSpace, address: number, length: number, value: number): void | Promise<void>;
}

/** Why a guest came to its end. */
export type GuestEnd =
  | { readonly kind: 'reset' | 'powerOff' | 'closed' }
  /** A vCPU met a fault while it delivered another's double fault: it has shut itself down. */
  | { readonly kind: 'tripleFault'; readonly vcpu: number }
  /** `message` says what KVM said. */
  | { readonly kind: 'failed'; readonly vcpu: number; readonly message: string };

/** Exits of all vCPUs to this process, by reason. */
export interface ExitCounts {
  io: number;
  mmio: number;
  interrupted: number;
  other: number;
}

const EXIT_REASON = 8;
const UNION = 32;
/** KVM_EXIT_* */
const EXIT_IO = 2;
const EXIT_IRQ_WINDOW_OPEN = 7;
const EXIT_MMIO = 6;
const EXIT_SHUTDOWN = 8;
const EXIT_FAIL_ENTRY = 9;
const EXIT_INTR = 10;
const EXIT_INTERNAL_ERROR = 17;
const EXIT_SYSTEM_EVENT = 24;
const SYSTEM_EVENT_SHUTDOWN = 1;
const INTERNAL_ERROR_EMULATION = 1;
const LONGEST_INSTRUCTION = 15;

const EINTR = 4;
const EAGAIN = 11;

export interface VcpuOptions {
  readonly addon: Addon;
  readonly id: number;
  /** The vCPU's descriptor, which becomes this object's. */
  readonly fd: number;
  readonly runSize: number;
  /** An eventfd that is signalled whenever a vCPU stops. */
  readonly exits: number;
  readonly handler: AccessHandler;
  readonly counts: ExitCounts;
  readonly ended: (end: GuestEnd) => void;
}

export class Vcpu {
  private readonly handle: number;
  private readonly run: MappedRegion;
  private readonly view: DataView;
  /** An exit is being handled, or the vCPU is not to run. */
  private held = true;
  private paused = true;
  private over = false;

  constructor(private readonly options: VcpuOptions) {
    const { addon, fd, runSize, exits } = options;
    this.run = addon.kvmMapVcpu(fd, runSize);
    this.view = new DataView(this.run.buffer);
    this.handle = addon.vcpuStart(fd, runSize, exits);
  }

  /** Lets the guest run, from where it is. */
  resume(): void {
    this.paused = false;
    if (this.held) this.enter();
  }

  /** Makes it stand still, soon: `stopped` tells when. An access under way is answered first. */
  pause(): void {
    this.paused = true;
    this.options.addon.vcpuKick(this.handle);
  }

  /** Whether it stands still and no exit of it is being handled. */
  get stopped(): boolean {
    return this.held && this.options.addon.vcpuState(this.handle) !== 0;
  }

  /** Handles the exit at which it stopped, if it did. */
  service(): void {
    const state = this.options.addon.vcpuState(this.handle);
    if (state === 0 || this.held || this.over) return;
    this.held = true;
    const failed = (error: unknown): void => this.fail(`a device failed (${describeError(error)})`);
    try {
      const answered = state === 1 ? this.handleExit() : this.handleError(-state);
      if (answered === undefined) this.enter();
      else answered.then(() => this.enter(), failed);
    } catch (error) {
      failed(error);
    }
  }

  /** Ends the thread, whatever the guest does. */
  close(): void {
    this.over = true;
    const { addon, fd } = this.options;
    addon.vcpuEnd(this.handle);
    addon.unmapRegion(this.run.region);
    addon.close(fd);
  }

  private enter(): void {
    if (this.paused || this.over) return;
    this.held = false;
    this.options.addon.vcpuResume(this.handle);
  }

  private end(end: GuestEnd): void {
    this.over = true;
    this.options.ended(end);
  }

  private fail(message: string): void {
    this.end({ kind: 'failed', vcpu: this.options.id, message });
  }

  private handleExit(): void | Promise<void> {
    const { counts } = this.options;
    const reason = this.view.getUint32(EXIT_REASON, true);
    switch (reason) {
      case EXIT_IO:
        counts.io++;
        return this.handlePorts();
      case EXIT_MMIO:
        counts.mmio++;
        return this.handleMemory();
      case EXIT_INTR:
      case EXIT_IRQ_WINDOW_OPEN:
        counts.interrupted++;
        return undefined;
      case EXIT_SHUTDOWN:
        return this.end({ kind: 'tripleFault', vcpu: this.options.id });
      case EXIT_SYSTEM_EVENT:
        return this.end({
          kind: this.view.getUint32(UNION, true) === SYSTEM_EVENT_SHUTDOWN ? 'powerOff' : 'reset',
        });
      default:
        counts.other++;
        return this.fail(this.describe(reason));
    }
  }

  private handleError(errno: number): void {
    if (errno === EINTR || errno === EAGAIN) this.options.counts.interrupted++;
    else this.fail(`KVM_RUN failed (errno ${errno})`);
  }

  private describe(reason: number): string {
    if (reason === EXIT_INTERNAL_ERROR) {
      return `KVM can't go on with the guest (${this.internalError()})`;
    }
    if (reason === EXIT_FAIL_ENTRY) {
      return `the processor doesn't enter the guest (reason 0x${this.view.getBigUint64(UNION, true).toString(16)})`;
    }
    return `KVM exit ${reason}, which nothing here causes`;
  }

  private internalError(): string {
    const { view } = this;
    const error = view.getUint32(UNION, true);
    if (error !== INTERNAL_ERROR_EMULATION) return `internal error ${error}`;
    // struct emulation_failure: number of 64-bit words that follow, flags, and with the flag the instruction.
    const tellsInstruction = view.getUint32(UNION + 4, true) >= 3 && (view.getUint8(UNION + 8) & 1) !== 0;
    if (!tellsInstruction) return 'an instruction that it does not emulate';
    const length = Math.min(view.getUint8(UNION + 16), LONGEST_INSTRUCTION);
    const bytes = Array.from({ length }, (_, n) =>
      view
        .getUint8(UNION + 17 + n)
        .toString(16)
        .padStart(2, '0'),
    );
    return `an instruction that it does not emulate, among the bytes ${bytes.join(' ')}`;
  }

  /** KVM_EXIT_IO: `count` items of `size` bytes at `data_offset`. */
  private handlePorts(): void | Promise<void> {
    const { view } = this;
    const isOut = view.getUint8(UNION) === 1;
    const size = view.getUint8(UNION + 1);
    const port = view.getUint16(UNION + 2, true);
    const count = view.getUint32(UNION + 4, true);
    const data = Number(view.getBigUint64(UNION + 8, true));
    if (count !== 1) return this.handleString(isOut, port, size, data, count);
    return this.transfer('io', isOut, port, size, data);
  }

  private async handleString(isOut: boolean, port: number, size: number, data: number, count: number): Promise<void> {
    for (let n = 0; n < count; n++) await this.transfer('io', isOut, port, size, data + n * size);
  }

  /** KVM_EXIT_MMIO: up to 8 bytes; registers take 4 at most (virtio 1.2 §4.1.3.1). */
  private handleMemory(): void | Promise<void> {
    const { view } = this;
    const address = Number(view.getBigUint64(UNION, true));
    const length = view.getUint32(UNION + 16, true);
    const isWrite = view.getUint8(UNION + 20) !== 0;
    const data = UNION + 8;
    if (length <= 4 && length !== 3) return this.transfer('memory', isWrite, address, length, data);
    return this.handlePieces(isWrite, address, length, data);
  }

  private async handlePieces(isWrite: boolean, address: number, length: number, data: number): Promise<void> {
    for (let at = 0; at < length;) {
      const piece = length - at >= 4 ? 4 : length - at >= 2 ? 2 : 1;
      await this.transfer('memory', isWrite, address + at, piece, data + at);
      at += piece;
    }
  }

  private transfer(
    space: AddressSpace,
    isWrite: boolean,
    address: number,
    length: number,
    at: number,
  ): void | Promise<void> {
    const { view } = this;
    const { handler } = this.options;
    if (isWrite) {
      const value =
        length === 4 ? view.getUint32(at, true) : length === 2 ? view.getUint16(at, true) : view.getUint8(at);
      return handler.write(space, address, length, value);
    }
    const value = handler.read(space, address, length);
    if (length === 4) view.setUint32(at, value, true);
    else if (length === 2) view.setUint16(at, value, true);
    else view.setUint8(at, value);
  }
}
