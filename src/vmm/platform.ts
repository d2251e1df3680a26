/** The way of a PCI device's interrupts and doorbells through KVM, and the way around where KVM lacks an eventfd. */
import type {
  Doorbells,
  DriverFaults,
  EventCounts,
  LineInterrupt,
  MessageInterrupts,
  Platform,
} from '../../device/pci/platform.js';
import type { FdWatcher } from '../native/addon.js';
import type { EventPaths } from './eventPaths.js';
import type { Message, Route, Vm } from './kvm.js';

/** The machine's GSIs: those of its interrupt controller, and one for each MSI-X vector. With what its devices count. */
export class GsiTable {
  readonly counts: EventCounts = { doorbellExits: 0, signalledMessages: 0, lostMessages: 0, lineChanges: 0 };
  readonly faults: DriverFaults = { refusedFeatures: 0, resetsNeeded: 0, refusedMessages: 0 };
  private messages: ReadonlyMap<number, Route> = new Map();
  /** How many devices hold a line that `setLine` raised. */
  private readonly holders = new Map<number, number>();
  private next: number;

  constructor(
    readonly vm: Vm,
    private readonly fixed: readonly Route[],
    private readonly lineNumber: (gsi: number) => number,
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
  routeMessage(gsi: number, message: Message): void {
    const messages = new Map(this.messages).set(gsi, { kind: 'msi', gsi, ...message });
    this.vm.setRoutes([...this.fixed, ...messages.values()]);
    this.messages = messages;
  }

  /** KVM_SIGNAL_MSI. A message that no vCPU takes is lost, as it is by KVM_IRQFD: what it names is the guest's affair. */
  signalMessage(message: Message): void {
    this.counts.signalledMessages++;
    try {
      this.vm.signalMessage(message);
    } catch {
      this.counts.lostMessages++;
    }
  }

  /** KVM_IRQ_LINE: the line is up while any of the devices that share it holds it. */
  holdLine(gsi: number, held: boolean): void {
    const before = this.holders.get(gsi) ?? 0;
    const after = before + (held ? 1 : -1);
    this.holders.set(gsi, after);
    if (before === 0 || after === 0) this.setLine(gsi, held);
  }

  /** KVM_IRQ_LINE, an edge. */
  pulseLine(gsi: number): void {
    this.setLine(gsi, true);
    this.setLine(gsi, false);
  }

  private setLine(gsi: number, level: boolean): void {
    this.counts.lineChanges++;
    this.vm.setLine(this.lineNumber(gsi), level);
  }
}

export class KvmPlatform implements Platform {
  readonly line: LineInterrupt;
  readonly doorbells: Doorbells | undefined;
  readonly counts: EventCounts;
  readonly faults: DriverFaults;
  private readonly closers: (() => void)[] = [];

  /**
   * @param lineGsi where the device's INTx leads
   * @param sender what its messages name as theirs
   */
  constructor(
    private readonly gsis: GsiTable,
    lineGsi: number,
    private readonly sender: number | undefined,
    private readonly paths: EventPaths,
  ) {
    const { vm } = gsis;
    this.counts = gsis.counts;
    this.faults = gsis.faults;
    if (paths.resample) {
      const line = new ResampledLine(vm, lineGsi);
      this.closers.push(() => line.close());
      this.line = line;
    } else {
      const line = new HeldLine(gsis, lineGsi);
      this.closers.push(() => line.set(false));
      this.line = line;
    }
    this.doorbells = paths.ioeventfd
      ? {
          attach: (address, fd) => vm.setDoorbell(address, fd, true),
          detach: (address, fd) => vm.setDoorbell(address, fd, false),
        }
      : undefined;
  }

  interrupts(vectors: number): MessageInterrupts {
    const interrupts = this.paths.irqfd
      ? new RoutedMessages(this.gsis, this.sender, vectors)
      : new RaisedMessages(this.gsis, this.sender, vectors);
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
    private readonly sender: number | undefined,
    count: number,
  ) {
    super(gsis.vm, count);
    this.firstGsi = gsis.reserve(count);
  }

  connect(vector: number, address: bigint, data: number): void {
    this.gsis.routeMessage(this.firstGsi + vector, { address, data, sender: this.sender });
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

  constructor(
    private readonly gsis: GsiTable,
    private readonly sender: number | undefined,
    count: number,
  ) {
    super(gsis.vm, count);
  }

  connect(vector: number, address: bigint, data: number): void {
    this.disconnect(vector);
    const fd = this.fds[vector]!;
    const raise = (): void => {
      if (this.vm.addon.eventfdDrain(fd) === 0) this.gsis.signalMessage({ address, data, sender: this.sender });
    };
    this.watchers.set(vector, this.vm.addon.watch(fd, { readable: true }, raise));
    raise();
  }

  disconnect(vector: number): void {
    this.watchers.get(vector)?.close();
    this.watchers.delete(vector);
  }
}

/** A level-triggered line by KVM_IRQ_LINE. */
class HeldLine implements LineInterrupt {
  private asserted = false;

  constructor(
    private readonly gsis: GsiTable,
    private readonly gsi: number,
  ) {}

  set(asserted: boolean): void {
    if (asserted !== this.asserted) this.gsis.holdLine(this.gsi, asserted);
    this.asserted = asserted;
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
