/** The way of a PCI device's interrupts and doorbells through KVM, and the way around where KVM lacks an eventfd. */
import type { Doorbells, LineInterrupt, MessageInterrupts, Platform } from '../../device/pci/platform.js';
import type { FdWatcher } from '../native/addon.js';
import { KVM_CAP, type Route, type Vm } from './kvm.js';

/** What a machine's devices use of KVM. */
export interface EventPaths {
  /** Interrupts by KVM_IRQFD; otherwise this thread raises them by KVM_SIGNAL_MSI. */
  readonly irqfd: boolean;
  /** Doorbells by KVM_IOEVENTFD; otherwise they exit. */
  readonly ioeventfd: boolean;
}

/** What this KVM offers of them. */
export function offeredPaths(vm: Vm): EventPaths {
  return {
    irqfd: vm.extension(KVM_CAP.IRQFD) > 0 && vm.extension(KVM_CAP.IRQFD_RESAMPLE) > 0,
    ioeventfd: vm.extension(KVM_CAP.IOEVENTFD) > 0,
  };
}

/** The machine's GSIs: those of its interrupt controller, and one for each MSI-X vector. */
export class GsiTable {
  private messages: ReadonlyMap<number, Route> = new Map();
  private next: number;

  constructor(
    readonly vm: Vm,
    private readonly fixed: readonly Route[],
  ) {
    this.next = 1 + Math.max(...fixed.map(({ gsi }) => gsi));
    vm.setRoutes(fixed);
  }

  /** GSIs without a route yet; the first of `count`. */
  reserve(count: number): number {
    const first = this.next;
    this.next += count;
    return first;
  }

  /** @throws {Error} for a message that KVM doesn't take; all routes are then as before */
  routeMessage(gsi: number, address: bigint, data: number): void {
    const messages = new Map(this.messages).set(gsi, { kind: 'msi', gsi, address, data });
    this.vm.setRoutes([...this.fixed, ...messages.values()]);
    this.messages = messages;
  }
}

export class KvmPlatform implements Platform {
  readonly line: LineInterrupt;
  readonly doorbells: Doorbells | undefined;
  private readonly closers: (() => void)[] = [];

  /** @param lineGsi where the device's INTx leads */
  constructor(
    private readonly gsis: GsiTable,
    lineGsi: number,
    private readonly paths: EventPaths,
  ) {
    const { vm } = gsis;
    if (paths.irqfd) {
      const line = new ResampledLine(vm, lineGsi);
      this.closers.push(() => line.close());
      this.line = line;
    } else {
      this.line = { set: (asserted) => vm.setLine(lineGsi, asserted) };
    }
    this.doorbells = paths.ioeventfd
      ? {
          attach: (address, length, match, fd) => vm.setDoorbell(address, length, match, fd, true),
          detach: (address, length, match, fd) => vm.setDoorbell(address, length, match, fd, false),
        }
      : undefined;
  }

  interrupts(vectors: number): MessageInterrupts {
    const interrupts = this.paths.irqfd
      ? new RoutedMessages(this.gsis, vectors)
      : new RaisedMessages(this.gsis.vm, vectors);
    this.closers.push(() => interrupts.close());
    return interrupts;
  }

  close(): void {
    for (const close of this.closers) close();
  }
}

/** The vectors' eventfds. */
abstract class Vectors {
  protected readonly fds: readonly number[];

  constructor(
    protected readonly vm: Vm,
    count: number,
  ) {
    this.fds = Array.from({ length: count }, () => vm.addon.eventfdCreate());
  }

  eventfd(vector: number): number {
    return this.fds[vector]!;
  }

  /** An eventfd can't be looked at without reading it: what was read is put back. */
  pending(vector: number): boolean {
    const fd = this.fds[vector]!;
    if (this.vm.addon.eventfdDrain(fd) !== 0) return false;
    this.vm.addon.eventfdSignal(fd);
    return true;
  }

  abstract disconnect(vector: number): void;

  close(): void {
    this.fds.forEach((fd, vector) => {
      this.disconnect(vector);
      this.vm.addon.close(fd);
    });
  }
}

/** By KVM_IRQFD: nobody in this process has a part in an interrupt. */
class RoutedMessages extends Vectors implements MessageInterrupts {
  private readonly firstGsi: number;
  private readonly connected = new Set<number>();

  constructor(
    private readonly gsis: GsiTable,
    count: number,
  ) {
    super(gsis.vm, count);
    this.firstGsi = gsis.reserve(count);
  }

  connect(vector: number, address: bigint, data: number): void {
    this.gsis.routeMessage(this.firstGsi + vector, address, data);
    if (this.connected.has(vector)) return;
    this.vm.connectIrq(this.firstGsi + vector, this.fds[vector]!);
    this.connected.add(vector);
  }

  disconnect(vector: number): void {
    if (this.connected.delete(vector)) this.vm.disconnectIrq(this.firstGsi + vector, this.fds[vector]!);
  }
}

/** By this thread, which watches the eventfds of connected vectors. */
class RaisedMessages extends Vectors implements MessageInterrupts {
  private readonly watchers = new Map<number, FdWatcher>();

  connect(vector: number, address: bigint, data: number): void {
    this.disconnect(vector);
    const fd = this.fds[vector]!;
    const raise = (): void => {
      if (this.vm.addon.eventfdDrain(fd) === 0) this.vm.signalMessage(address, data);
    };
    this.watchers.set(vector, this.vm.addon.watch(fd, { readable: true }, raise));
    raise();
  }

  disconnect(vector: number): void {
    this.watchers.get(vector)?.close();
    this.watchers.delete(vector);
  }
}

/** A level-triggered line by KVM_IRQFD: KVM lowers it at the guest's end of interrupt, and asks whether it is to rise again. */
class ResampledLine implements LineInterrupt {
  private readonly trigger: number;
  private readonly resample: number;
  private readonly watcher: FdWatcher;
  private asserted = false;

  constructor(
    private readonly vm: Vm,
    private readonly gsi: number,
  ) {
    const { addon } = vm;
    this.trigger = addon.eventfdCreate();
    this.resample = addon.eventfdCreate();
    vm.connectIrq(gsi, this.trigger, this.resample);
    this.watcher = addon.watch(this.resample, { readable: true }, () => {
      if (addon.eventfdDrain(this.resample) === 0 && this.asserted) addon.eventfdSignal(this.trigger);
    });
  }

  set(asserted: boolean): void {
    if (asserted && !this.asserted) this.vm.addon.eventfdSignal(this.trigger);
    this.asserted = asserted;
  }

  close(): void {
    this.watcher.close();
    this.vm.disconnectIrq(this.gsi, this.trigger);
    this.vm.addon.close(this.trigger);
    this.vm.addon.close(this.resample);
  }
}
