/** The x86-64 machine: in-kernel interrupt controllers and timer, a serial port, power management, ports. */
import type { BoardParts, MachineArch } from '../machine.js';
import type { Route } from '../../src/vmm/kvm.js';
import type { AccessHandler, AddressSpace } from '../../src/vmm/vcpu.js';
import { SLEEP_TYPE_OFF } from './acpi.js';
import { loadGuest } from './boot.js';
import { ConfigPorts } from './configPorts.js';
import {
  HIGH_MEMORY,
  IDENTITY_MAP,
  PCI_MEMORY,
  PM_CONTROL,
  PM_EVENT,
  RESET_PORT,
  TSS,
  lineGsi,
  memoryRanges,
} from './memoryMap.js';
import { setCpuid, setMemoryType, startIn64Bit } from './vcpu.js';
import { SlipwayError } from '../../src/errors.js';

/** Irqchips of KVM_SET_GSI_ROUTING: both 8259s, the I/O APIC. */
const PIC_PINS = 8;
const IO_APIC_CHIP = 2;
const IO_APIC_PINS = 24;

const CONSOLE_PORT = 0x3f8;
const UART_PORTS = 8;
const KEYBOARD_COMMAND = 0x64;
const KEYBOARD_RESET = 0xfe;
/** Status and enable registers, then the control register. */
const PM_PORTS = 6;
const PM_ENABLE = PM_EVENT + 2;
/** PM1 control register (ACPI 6.4 §4.8.3.2.1). */
const SCI_ENABLED = 1;
const SLEEP_ENABLE = 0x2000;
const RESET_CPU = 4;
/** APIC ids have 8 bits, 255 is all of them, and the I/O APIC has one too. */
const MAX_CPUS = 254;
/** The least that a kernel is put into. */
const LEAST_MEMORY = 4 * HIGH_MEMORY;

/** Every GSI below 16 leads to its 8259 and to the I/O APIC's pin of the same number, the others to the I/O APIC alone. */
function routes(): Route[] {
  const pins = Array.from({ length: IO_APIC_PINS }, (_, gsi): Route[] => {
    const ioApic: Route = { kind: 'irqchip', gsi, chip: IO_APIC_CHIP, pin: gsi };
    if (gsi >= 2 * PIC_PINS) return [ioApic];
    return [{ kind: 'irqchip', gsi, chip: Math.floor(gsi / PIC_PINS), pin: gsi % PIC_PINS }, ioApic];
  });
  return pins.flat();
}

/** struct kvm_pit_config: port 0x61 goes with the timer, by whose second counter kernels measure their clocks. */
const PIT_SPEAKER_DUMMY = 1;
const PIT_CONFIG_WORDS = 16;

export const x86_64Machine: MachineArch = {
  maxCpus: MAX_CPUS,
  memoryRanges(bytes) {
    if (bytes < LEAST_MEMORY) throw new SlipwayError(`a guest needs at least ${LEAST_MEMORY / 2 ** 20} MiB of memory`);
    return memoryRanges(bytes);
  },
  pciMemory: PCI_MEMORY,
  ecam: undefined,
  routes: routes(),
  lineGsi,
  lineNumber: (gsi) => gsi,
  messageSender: () => undefined,
  consoleGsi: 4,

  prepareVm(vm) {
    const { addon, fd } = vm;
    addon.kvmCall(fd, 'KVM_SET_TSS_ADDR', TSS);
    addon.kvmTransfer(fd, 'KVM_SET_IDENTITY_MAP_ADDR', new Uint8Array(BigUint64Array.of(BigInt(IDENTITY_MAP)).buffer));
    addon.kvmCall(fd, 'KVM_CREATE_IRQCHIP', 0);
    const timer = new Uint32Array(PIT_CONFIG_WORDS);
    timer[0] = PIT_SPEAKER_DUMMY;
    addon.kvmTransfer(fd, 'KVM_CREATE_PIT2', new Uint8Array(timer.buffer));
  },

  board: (parts) => new X86Board(parts),
  loadGuest,

  prepareVcpu(vm, fd, id, cpus, entry) {
    setCpuid(vm, fd, id, cpus);
    setMemoryType(vm, fd);
    if (id === 0) startIn64Bit(vm, fd, entry);
  },
};

/** Ports of the serial console, of power management and of the keyboard controller's reset; all others are PCI's. */
class X86Board implements AccessHandler {
  private readonly pmEnable = new Uint8Array(2);
  private readonly configPorts: ConfigPorts;

  constructor(private readonly parts: BoardParts) {
    this.configPorts = new ConfigPorts(parts.pci);
  }

  read(space: AddressSpace, address: number, length: number): number {
    if (space === 'memory') return this.parts.pci.readMemory(address, length);
    if (!isOnBoard(address, length)) return this.configPorts.read(address, length);
    let value = 0;
    for (let n = 0; n < length; n++) value += this.readPort(address + n) * 2 ** (8 * n);
    return value;
  }

  write(space: AddressSpace, address: number, length: number, value: number): void | Promise<void> {
    if (space === 'memory') return this.parts.pci.writeMemory(address, length, value);
    if (address === RESET_PORT && length === 1) return this.resetWritten(value);
    if (!isOnBoard(address, length)) return this.configPorts.write(address, length, value);
    for (let n = 0; n < length; n++) this.writePort(address + n, (value >>> (8 * n)) & 0xff);
  }

  private readPort(port: number): number {
    if (isConsole(port)) return this.parts.console.read(port - CONSOLE_PORT);
    switch (port) {
      case PM_ENABLE:
      case PM_ENABLE + 1:
        return this.pmEnable[port - PM_ENABLE]!;
      case PM_CONTROL:
        return SCI_ENABLED;
      case PM_EVENT:
      case PM_EVENT + 1:
      case PM_CONTROL + 1:
      // The keyboard controller has nothing in its buffers: ready for a command.
      case KEYBOARD_COMMAND:
        return 0;
      default:
        return 0xff;
    }
  }

  private writePort(port: number, value: number): void {
    if (isConsole(port)) return this.parts.console.write(port - CONSOLE_PORT, value);
    switch (port) {
      case PM_ENABLE:
      case PM_ENABLE + 1:
        this.pmEnable[port - PM_ENABLE] = value;
        break;
      case PM_CONTROL + 1:
        this.sleepWritten(value << 8);
        break;
      case KEYBOARD_COMMAND:
        if (value === KEYBOARD_RESET) this.parts.ended({ kind: 'reset' });
        break;
      default:
        break;
    }
  }

  private resetWritten(value: number): void {
    if ((value & RESET_CPU) !== 0) this.parts.ended({ kind: 'reset' });
  }

  private sleepWritten(value: number): void {
    if ((value & SLEEP_ENABLE) !== 0 && ((value >> 10) & 7) === SLEEP_TYPE_OFF) this.parts.ended({ kind: 'powerOff' });
  }
}

function isConsole(port: number): boolean {
  return port >= CONSOLE_PORT && port < CONSOLE_PORT + UART_PORTS;
}

/** Whether an access touches ports of the board, which are a byte wide: a longer one is several, the first byte first. */
function isOnBoard(port: number, length: number): boolean {
  const overlaps = (first: number, count: number): boolean => port < first + count && port + length > first;
  return overlaps(CONSOLE_PORT, UART_PORTS) || overlaps(PM_EVENT, PM_PORTS) || overlaps(KEYBOARD_COMMAND, 1);
}
