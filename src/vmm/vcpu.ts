/** One vCPU: its thread, and its exits as they lie in `struct kvm_run` (linux/kvm.h). */
import { getSystemErrorName } from 'node:util';
import { describeError, type VcpuFailureReason } from '../errors.js';
import type { Addon } from '../native/addon.js';
import type { MappedRegion } from '../native/regions.js';

/** Where an access goes: ports, or guest physical memory. */
export type AddressSpace = 'io' | 'memory';

/** What answers the guest's accesses to ports and to memory that is none. */
export interface AccessHandler {
  /** @param length 1, 2 or 4 bytes; longer ones are split, the low half first (virtio 1.2 §4.1.3.1) */
  read(space: AddressSpace, address: number, length: number): number;
  /** The vCPU waits for a promise. */
  write(space: AddressSpace, address: number, length: number, value: number): void | Promise<void>;
}

/** Why a guest came to its end. */
export type GuestEnd =
  | { readonly kind: 'reset' | 'powerOff' | 'closed' }
  /** `message` says which vCPU, and what KVM said. */
  | { readonly kind: 'failed'; readonly vcpu: number; readonly reason: VcpuFailureReason; readonly message: string };

/** Exits of all vCPUs to this process, by reason. */
export interface ExitCounts {
  /** Accesses to ports, each string of them once. */
  io: number;
  /** Accesses to memory that is none: registers of devices. */
  mmio: number;
  /** Made to stop by this process, and interrupted. */
  interrupted: number;
  /** All others: the guest's end. */
  other: number;
}

const EXIT_REASON = 8;
const UNION = 32;
/** KVM_EXIT_* */
const EXIT_IO = 2;
const EXIT_MMIO = 6;
const EXIT_IRQ_WINDOW_OPEN = 7;
const EXIT_SHUTDOWN = 8;
const EXIT_FAIL_ENTRY = 9;
const EXIT_INTR = 10;
const EXIT_INTERNAL_ERROR = 17;
const EXIT_SYSTEM_EVENT = 24;
const SYSTEM_EVENT_SHUTDOWN = 1;
const SYSTEM_EVENT_RESET = 2;

/** KVM_EXIT_INTERNAL_ERROR: `suberror`, `ndata`, and for an instruction `flags`, and if they say so its length and bytes. */
const ERROR_WORDS = UNION + 4;
const ERROR_FLAGS = UNION + 8;
const ERROR_INSTRUCTION = UNION + 16;
const SUBERROR_EMULATION = 1;
const HAS_INSTRUCTION = 1;
const LONGEST_INSTRUCTION = 15;
const SUBERRORS = new Map([
  [2, 'an exception at the handling of another'],
  [3, "an event that it can't deliver"],
  [4, "an exit of the processor that it doesn't know"],
]);

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
  /** It stands still: an exit is being handled, or it is not to run. */
  private held = true;
  /** The answer to an exit is still to come. */
  private answering = false;
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
    return this.held && !this.answering && this.options.addon.vcpuState(this.handle) !== 0;
  }

  /** Handles the exit at which it stopped, if it did. */
  service(): void {
    const state = this.options.addon.vcpuState(this.handle);
    if (state === 0 || this.held || this.over) return;
    this.held = true;
    try {
      const answered = state === 1 ? this.handleExit() : this.handleError(-state);
      if (answered === undefined) this.enter();
      else void this.enterAfter(answered);
    } catch (error) {
      this.deviceFailed(error);
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

  private async enterAfter(answered: Promise<void>): Promise<void> {
    this.answering = true;
    try {
      await answered;
    } catch (error) {
      this.deviceFailed(error);
    }
    this.answering = false;
    this.enter();
  }

  /** A device that throws is a bug of ours: it ends its guest, and no other. */
  private deviceFailed(error: unknown): void {
    this.end(this.failure('deviceFailed', `a device failed (${describeError(error)})`));
  }

  private enter(): void {
    if (this.paused || this.answering || this.over) return;
    this.held = false;
    this.options.addon.vcpuResume(this.handle);
  }

  private end(end: GuestEnd): void {
    this.over = true;
    this.options.ended(end);
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
      default:
        counts.other++;
        return this.end(this.endOf(reason));
    }
  }

  private handleError(errno: number): void {
    if (errno === EINTR || errno === EAGAIN) this.options.counts.interrupted++;
    else this.end(this.failure('runFailed', `KVM_RUN fails (${getSystemErrorName(-errno)})`));
  }

  private failure(reason: VcpuFailureReason, what: string): GuestEnd {
    const vcpu = this.options.id;
    return { kind: 'failed', vcpu, reason, message: `vCPU ${vcpu} can't go on: ${what}` };
  }

  private endOf(reason: number): GuestEnd {
    const { view } = this;
    switch (reason) {
      case EXIT_SHUTDOWN:
        return this.failure('tripleFault', 'a triple fault, an exception whose handlers raise exceptions');
      case EXIT_FAIL_ENTRY: {
        const why = view.getBigUint64(UNION, true).toString(16);
        return this.failure('entryRefused', `the processor refuses to enter the guest (reason 0x${why})`);
      }
      case EXIT_INTERNAL_ERROR:
        return this.failure('internalError', `KVM gives up at ${this.internalError()}`);
      case EXIT_SYSTEM_EVENT: {
        const event = view.getUint32(UNION, true);
        if (event === SYSTEM_EVENT_SHUTDOWN) return { kind: 'powerOff' };
        if (event === SYSTEM_EVENT_RESET) return { kind: 'reset' };
        return this.failure('unknownExit', `system event ${event}, which nothing here causes`);
      }
      default:
        return this.failure('unknownExit', `KVM exit ${reason}, which nothing here causes`);
    }
  }

  private internalError(): string {
    const { view } = this;
    const suberror = view.getUint32(UNION, true);
    if (suberror !== SUBERROR_EMULATION) return SUBERRORS.get(suberror) ?? `internal error ${suberror}`;
    const isKnown =
      view.getUint32(ERROR_WORDS, true) >= 3 && (view.getUint32(ERROR_FLAGS, true) & HAS_INSTRUCTION) !== 0;
    if (!isKnown) return "an instruction that it doesn't emulate";
    const length = Math.min(view.getUint8(ERROR_INSTRUCTION), LONGEST_INSTRUCTION);
    const bytes = Array.from({ length }, (_, n) => view.getUint8(ERROR_INSTRUCTION + 1 + n));
    const text = bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    return `an instruction that it doesn't emulate: ${text}`;
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

  /** Ends when the vCPU is closed while an answer is still to come: there is no kvm_run any more. */
  private async handleString(isOut: boolean, port: number, size: number, data: number, count: number): Promise<void> {
    for (let n = 0; n < count && !this.over; n++) {
      const answered = this.transfer('io', isOut, port, size, data + n * size);
      if (answered !== undefined) await answered;
    }
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
    for (let at = 0; at < length && !this.over;) {
      const piece = length - at >= 4 ? 4 : length - at >= 2 ? 2 : 1;
      const answered = this.transfer('memory', isWrite, address + at, piece, data + at);
      if (answered !== undefined) await answered;
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
