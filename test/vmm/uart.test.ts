/** The serial port, by the sections of the PC16550D's data sheet. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Uart } from '../../src/vmm/uart.js';

/** Registers (§8.0): some differ by direction, some by the divisor latch. */
const DATA = 0;
const IER = 1;
const IIR = 2;
const FCR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;
const SCR = 7;

const RECEIVED = 1;
const TRANSMIT_EMPTY = 2;
const LINE_STATUS = 4;
const IIR_NONE = 1;
const IIR_TRANSMIT_EMPTY = 2;
const IIR_RECEIVED = 4;
const IIR_LINE_STATUS = 6;
const LSR_DATA = 1;
const LSR_OVERRUN = 2;
const LSR_EMPTY = 0x60;
const LOOP = 0x10;
const DIVISOR_LATCH = 0x80;
const FIFO_DEPTH = 16;

class Port {
  readonly sent: number[] = [];
  /** Edges of the interrupt. */
  edges = 0;
  onEdge = (): void => {};
  readonly uart = new Uart(
    (byte) => this.sent.push(byte),
    () => {
      this.edges++;
      this.onEdge();
    },
  );

  read(register: number): number {
    return this.uart.read(register);
  }

  write(register: number, value: number): void {
    this.uart.write(register, value);
  }

  type(text: string): void {
    this.uart.send(Buffer.from(text, 'latin1'));
  }

  /** All that the receiver has. */
  receive(): string {
    const bytes: number[] = [];
    while ((this.read(LSR) & LSR_DATA) !== 0) bytes.push(this.read(DATA));
    return Buffer.from(bytes).toString('latin1');
  }
}

const portWith = (registers: Record<number, number> = {}): Port => {
  const made = new Port();
  for (const [register, value] of Object.entries(registers)) made.write(Number(register), value);
  return made;
};

describe('registers', () => {
  it('§8.0, §8.10: IER has four bits, MCR five; LCR and the scratch register keep what is written, LSR and MSR do not', () => {
    const here = portWith();
    for (const register of [IER, LCR, MCR, SCR]) here.write(register, 0x7f);
    expect([IER, LCR, MCR, SCR].map((register) => here.read(register))).toEqual([0x0f, 0x7f, 0x1f, 0x7f]);
    const [line, modem] = [here.read(LSR), here.read(MSR)];
    here.write(LSR, ~line & 0xff);
    here.write(MSR, ~modem & 0xff);
    expect([here.read(LSR), here.read(MSR)]).toEqual([line, modem]);
  });

  it('§8.3: the divisor latch hides data and IER, and keeps both its bytes', () => {
    const here = portWith({ [IER]: RECEIVED });
    here.write(LCR, DIVISOR_LATCH | 3);
    here.write(0, 0x34);
    here.write(1, 0x12);
    expect([here.read(0), here.read(1)]).toEqual([0x34, 0x12]);
    expect(here.sent).toEqual([]);
    here.write(LCR, 3);
    expect(here.read(IER)).toBe(RECEIVED);
    here.write(LCR, DIVISOR_LATCH);
    expect([here.read(0), here.read(1)]).toEqual([0x34, 0x12]);
  });

  it('§8.9: the other end is there and ready', () => {
    expect(portWith().read(MSR)).toBe(0xb0);
  });

  it('any access of any register is answered by a byte', () => {
    const step = fc.record({ register: fc.integer({ min: 0, max: 7 }), value: fc.integer({ min: 0, max: 255 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const here = portWith();
        for (const { register, value } of steps) {
          here.write(register, value);
          const read = here.read(register);
          expect(Number.isInteger(read) && read >= 0 && read <= 255).toBe(true);
        }
      }),
    );
  });
});

describe('transmission', () => {
  it('§8.4: what is written is out at once: the transmitter is always empty', () => {
    const here = portWith();
    for (const byte of [1, 2, 255]) {
      expect(here.read(LSR)).toBe(LSR_EMPTY);
      here.write(DATA, byte);
    }
    expect(here.sent).toEqual([1, 2, 255]);
    expect(here.edges).toBe(0);
  });

  it('§8.6: its interrupt comes when it is enabled and for each byte; reading IIR takes it back', () => {
    const here = portWith({ [IER]: TRANSMIT_EMPTY });
    expect(here.edges).toBe(1);
    expect(here.read(IIR)).toBe(IIR_TRANSMIT_EMPTY);
    expect(here.read(IIR)).toBe(IIR_NONE);
    here.write(DATA, 1);
    expect(here.edges).toBe(2);
    here.write(DATA, 2);
    expect(here.edges).toBe(3);
    expect([here.read(IIR), here.read(IIR)]).toEqual([IIR_TRANSMIT_EMPTY, IIR_NONE]);
    here.write(IER, 0);
    here.write(DATA, 3);
    expect(here.edges).toBe(3);
  });
});

describe('reception', () => {
  it('§8.4: bytes wait in order, and LSR says so', () => {
    const here = portWith();
    expect(here.read(LSR) & LSR_DATA).toBe(0);
    expect(here.read(DATA)).toBe(0);
    here.type('ab');
    here.type('');
    here.type('c');
    expect(here.uart.backlog).toBe(3);
    expect(here.receive()).toBe('abc');
    expect(here.uart.backlog).toBe(0);
  });

  it('§8.6: its interrupt lasts until all is read, and goes before that of the transmitter', () => {
    const here = portWith({ [IER]: RECEIVED | TRANSMIT_EMPTY });
    here.type('ab');
    expect(here.read(IIR)).toBe(IIR_RECEIVED);
    here.read(DATA);
    expect(here.read(IIR)).toBe(IIR_RECEIVED);
    here.read(DATA);
    expect(here.read(IIR)).toBe(IIR_TRANSMIT_EMPTY);
    expect(here.read(IIR)).toBe(IIR_NONE);
  });

  it('is an edge for the first byte, and another only when all was read', () => {
    const here = portWith({ [IER]: RECEIVED });
    here.type('a');
    here.type('b');
    expect(here.edges).toBe(1);
    here.receive();
    here.type('c');
    expect(here.edges).toBe(2);
  });

  it('§8.7: is told when its interrupt is enabled late', () => {
    const here = portWith();
    here.type('a');
    expect(here.edges).toBe(0);
    expect(here.read(IIR)).toBe(IIR_NONE);
    here.write(IER, RECEIVED);
    expect(here.edges).toBe(1);
  });
});

describe('FIFOs', () => {
  it('§8.6: IIR says whether they are on', () => {
    const here = portWith({ [FCR]: 1 });
    expect(here.read(IIR)).toBe(0xc0 | IIR_NONE);
    here.write(FCR, 0);
    expect(here.read(IIR)).toBe(IIR_NONE);
  });

  it('§8.5: clearing drops what came before the guest listened; afterwards it has not come in yet', () => {
    const here = portWith();
    here.type('early');
    here.write(FCR, 3);
    expect(here.receive()).toBe('');
    here.write(IER, RECEIVED);
    here.type('late');
    here.write(FCR, 3);
    expect(here.receive()).toBe('late');
  });
});

describe('loopback (§8.8)', () => {
  it('leads what is sent back, and out of nowhere else', () => {
    const here = portWith({ [MCR]: LOOP, [FCR]: 1 });
    for (const byte of Buffer.from('loop')) here.write(DATA, byte);
    expect(here.receive()).toBe('loop');
    expect(here.sent).toEqual([]);
  });

  it('leads the modem lines back: RTS to CTS, DTR to DSR, OUT1 to RI, OUT2 to DCD', () => {
    const lines = [1, 2, 4, 8].map((line) => portWith({ [MCR]: LOOP | line }).read(MSR));
    expect(lines).toEqual([0x20, 0x10, 0x40, 0x80]);
  });

  it.each([
    ['with FIFOs, 16 bytes', 1, FIFO_DEPTH],
    ['without, one', 0, 1],
  ])('§8.4: holds no more than the receiver: %s; then it is an overrun, until LSR is read', (_, fifo, depth) => {
    const here = portWith({ [MCR]: LOOP, [FCR]: fifo, [IER]: LINE_STATUS });
    for (let n = 0; n < depth; n++) here.write(DATA, n);
    expect(here.edges).toBe(0);
    for (let n = 0; n < 1000; n++) here.write(DATA, 99);
    expect(here.edges).toBe(1);
    expect(here.uart.backlog).toBe(depth);
    expect(here.read(IIR) & 0x0f).toBe(IIR_LINE_STATUS);
    expect(here.read(LSR) & LSR_OVERRUN).toBe(LSR_OVERRUN);
    expect(here.read(LSR) & LSR_OVERRUN).toBe(0);
    expect(here.read(IIR) & 0x0f).toBe(IIR_NONE);
    expect([...Buffer.from(here.receive(), 'latin1')]).toEqual(Array.from({ length: depth }, (__, n) => n));
  });
});

/** A driver as operating systems have them: woken by edges alone, and busy until IIR says that there is nothing. */
class Driver {
  received = '';
  private readonly output: number[] = [];
  private isAwake = false;

  constructor(
    private readonly port: Port,
    /** Whatever happens between two of its accesses. */
    private readonly meanwhile: () => void,
  ) {
    port.onEdge = () => (this.isAwake = true);
    port.write(FCR, 1);
    port.write(IER, RECEIVED);
  }

  send(text: string): void {
    this.output.push(...Buffer.from(text, 'latin1'));
    this.port.write(IER, RECEIVED | TRANSMIT_EMPTY);
  }

  serve(): void {
    while (this.isAwake) {
      this.isAwake = false;
      for (let cause = this.identify(); (cause & IIR_NONE) === 0; cause = this.identify()) {
        if (cause === IIR_RECEIVED) this.receive();
        else this.transmit();
      }
    }
  }

  private identify(): number {
    this.meanwhile();
    return this.port.read(IIR) & 0x0f;
  }

  private receive(): void {
    this.meanwhile();
    this.received += String.fromCharCode(this.port.read(DATA));
  }

  private transmit(): void {
    this.meanwhile();
    const byte = this.output.shift();
    if (byte === undefined) this.port.write(IER, RECEIVED);
    else this.port.write(DATA, byte);
  }
}

describe('a driver that only edges wake', () => {
  it('gets and sends everything in order, whenever bytes come', () => {
    const text = fc.string({
      unit: fc.integer({ min: 0, max: 255 }).map((byte) => String.fromCharCode(byte)),
      maxLength: 20,
    });
    const action = fc.record({ typed: text, sent: text, meanwhile: fc.array(text, { maxLength: 8 }) });
    fc.assert(
      fc.property(fc.array(action, { maxLength: 10 }), (actions) => {
        const here = portWith();
        let [typed, sent] = ['', ''];
        const type = (more: string): void => {
          here.type(more);
          typed += more;
        };
        const interruptions: string[] = [];
        const driver = new Driver(here, () => type(interruptions.shift() ?? ''));
        for (const { typed: more, sent: output, meanwhile } of actions) {
          interruptions.push(...meanwhile);
          type(more);
          driver.send(output);
          sent += output;
          driver.serve();
        }
        expect(driver.received).toBe(typed);
        expect(Buffer.from(here.sent).toString('latin1')).toBe(sent);
      }),
    );
  });
});
