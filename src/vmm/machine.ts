/** A virtual machine of Slipway's own: KVM, the processor's platform, a PCI bus, and one thread that answers all exits. */
import type { MachineArch } from '../../arch/machine.js';
import type { MemoryRegion } from '../../device/dataPlane.js';
import { MAX_WINDOWS } from '../../device/guestMemory.js';
import { PciBus, type PciFunction } from '../../device/pci/bus.js';
import type { DriverFaults, EventCounts, Platform } from '../../device/pci/platform.js';
import type { Addon, FdWatcher } from '../native/addon.js';
import { SlipwayError, describeError } from '../errors.js';
import { wholeNumber } from '../limits.js';
import { Deferred } from '../sandbox/deferred.js';
import { choosePaths, type EventPaths } from './eventPaths.js';
import { KVM_CAP, KvmError, Vm } from './kvm.js';
import { GsiTable, KvmPlatform } from './platform.js';
import { Uart } from './uart.js';
import { Vcpu, type ExitCounts, type GuestEnd } from './vcpu.js';

export interface MachineOptions {
  readonly addon: Addon;
  readonly arch: MachineArch;
  readonly cpus: number;
  readonly memoryMiB: number;
  /** Path of the kernel. */
  readonly kernel: string;
  readonly initramfs?: string | undefined;
  readonly commandLine?: string | undefined;
  /** Gets the console's output, byte by byte as the guest writes it, in chunks. */
  readonly onConsole?: ((bytes: Buffer) => void) | undefined;
  /** Takes eventfds that KVM has away from its devices; all are allowed if left out. */
  readonly paths?: Partial<EventPaths> | undefined;
  /** What stands for /dev/kvm. */
  readonly device?: string | undefined;
}

/** What a machine counted. */
export interface MachineStats {
  /** Exits of its vCPUs to this process, by kind. */
  readonly exits: Readonly<ExitCounts>;
  /** Events of its devices that took another way than KVM's eventfds; all zero where those are used. */
  readonly events: Readonly<EventCounts>;
  readonly faults: GuestFaults;
}

/** What its guest did that it must not, or that nothing answers. */
export interface GuestFaults extends Readonly<DriverFaults> {
  /** Reads and writes of memory where there is neither memory nor a device. */
  readonly unclaimedAccesses: number;
}

/** A PCI function that has something to give back. */
export interface ClosablePciFunction extends PciFunction {
  close(): Promise<void>;
}

const MIB = 1024 * 1024;
/** What workers can map, with a window to spare for the hole. */
const MAX_MEMORY_MIB = (MAX_WINDOWS - 1) * 4096;

/** Collects a port's bytes until this thread has nothing else to do. */
class Output {
  private bytes: number[] = [];

  constructor(private readonly consume: (bytes: Buffer) => void) {}

  readonly push = (byte: number): void => {
    if (this.bytes.length === 0) setImmediate(() => this.flush());
    this.bytes.push(byte);
  };

  flush(): void {
    if (this.bytes.length === 0) return;
    const chunk = Buffer.from(this.bytes);
    this.bytes = [];
    this.consume(chunk);
  }
}

/** What has to be undone, in reverse order. */
class Undo {
  private readonly steps: (() => void | Promise<void>)[] = [];

  add(step: () => void | Promise<void>): void {
    this.steps.push(step);
  }

  async run(): Promise<void> {
    for (let step = this.steps.pop(); step !== undefined; step = this.steps.pop()) await step();
  }
}

export class Machine implements AsyncDisposable {
  /** Resolves when the guest has ended or the machine was closed. */
  readonly ended: Promise<GuestEnd>;
  readonly #exits: ExitCounts = { io: 0, mmio: 0, interrupted: 0, other: 0 };
  readonly #ended = new Deferred<GuestEnd>();
  readonly #undo = new Undo();
  readonly #bus: PciBus;
  readonly #vcpus: Vcpu[] = [];
  readonly #vm: Vm;
  readonly #gsis: GsiTable;
  readonly #paths: EventPaths;
  readonly #console: Uart;
  readonly #consoleOutput: Output;
  #memory: MemoryRegion[] = [];
  #nextSlot = 1;
  #exitsFd = -1;
  #over = false;
  #closing: Promise<void> | undefined;

  private constructor(private readonly options: MachineOptions) {
    const { addon, arch } = options;
    this.ended = this.#ended.promise;
    this.#bus = new PciBus(arch.ecam);
    this.#vm = new Vm(addon, options.device);
    this.#undo.add(() => this.#vm.close());
    try {
      if (this.#vm.extension(KVM_CAP.IMMEDIATE_EXIT) === 0) throw new KvmError('this KVM is older than Linux 4.12');
      arch.prepareVm(this.#vm);
      this.#gsis = new GsiTable(this.#vm, arch.routes, (gsi) => arch.lineNumber(gsi));
    } catch (error) {
      this.#vm.close();
      if (error instanceof SlipwayError) throw error;
      throw new KvmError(`this KVM can't make the machine (${describeError(error)}); use QEMU (vmm: qemu)`);
    }
    try {
      this.#paths = choosePaths(this.#vm, arch.consoleGsi, arch.pciMemory.start, options.paths);
    } catch (error) {
      this.#vm.close();
      throw error;
    }
    this.#consoleOutput = new Output(options.onConsole ?? (() => undefined));
    this.#console = new Uart(this.#consoleOutput.push, this.#edge(arch.consoleGsi));
  }

  /**
   * Builds the machine; it stands still until `start`.
   * @throws {UsageError} for more vCPUs than KVM takes, or none, and for memory that is no whole number of MiB
   * @throws {KvmError} when there is no KVM that does what is needed
   * @throws {MissingPieceError} for what is no kernel
   * @throws {SlipwayError} when memory is too small, or can't be had
   */
  static async create(options: MachineOptions): Promise<Machine> {
    const machine = new Machine(options);
    try {
      await machine.#build();
      return machine;
    } catch (error) {
      await machine.close();
      throw error;
    }
  }

  async #build(): Promise<void> {
    const { addon, arch, cpus, memoryMiB, kernel, initramfs, commandLine = '' } = this.options;
    wholeNumber('cpus', cpus, 1, Math.min(arch.maxCpus, this.#vm.extension(KVM_CAP.MAX_VCPUS)));
    wholeNumber('memoryMiB', memoryMiB, 1, MAX_MEMORY_MIB);
    const ranges = arch.memoryRanges(memoryMiB * MIB);
    let memory: ReturnType<Vm['createMemory']>;
    try {
      memory = this.#vm.createMemory(ranges);
    } catch (error) {
      throw new SlipwayError(`no ${memoryMiB} MiB of guest memory (${(error as Error).message})`);
    }
    let fileOffset = 0;
    this.#memory = ranges.map(({ start, size }) => {
      const region = { guestAddress: start, size, fd: memory.fd, fileOffset };
      fileOffset += size;
      return region;
    });
    const ram = { ranges, mappings: memory.mappings };
    const entry = await arch.loadGuest(ram, { kernel, initramfs, commandLine }, cpus);
    const exits = addon.eventfdCreate();
    this.#exitsFd = exits;
    this.#undo.add(() => void addon.close(exits));
    const watcher: FdWatcher = addon.watch(exits, { readable: true }, () => this.#service());
    this.#undo.add(() => watcher.close());
    const ended = (end: GuestEnd): void => this.#end(end);
    const handler = arch.board({ console: this.#console, pci: this.#bus, ended });
    const { runSize } = this.#vm;
    for (let id = 0; id < cpus; id++) {
      const fd = this.#vm.createVcpu(id);
      const vcpu = new Vcpu({ addon, id, fd, runSize, exits, handler, counts: this.#exits, ended });
      this.#vcpus.push(vcpu);
      arch.prepareVcpu(this.#vm, fd, id, cpus, entry);
    }
  }

  /** The guest's memory. */
  get memory(): readonly MemoryRegion[] {
    return this.#memory;
  }

  /** What it counted so far. */
  stats(): MachineStats {
    const { counts, faults } = this.#gsis;
    const { unclaimedAccesses } = this.#bus;
    return { exits: { ...this.#exits }, events: { ...counts }, faults: { ...faults, unclaimedAccesses } };
  }

  /** What its devices use. */
  get paths(): EventPaths {
    return this.#paths;
  }

  /** Plugs a PCI function in, before `start`. It is closed with the machine. */
  plug<T extends ClosablePciFunction>(make: (platform: Platform) => T): T {
    const slot = this.#nextSlot++;
    const { arch } = this.options;
    const line = arch.lineGsi(slot);
    const platform = new KvmPlatform(this.#gsis, line, arch.messageSender(slot), this.#paths);
    this.#undo.add(() => platform.close());
    const pciFunction = make(platform);
    this.#undo.add(() => pciFunction.close());
    // As firmware tells it; ACPI's _PRT says the same.
    pciFunction.config.interruptLine = line;
    this.#bus.add(slot, pciFunction);
    return pciFunction;
  }

  /** Lets the guest run from its first instruction. */
  start(): void {
    const { start, size } = this.options.arch.pciMemory;
    this.#bus.assignBars(start, start + size);
    this.resume();
  }

  /** Makes all vCPUs stand still; resolves when they do. Interrupts and packets wait in their queues. */
  async pause(): Promise<void> {
    for (const vcpu of this.#vcpus) vcpu.pause();
    while (!this.#vcpus.every(({ stopped }) => stopped)) await new Promise((resolve) => setImmediate(resolve));
  }

  /** Lets the guest run on, unless it has ended. */
  resume(): void {
    if (this.#over) return;
    for (const vcpu of this.#vcpus) vcpu.resume();
  }

  /** Input of the guest's console. */
  sendConsole(bytes: Uint8Array): void {
    this.#console.send(bytes);
  }

  /** Ends the guest, whatever it does, and gives everything back. */
  close(): Promise<void> {
    this.#closing ??= this.#shutDown();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #shutDown(): Promise<void> {
    // The vCPUs end first, that no exit comes to a device that is gone.
    for (const vcpu of this.#vcpus.splice(0)) vcpu.close();
    this.#end({ kind: 'closed' });
    await this.#undo.run();
  }

  #end(end: GuestEnd): void {
    this.#over = true;
    this.#consoleOutput.flush();
    for (const vcpu of this.#vcpus) vcpu.pause();
    this.#ended.resolve(end);
  }

  #service(): void {
    this.options.addon.eventfdDrain(this.#exitsFd);
    for (const vcpu of this.#vcpus) vcpu.service();
  }

  /** What raises an edge-triggered interrupt of the board. */
  #edge(gsi: number): () => void {
    const vm = this.#vm;
    if (!this.#paths.irqfd) return () => this.#gsis.pulseLine(gsi);
    const fd = vm.addon.eventfdCreate();
    this.#undo.add(() => void vm.addon.close(fd));
    vm.connectIrq(gsi, fd);
    this.#undo.add(() => vm.disconnectIrq(gsi, fd));
    return () => void vm.addon.eventfdSignal(fd);
  }
}
