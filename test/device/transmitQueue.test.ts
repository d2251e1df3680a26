import * as fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { TransmitFrame, TransmitRules } from '../../device/transmitQueue.js';
import { MockDriver, type MockOptions } from './mockDriver.js';

const HEADERS = 14 + 60 + 60;
const opened: MockDriver[] = [];

class Sender extends MockDriver {
  readonly rules = new TransmitRules();
  readonly frame = new TransmitFrame(this.guest, this.iovecs, this.rules);

  /** Transmits `bytes` in buffers that end at `cuts`, each `apart` bytes from the one before, and reads them as the device. */
  send(bytes: Uint8Array, cuts: readonly number[], headerSize = 12, apart = 3, indirect = true): boolean {
    const ends = [...cuts, bytes.length];
    this.driver.beginChain(indirect);
    let at = this.data;
    let begin = 0;
    for (const end of ends) {
      this.memory.u8.set(bytes.subarray(begin, end), at);
      this.driver.addBuffer(at, end - begin, false);
      at += end - begin + apart;
      begin = end;
    }
    this.driver.endChain();
    this.driver.publish();
    return this.read(headerSize);
  }

  read(headerSize = 12): boolean {
    const head = this.takeHead();
    const good = this.queue.walk(head, 0) && this.frame.read(this.queue, headerSize);
    this.queue.pushUsed(head, 0);
    this.queue.publish();
    this.driver.takeUsed();
    return good;
  }

  linearBytes(): Uint8Array {
    const { bytes, offset, linear } = this.frame;
    return bytes.slice(offset, offset + linear);
  }

  payloadBytes(from: number, length: number): Uint8Array {
    this.frame.payload(from, length);
    return this.bytesOf(this.frame.payloadFirst, this.frame.payloadCount);
  }
}

function open(options?: MockOptions): Sender {
  const sender = new Sender({ indirectEntries: 64, dataBytes: 16_384, ...options });
  opened.push(sender);
  return sender;
}

afterEach(() => {
  for (const sender of opened.splice(0)) sender[Symbol.dispose]();
});

/** A virtio-net header of `headerSize` bytes, then `length` bytes that differ. */
function packet(length: number, headerSize = 12, header: Partial<Record<number, number>> = {}): Uint8Array {
  const bytes = Uint8Array.from({ length: headerSize + length }, (_, n) => (n * 7 + (n >> 8)) & 0xff);
  bytes.fill(0, 0, headerSize);
  for (const [at, byte] of Object.entries(header)) bytes[Number(at)] = byte!;
  return bytes;
}

describe('§2.7.4.1 framing: nothing is assumed about how a frame is cut', () => {
  it.each([10, 12])('two buffers, cut at every byte of a header of %i bytes and the frame behind it', (headerSize) => {
    const sender = open();
    const bytes = packet(200, headerSize, { 0: 1, 1: 1, 4: 0xb4, 5: 5, 6: 34, 8: 16 });
    for (let cut = 0; cut <= bytes.length; cut++) {
      expect(sender.send(bytes, [cut], headerSize)).toBe(true);
      const { length, needsCsum, gsoType, gsoSize, csumStart, csumOffset, linear } = sender.frame;
      expect([cut, length, needsCsum, gsoType, gsoSize]).toEqual([cut, 200, true, 1, 0x5b4]);
      expect([csumStart, csumOffset]).toEqual([34, 16]);
      expect(linear).toBeGreaterThanOrEqual(HEADERS);
      expect(sender.linearBytes()).toEqual(bytes.subarray(headerSize, headerSize + linear));
      expect(sender.payloadBytes(54, 100)).toEqual(bytes.subarray(headerSize + 54, headerSize + 154));
    }
  });

  it('one byte in each buffer', () => {
    const sender = open();
    const bytes = packet(40);
    const cuts = Array.from({ length: bytes.length - 1 }, (_, n) => n + 1);
    expect(sender.send(bytes, cuts)).toBe(true);
    expect(sender.linearBytes()).toEqual(bytes.subarray(12));
    expect(sender.payloadBytes(13, 27)).toEqual(bytes.subarray(25));
  });

  it('any cuts, with buffers of nothing among them, across windows; payload and rewind any number of times', () => {
    const sender = open({ regionSize: 56 * 1024, size: 64, indirectEntries: 52 });
    const range = fc.tuple(fc.nat(), fc.nat());
    fc.assert(
      fc.property(
        fc.integer({ min: 14, max: 9000 }),
        fc.array(fc.nat(), { maxLength: 50 }),
        fc.constantFrom(10, 12),
        fc.boolean(),
        fc.array(range, { minLength: 1, maxLength: 5 }),
        (length, raw, headerSize, indirect, ranges) => {
          const bytes = packet(length, headerSize);
          const early = raw.map((n) => n % (n % 2 === 0 ? 160 : bytes.length));
          const cuts = early.map((n) => Math.min(n, bytes.length)).toSorted((a, b) => a - b);
          expect(sender.send(bytes, cuts, headerSize, 5, indirect)).toBe(true);
          const { frame } = sender;
          expect(frame.length).toBe(length);
          expect(frame.linear).toBeGreaterThanOrEqual(Math.min(HEADERS, length));
          expect(sender.linearBytes()).toEqual(bytes.subarray(headerSize, headerSize + frame.linear));
          for (const [a, b] of ranges) {
            const from = a % (length + 1);
            const count = b % (length - from + 1);
            expect(sender.payloadBytes(from, count)).toEqual(bytes.subarray(headerSize + from).subarray(0, count));
            frame.rewind();
          }
          expect(sender.payloadBytes(0, length)).toEqual(bytes.subarray(headerSize));
        },
      ),
      { numRuns: 150 },
    );
  });
});

describe('linearize', () => {
  it('reads in place where the first buffer behind the header holds enough', () => {
    const sender = open();
    sender.send(packet(500), [12]);
    expect([sender.frame.linear, sender.frame.length]).toEqual([500, 500]);
    sender.memory.u8[sender.data + 12 + 3] = 0xa5;
    expect(sender.frame.bytes[sender.frame.offset]).toBe(sender.memory.u8[sender.data + 12 + 3]);
  });

  it('copies more on request, at most 2048 bytes', () => {
    const sender = open();
    const bytes = packet(5000);
    sender.send(bytes, [12, 100, 3000]);
    sender.frame.linearize(1000);
    expect(sender.linearBytes()).toEqual(bytes.subarray(12, 1012));
    sender.frame.linearize(5000);
    expect(sender.linearBytes()).toEqual(bytes.subarray(12, 12 + 2048));
  });

  it('never goes beyond the frame', () => {
    const sender = open();
    sender.send(packet(20), [15]);
    sender.frame.linearize(2048);
    expect(sender.frame.linear).toBe(20);
  });
});

describe('§5.1.6.2 packet transmission', () => {
  it.each([
    [13, false],
    [14, true],
    [65_549, true],
    [65_550, false],
  ])('a frame of %i bytes: taken %s', (length, taken) => {
    const sender = open({ dataBytes: 70_000 });
    expect(sender.send(packet(length), [])).toBe(taken);
  });

  it.each([0, 1, 11, 12])('a chain of %i bytes is no frame', (length) => {
    const sender = open();
    expect(sender.send(packet(14).subarray(0, length), [])).toBe(false);
  });

  it('a chain with device-writable parts is no frame', () => {
    const sender = open();
    sender.driver.beginChain(false);
    sender.driver.addBuffer(sender.data, 100, false);
    sender.driver.addBuffer(sender.data + 100, 1, true);
    sender.driver.endChain();
    sender.driver.publish();
    expect(sender.read()).toBe(false);
  });

  it('§5.1.6.2.2 ignores flags other than NEEDS_CSUM, hdr_len and num_buffers', () => {
    const sender = open();
    expect(sender.send(packet(100, 12, { 0: 0xfe, 2: 0xff, 3: 0xff, 10: 0xff, 11: 0xff }), [])).toBe(true);
    expect(sender.frame.needsCsum).toBe(false);
    expect(sender.frame.length).toBe(100);
    sender.send(packet(100, 12, { 0: 0xff }), []);
    expect(sender.frame.needsCsum).toBe(true);
  });

  it('§5.1.6.2 takes the ECN bit off the GSO type', () => {
    const sender = open();
    sender.send(packet(100, 12, { 1: 0x81 }), []);
    expect(sender.frame.gsoType).toBe(1);
  });

  it.each([
    ['nothing', false, false, [0]],
    ['HOST_TSO4', true, false, [0, 1]],
    ['HOST_TSO6', false, true, [0, 4]],
    ['both', true, true, [0, 1, 4]],
  ])('§5.1.6.2.1 a GSO type that was not negotiated is no frame: %s', (_, tso4, tso6, taken) => {
    const sender = open();
    sender.rules.negotiated(true, tso4, tso6, undefined);
    const types = [0, 1, 2, 3, 4, 5, 31, 32, 33, 36, 0x7f];
    expect(types.filter((type) => sender.send(packet(100, 12, { 0: 1, 1: type }), []))).toEqual(taken);
  });

  it('§5.1.6.2.2 without CSUM the flag NEEDS_CSUM means nothing', () => {
    const sender = open();
    sender.rules.negotiated(false, false, false, undefined);
    expect([sender.send(packet(100, 12, { 0: 1 }), []), sender.frame.needsCsum]).toEqual([true, false]);
  });

  it('N2 §5.1.4.2 a driver that was told the MTU sends no longer packet, unless it is to be segmented', () => {
    const sender = open();
    sender.rules.negotiated(true, true, false, 1280);
    expect([1280 + 14, 1280 + 18, 1280 + 19].map((length) => sender.send(packet(length), []))).toEqual([
      true,
      true,
      false,
    ]);
    expect(sender.send(packet(4000, 12, { 0: 1, 1: 1 }), [])).toBe(true);
    sender.rules.negotiated(true, true, false, undefined);
    expect(sender.send(packet(4000), [])).toBe(true);
  });

  it('reads fields of 16 bits as little-endian', () => {
    const sender = open();
    sender.send(packet(100, 12, { 4: 1, 5: 2, 6: 3, 7: 4, 8: 5, 9: 6 }), []);
    const { gsoSize, csumStart, csumOffset } = sender.frame;
    expect([gsoSize, csumStart, csumOffset]).toEqual([0x0201, 0x0403, 0x0605]);
  });

  it('nothing of one frame is left in the next', () => {
    const sender = open();
    sender.send(packet(2000, 12, { 0: 1, 1: 1, 4: 9, 6: 9, 8: 9 }), [12, 50, 60]);
    sender.frame.payload(54, 10);
    sender.send(packet(60), [5]);
    const { needsCsum, gsoType, gsoSize, csumStart, csumOffset, length } = sender.frame;
    expect([needsCsum, gsoType, gsoSize, csumStart, csumOffset, length]).toEqual([false, 0, 0, 0, 0, 60]);
    expect(sender.payloadBytes(0, 60)).toEqual(packet(60).subarray(12));
  });
});
