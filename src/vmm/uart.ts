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
/** What the receiver holds (§8.5). */
const FIFO_DEPTH = 16;
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

export class Uart implements UartPort {
  private readonly input: Uint8Array[] = [];
  private inputAt = 0;
  private waiting = 0;
  private interruptEnable = 0;
  private fifo = false;
  private lineControl = 0;
  private modemControl = 0;
  private scratch = 0;
  private divisor = 12;
  /** The transmitter has become empty since the guest was last told. */
  private transmitPending = false;
  /** The receiver had no room since the guest last read the line status. */
  private overrun = false;
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

  /** Bytes that the guest hasn't read. */
  get backlog(): number {
    return this.waiting;
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
        this.fifo = (value & FCR_ENABLE) !== 0;
        if ((value & FCR_CLEAR_RECEIVE) !== 0 && !this.keepsInput) this.clearInput();
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
    const chunk = this.input[0];
    if (chunk === undefined) return 0;
    const byte = chunk[this.inputAt++]!;
    this.waiting--;
    if (this.inputAt === chunk.length) {
      this.input.shift();
      this.inputAt = 0;
    }
    this.update();
    return byte;
  }

  private send1(byte: number): void {
    if ((this.modemControl & MCR_LOOP) !== 0) this.loop(byte);
    else this.transmit(byte);
    // It is out at once: empty again.
    this.asserted = this.asserted && !this.transmitWanted;
    this.transmitPending = true;
  }

  /** What the guest sends to itself has no more room than the receiver: a guest must not fill our memory. */
  private loop(byte: number): void {
    if (this.waiting >= (this.fifo ? FIFO_DEPTH : 1)) {
      this.overrun = true;
      return;
    }
    this.input.push(Uint8Array.of(byte));
    this.waiting++;
  }

  /** Reading it forgets an overrun (§8.4). */
  private lineStatus(): number {
    const status = LSR_TRANSMIT_EMPTY | (this.overrun ? LSR_OVERRUN : 0) | (this.waiting > 0 ? LSR_DATA : 0);
    this.overrun = false;
    this.update();
    return status;
  }

  private enableInterrupts(bits: number): void {
    // Enabling it while the transmitter is empty raises it (PC16550D §8.6; drivers test for that).
    if ((bits & ~this.interruptEnable & IER_TRANSMIT_EMPTY) !== 0) this.transmitPending = true;
    this.interruptEnable = bits;
  }

  private identifyInterrupt(): number {
    const fifo = this.fifo ? IIR_FIFO : 0;
    if (this.overrunPending) return fifo | IIR_LINE_STATUS;
    if (this.receivedPending) return fifo | IIR_RECEIVED;
    if (!this.transmitWanted) return fifo | IIR_NONE;
    // Reading it takes this interrupt back.
    this.transmitPending = false;
    this.update();
    return fifo | IIR_TRANSMIT_EMPTY;
  }

  private modemStatus(): number {
    if ((this.modemControl & MCR_LOOP) === 0) return MSR_READY;
    const { modemControl } = this;
    // Loopback: RTS to CTS, DTR to DSR, OUT1 to RI, OUT2 to DCD.
    return ((modemControl & 0x0c) << 4) | ((modemControl & 2) << 3) | ((modemControl & 1) << 5);
  }

  private get overrunPending(): boolean {
    return this.overrun && (this.interruptEnable & IER_LINE_STATUS) !== 0;
  }

  private get receivedPending(): boolean {
    return this.waiting > 0 && (this.interruptEnable & IER_RECEIVED) !== 0;
  }

  private get transmitWanted(): boolean {
    return this.transmitPending && (this.interruptEnable & IER_TRANSMIT_EMPTY) !== 0;
  }

  /** The interrupt is an edge, as on the ISA bus: raised when there is a reason for it and there was none. */
  private update(): void {
    const wanted = this.overrunPending || this.receivedPending || this.transmitWanted;
    if (wanted && !this.asserted) this.raise();
    this.asserted = wanted;
  }
}
