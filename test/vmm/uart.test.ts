/** The serial port, by PC16550D (National Semiconductor). */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Uart } from '../../src/vmm/uart.js';

const DATA = 0;
const IER = 1;
const IIR = 2;
const FCR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;
const SCRATCH = 7;
const RECEIVED = 1;
const EMPTY = 2;
const LINE_STATUS = 4;
const LOOP = 0x10;

function port() {
  const sent: number[] = [];
  const state = { edges: 0 };
  const uart = new Uart(
    (byte) => sent.push(byte),
    () => state.edges++,
  );
  return { uart, sent, state };
}

const bytes = (text: string): Uint8Array => Buffer.from(text);

/** What a driver without interrupts reads. */
function drain(uart: Uart): number[] {
  const read: number[] = [];
  while ((uart.read(LSR) & 1) !== 0) read.push(uart.read(DATA));
  return read;
}

describe('serial port', () => {
  it('§8.4: sends at once, and says that it is empty', () => {
    const { uart, sent } = port();
    for (const byte of bytes('out')) {
      expect(uart.read(LSR) & 0x60).toBe(0x60);
      uart.write(DATA, byte);
    }
    expect(sent).toEqual([...bytes('out')]);
  });

  it('receives every byte in order, however it comes, and has nothing afterwards', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), (chunks) => {
        const { uart } = port();
        for (const chunk of chunks) uart.send(chunk);
        expect(drain(uart)).toEqual(Array.from(Buffer.concat(chunks)));
        expect(uart.read(DATA)).toBe(0);
      }),
    );
  });

  it('§8.5: FIFO bits of IIR follow FCR; clearing loses what came before the port was opened, not what came later', () => {
    const { uart } = port();
    expect(uart.read(IIR)).toBe(1);
    uart.send(bytes('early'));
    uart.write(FCR, 0x07);
    expect(uart.read(IIR)).toBe(0xc1);
    expect(drain(uart)).toEqual([]);
    uart.write(IER, RECEIVED);
    uart.send(bytes('late'));
    uart.write(FCR, 0x07);
    expect(drain(uart)).toEqual([...bytes('late')]);
    uart.write(FCR, 0);
    expect(uart.read(IIR)).toBe(1);
  });

  it('§8.6: the transmitter raises when it is enabled and when it becomes empty; reading IIR takes it back', () => {
    const { uart, state } = port();
    uart.write(IER, EMPTY);
    expect(state.edges).toBe(1);
    expect(uart.read(IIR)).toBe(2);
    expect(uart.read(IIR)).toBe(1);
    uart.write(DATA, 1);
    expect(state.edges).toBe(2);
    uart.write(DATA, 2);
    expect(state.edges).toBe(3);
    expect(uart.read(IIR)).toBe(2);
    uart.write(IER, 0);
    uart.write(DATA, 3);
    expect(uart.read(IIR)).toBe(1);
    expect(state.edges).toBe(3);
  });

  it('table II: received data comes before the empty transmitter, and stays until it is read', () => {
    const { uart, state } = port();
    uart.write(IER, RECEIVED | EMPTY);
    uart.send(bytes('ab'));
    expect(uart.read(IIR)).toBe(4);
    expect(uart.read(IIR)).toBe(4);
    drain(uart);
    expect(uart.read(IIR)).toBe(2);
    expect(uart.read(IIR)).toBe(1);
    const before = state.edges;
    uart.send(bytes('c'));
    expect(state.edges).toBe(before + 1);
  });

  it('§8.1: the divisor lies behind DLAB, and hides data and interrupt enable', () => {
    const { uart, sent } = port();
    uart.write(IER, RECEIVED);
    uart.write(LCR, 0x83);
    uart.write(DATA, 0x34);
    uart.write(IER, 0x12);
    expect([uart.read(DATA), uart.read(IER), uart.read(LCR)]).toEqual([0x34, 0x12, 0x83]);
    uart.write(LCR, 0x03);
    expect(uart.read(IER)).toBe(RECEIVED);
    expect(sent).toEqual([]);
  });

  it('keeps scratch and modem control, and lets status registers be', () => {
    const { uart } = port();
    uart.write(SCRATCH, 0xa5);
    uart.write(MCR, 0xff);
    uart.write(LSR, 0);
    uart.write(MCR, 0xeb & 0x0f);
    expect([uart.read(SCRATCH), uart.read(MCR)]).toEqual([0xa5, 0x0b]);
    expect(uart.read(MSR)).toBe(0xb0);
    uart.write(MSR, 0);
    expect(uart.read(MSR)).toBe(0xb0);
    uart.write(IER, 0xff);
    expect(uart.read(IER)).toBe(0x0f);
  });

  it('§8.8: loopback leads outputs to inputs, RTS to CTS, DTR to DSR, OUT1 to RI, OUT2 to DCD', () => {
    const { uart, sent } = port();
    const seen = [1, 2, 4, 8].map((bit) => {
      uart.write(MCR, LOOP | bit);
      return uart.read(MSR) & 0xf0;
    });
    expect(seen).toEqual([0x20, 0x10, 0x40, 0x80]);
    uart.write(FCR, 1);
    uart.send(bytes('outside'));
    uart.write(DATA, 7);
    expect(drain(uart)).toEqual([7]);
    expect(sent).toEqual([]);
    // The line is connected again: what waits there comes in.
    uart.write(MCR, 0);
    expect(drain(uart)).toEqual([...bytes('outside')]);
  });

  it('§8.4: what a loop sends beyond the FIFO is lost, and said once, with an interrupt if that is wanted', () => {
    const { uart, state } = port();
    uart.write(FCR, 1);
    uart.write(MCR, LOOP);
    for (let n = 0; n < 100_000; n++) uart.write(DATA, n & 0xff);
    uart.write(IER, LINE_STATUS);
    expect(state.edges).toBe(1);
    expect(uart.read(IIR)).toBe(0xc6);
    expect(uart.read(LSR) & 2).toBe(2);
    expect(uart.read(LSR) & 2).toBe(0);
    expect(uart.read(IIR)).toBe(0xc1);
    expect(drain(uart)).toEqual(Array.from({ length: 16 }, (_, n) => n));
    // Without a FIFO, the next byte takes the place of the last.
    uart.write(FCR, 0);
    uart.write(DATA, 1);
    uart.write(DATA, 2);
    expect(uart.read(LSR) & 3).toBe(3);
    expect(drain(uart)).toEqual([2]);
  });

  /** What happens to a port, in any order: bytes from outside, bytes of the guest, its interrupt handler. */
  const step = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 20 }).map((input) => ({ kind: 'input' as const, input })),
    fc.nat(20).map((count) => ({ kind: 'write' as const, count })),
    fc.constant({ kind: 'handler' as const }),
    fc.constantFrom(RECEIVED, RECEIVED | EMPTY).map((enable) => ({ kind: 'enable' as const, enable })),
  );

  it('a driver that looks only when it is interrupted misses no byte in either direction', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const { uart, sent, state } = port();
        const received: number[] = [];
        const expected: number[] = [];
        let toSend = 0;
        let written = 0;
        let handled = 0;
        // One edge however often it rose: what an interrupt controller latches.
        const handler = (): void => {
          if (state.edges === handled) return;
          handled = state.edges;
          for (let cause = uart.read(IIR) & 0xf; cause !== 1; cause = uart.read(IIR) & 0xf) {
            if (cause === 4) received.push(...drain(uart));
            else if (toSend > 0) {
              toSend--;
              uart.write(DATA, written++ & 0xff);
            }
          }
        };
        uart.write(FCR, 7);
        uart.write(IER, RECEIVED);
        for (const action of steps) {
          if (action.kind === 'input') {
            uart.send(action.input);
            expected.push(...action.input);
          } else if (action.kind === 'write') {
            // As a driver starts to send: the empty transmitter is to interrupt.
            toSend += action.count;
            uart.write(IER, RECEIVED);
            uart.write(IER, RECEIVED | EMPTY);
          } else if (action.kind === 'enable') {
            uart.write(IER, toSend > 0 ? RECEIVED | EMPTY : action.enable);
          } else handler();
        }
        while (state.edges !== handled) handler();
        expect(received).toEqual(expected);
        expect(toSend).toBe(0);
        expect(sent).toEqual(Array.from({ length: written }, (_, n) => n & 0xff));
      }),
    );
  });
});
