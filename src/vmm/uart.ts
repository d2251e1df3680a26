/** A 16550A serial port (National Semiconductor PC16550D): registers, FIFOs, one edge per interrupt. */

/** What the guest sees of a port: eight registers of a byte. */
export interface UartPort {
  read(register: number): number;
  write(register: number, value: number): void;
}

const IER_RECEIVED = 1;
const IER_TRANSMIT_EMPTY = 2;
const IER_LINE_STATUS = 4;
const IER_BITS = 0x0f;
const IIR_NONE = 1;
const IIR_TRANSMIT_EMPTY = 2;
const IIR_RECEIVED = 4;
const IIR_LINE_STATUS = 6;
const IIR_FIFO = 0xc0;
const FCR_ENABLE = 1;
const FCR_CLEAR_RECEIVE = 2;
const LCR_DIVISOR = 0x80;
const MCR_BITS = 0x1f;
const MCR_LOOP = 0x10;
const LSR_DATA = 1;
const LSR_OVERRUN = 2;
const LSR_TRANSMIT_EMPTY = 0x60;
/** Carrier, data set ready, clear to send. */
const MSR_READY = 0xb0;
const FIFO_BYTES = 16;

export class Uart implements UartPort {
  private readonly input: Uint8Array[] = [];
  private inputAt = 0;
  private waiting = 0;
  /** What the guest sent in loopback, which it reads before `input`. */
  private readonly looped: number[] = [];
  private overrun = false;
  private interruptEnable = 0;
  private fifo = false;
  private lineControl = 0;
  private modemControl = 0;
  private scratch = 0;
  private divisor = 12;
  /** The transmitter has become empty since the guest was last told. */
  private transmitPending = false;
  private asserted = false;

  /**
   * @param transmit gets each byte that the guest writes
   * @param raise raises the interrupt, an edge
   */
  constructor(
    private readonly transmit: (byte: number) => void,
    private readonly raise: () => void,
  ) {}

  /** Bytes for the guest, which reads them at its own pace. */
  send(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.input.push(bytes);
    this.waiting += bytes.length;
    this.update();
  }

  read(register: number): number {
    switch (register) {
      case 0:
        return this.divisorLatch ? this.divisor & 0xff : this.receive();
      case 1:
        return this.divisorLatch ? this.divisor >> 8 : this.interruptEnable;
      case 2:
        return this.identifyInterrupt();
      case 3:
        return this.lineControl;
      case 4:
        return this.modemControl;
      case 5:
        return this.lineStatus();
      case 6:
        return this.modemStatus();
      default:
        return this.scratch;
    }
  }

  write(register: number, value: number): void {
    switch (register) {
      case 0:
        if (this.divisorLatch) this.divisor = (this.divisor & 0xff00) | value;
        else this.send1(value);
        break;
      case 1:
        if (this.divisorLatch) this.divisor = (this.divisor & 0xff) | (value << 8);
        else this.enableInterrupts(value & IER_BITS);
        break;
      case 2:
        this.controlFifo(value);
        break;
      case 3:
        this.lineControl = value;
        break;
      case 4:
        this.modemControl = value & MCR_BITS;
        break;
      case 7:
        this.scratch = value;
        break;
      default:
        // Line and modem status are read-only.
        break;
    }
    this.update();
  }

  private get divisorLatch(): boolean {
    return (this.lineControl & LCR_DIVISOR) !== 0;
  }

  private get loops(): boolean {
    return (this.modemControl & MCR_LOOP) !== 0;
  }

  /** In loopback the line is disconnected: what is on it waits. */
  private get hasData(): boolean {
    return this.looped.length > 0 || (this.waiting > 0 && !this.loops);
  }

  private lineStatus(): number {
    const status = LSR_TRANSMIT_EMPTY | (this.hasData ? LSR_DATA : 0) | (this.overrun ? LSR_OVERRUN : 0);
    // Reading it takes the error back.
    this.overrun = false;
    this.update();
    return status;
  }

  /** To change between FIFO and single bytes clears them too (PC16550D §8.5). */
  private controlFifo(value: number): void {
    const fifo = (value & FCR_ENABLE) !== 0;
    if (fifo !== this.fifo || (value & FCR_CLEAR_RECEIVE) !== 0) {
      this.looped.length = 0;
      if (!this.keepsInput) this.clearInput();
    }
    this.fifo = fifo;
  }

  /** Input that came before the guest opened the port is lost, as on a wire. Afterwards it is ours, not yet in the FIFO. */
  private get keepsInput(): boolean {
    return (this.interruptEnable & IER_RECEIVED) !== 0;
  }

  private clearInput(): void {
    this.input.length = 0;
    this.inputAt = 0;
    this.waiting = 0;
  }

  private receive(): number {
    const byte = this.looped.shift() ?? (this.loops ? undefined : this.nextInput());
    if (byte === undefined) return 0;
    this.update();
    return byte;
  }

  private nextInput(): number | undefined {
    const chunk = this.input[0];
    if (chunk === undefined) return undefined;
    const byte = chunk[this.inputAt++]!;
    this.waiting--;
    if (this.inputAt === chunk.length) {
      this.input.shift();
      this.inputAt = 0;
    }
    return byte;
  }

  private send1(byte: number): void {
    if (this.loops) this.loop(byte);
    else this.transmit(byte);
    // It is out at once: empty again.
    this.asserted = this.asserted && !this.transmitPending;
    this.transmitPending = true;
  }

  /** The byte too many is lost; without a FIFO, the one before it (PC16550D §8.4, OE). */
  private loop(byte: number): void {
    this.overrun ||= this.looped.length >= (this.fifo ? FIFO_BYTES : 1);
    if (!this.fifo) this.looped.length = 0;
    if (this.looped.length < FIFO_BYTES) this.looped.push(byte);
  }

  private enableInterrupts(bits: number): void {
    // Enabling it while the transmitter is empty raises it (PC16550D §8.6; drivers test for that).
    if ((bits & ~this.interruptEnable & IER_TRANSMIT_EMPTY) !== 0) this.transmitPending = true;
    this.interruptEnable = bits;
  }

  private identifyInterrupt(): number {
    const fifo = this.fifo ? IIR_FIFO : 0;
    if (this.lineStatusPending) return fifo | IIR_LINE_STATUS;
    if (this.receivedPending) return fifo | IIR_RECEIVED;
    if (!this.transmitWanted) return fifo | IIR_NONE;
    // Reading it takes this interrupt back.
    this.transmitPending = false;
    this.update();
    return fifo | IIR_TRANSMIT_EMPTY;
  }

  private modemStatus(): number {
    if (!this.loops) return MSR_READY;
    const { modemControl } = this;
    // Loopback: RTS to CTS, DTR to DSR, OUT1 to RI, OUT2 to DCD.
    return ((modemControl & 0x0c) << 4) | ((modemControl & 2) << 3) | ((modemControl & 1) << 5);
  }

  private get receivedPending(): boolean {
    return this.hasData && (this.interruptEnable & IER_RECEIVED) !== 0;
  }

  private get lineStatusPending(): boolean {
    return this.overrun && (this.interruptEnable & IER_LINE_STATUS) !== 0;
  }

  private get transmitWanted(): boolean {
    return this.transmitPending && (this.interruptEnable & IER_TRANSMIT_EMPTY) !== 0;
  }

  /** The interrupt is an edge, as on the ISA bus: raised when there is a reason for it and there was none. */
  private update(): void {
    const wanted = this.lineStatusPending || this.receivedPending || this.transmitWanted;
    if (wanted && !this.asserted) this.raise();
    this.asserted = wanted;
  }
}
