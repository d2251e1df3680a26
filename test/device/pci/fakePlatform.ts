/** A machine's interrupt controller and doorbells, as far as a device sees them: eventfds are real, KVM is a list of what was asked. */
import type {
  Doorbells,
  DriverFaults,
  EventCounts,
  LineInterrupt,
  MessageInterrupts,
  Platform,
} from '../../../device/pci/platform.js';
import { addon } from '../../../src/native/addon.js';

export interface Message {
  readonly address: bigint;
  readonly data: number;
}

export class FakeMessages implements MessageInterrupts, Disposable {
  readonly fds: readonly number[];
  readonly routes = new Map<number, Message>();
  /** Makes `connect` fail, as for a route that the kernel doesn't take. */
  refuse = false;

  constructor(readonly vectors: number) {
    this.fds = Array.from({ length: vectors }, () => addon.eventfdCreate());
  }

  eventfd(vector: number): number {
    return this.fds[vector]!;
  }

  connect(vector: number, address: bigint, data: number): void {
    if (this.routes.has(vector)) throw new Error(`vector ${vector} is connected already`);
    if (this.refuse) throw new Error('EINVAL');
    this.routes.set(vector, { address, data });
  }

  disconnect(vector: number): void {
    if (!this.routes.delete(vector)) throw new Error(`vector ${vector} is not connected`);
  }

  pending(vector: number): boolean {
    if (this.routes.has(vector) || addon.eventfdDrain(this.fds[vector]!) !== 0) return false;
    addon.eventfdSignal(this.fds[vector]!);
    return true;
  }

  /** Messages that went out since the last call. */
  take(): Message[] {
    return [...this.routes]
      .filter(([vector]) => addon.eventfdDrain(this.fds[vector]!) === 0)
      .map(([, message]) => message);
  }

  [Symbol.dispose](): void {
    for (const fd of this.fds) addon.close(fd);
  }
}

export class FakeDoorbells implements Doorbells {
  /** eventfds by address. */
  readonly at = new Map<number, number>();
  refuse = false;

  attach(address: number, fd: number): void {
    if (this.refuse) throw new Error('ENOSPC');
    if (this.at.has(address)) throw new Error(`doorbell at ${address}`);
    this.at.set(address, fd);
  }

  detach(address: number, fd: number): void {
    if (this.at.get(address) !== fd) throw new Error(`no doorbell at ${address}`);
    this.at.delete(address);
  }
}

export class FakePlatform implements Platform, Disposable {
  messages!: FakeMessages;
  /** Levels that the line was brought to. */
  readonly levels: boolean[] = [];
  readonly counts: EventCounts = { doorbellExits: 0, signalledMessages: 0, lostMessages: 0, lineChanges: 0 };
  readonly faults: DriverFaults = { refusedFeatures: 0, resetsNeeded: 0, refusedMessages: 0 };
  readonly line: LineInterrupt = { set: (asserted) => void this.levels.push(asserted) };

  constructor(readonly doorbells: FakeDoorbells | undefined) {}

  interrupts(vectors: number): MessageInterrupts {
    this.messages = new FakeMessages(vectors);
    return this.messages;
  }

  get asserted(): boolean {
    return this.levels.at(-1) ?? false;
  }

  [Symbol.dispose](): void {
    this.messages[Symbol.dispose]();
  }
}
