import * as fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { MAX_HEADERS, ReceiveQueue } from '../../device/receiveQueue.js';
import { MockDriver, type MockOptions } from './mockDriver.js';

const FIRST = 1100;
/** What driver's memory holds before the device writes. */
const CANARY = 0xc5;
const opened: Receiver[] = [];

interface Buffer {
  readonly pieces: readonly { readonly at: number; readonly length: number }[];
  readonly length: number;
}

class Receiver extends MockDriver {
  readonly receive: ReceiveQueue;
  /** By head. */
  private readonly posted = new Map<number, Buffer>();
  private next = this.data;

  constructor(
    options: MockOptions = {},
    readonly headerSize = 12,
    mergeable = true,
  ) {
    super({ size: 64, dataBytes: 1 << 18, ...options });
    this.receive = new ReceiveQueue(this.queue, this.guest, this.iovecs, FIRST, headerSize, mergeable);
    this.memory.u8.fill(CANARY, this.data);
  }

  /** Posts a buffer whose pieces have these lengths. */
  post(...lengths: number[]): number {
    const total = lengths.reduce((sum, length) => sum + length, 0);
    if (this.next + total + 2 * lengths.length > this.shape.size) this.next = this.data;
    const pieces = lengths.map((length) => {
      const at = this.next + 2;
      this.next = at + length;
      return { at, length };
    });
    this.driver.beginChain(false);
    for (const { at, length } of pieces) {
      this.memory.u8.fill(CANARY, at, at + length);
      this.driver.addBuffer(at, length, true);
    }
    const head = this.driver.endChain();
    this.driver.publish();
    this.posted.set(head, { pieces, length: total });
    return head;
  }

  /** What the device does with a frame: headers written by hand, the payload into triples. False: no room. */
  build(frame: Uint8Array, headers: number, reserved = frame.length): boolean {
    const { receive } = this;
    const room = receive.reserve(headers + 1, reserved);
    if (room < frame.length) return false;
    receive.payload(headers, room - headers);
    const length = frame.length - headers;
    receive.trim(length);
    for (let n = 0; n < headers; n++) receive.header[receive.headerOffset + n] = frame[n]!;
    let done = headers;
    for (let t = 3 * receive.payloadFirst; t < 3 * (receive.payloadFirst + receive.payloadCount); t += 3) {
      const [region, offset, size] = this.iovecs.subarray(t, t + 3);
      this.guest.bytesOf(region!).set(frame.subarray(done, done + size!), offset);
      done += size!;
    }
    receive.commit(frame.length, headers, 0, 0, 0, 0);
    return done === frame.length;
  }

  /** The used buffers that came back: sizes, what was used of each, those bytes, and whether any beyond were touched. */
  collect(): { size: number; used: number; bytes: number[]; untouched: boolean }[] {
    const result = [];
    for (let head = this.driver.takeUsed(); head >= 0; head = this.driver.takeUsed()) {
      const buffer = this.posted.get(head)!;
      const all = buffer.pieces.flatMap(({ at, length }) => [...this.memory.u8.subarray(at, at + length)]);
      const around = buffer.pieces.flatMap(({ at, length }) => [this.memory.u8[at - 1], this.memory.u8[at + length]]);
      const used = this.driver.usedLength;
      const untouched = all.slice(used).every((byte) => byte === CANARY) && around.every((byte) => byte === CANARY);
      result.push({ size: buffer.length, used, bytes: all.slice(0, used), untouched });
    }
    return result;
  }

  /** The next frame as a driver reads it: num_buffers says how many buffers belong together. */
  collectFrame(): { header: number[]; frame: number[]; sizes: number[]; used: number[]; untouched: boolean } {
    const buffers = this.collect();
    const bytes = buffers.flatMap((buffer) => buffer.bytes);
    return {
      header: bytes.slice(0, this.headerSize),
      frame: bytes.slice(this.headerSize),
      sizes: buffers.map(({ size }) => size),
      used: buffers.map(({ used }) => used),
      untouched: buffers.every(({ untouched }) => untouched),
    };
  }
}

function open(options?: MockOptions, headerSize?: number, mergeable?: boolean): Receiver {
  const receiver = new Receiver(options, headerSize, mergeable);
  opened.push(receiver);
  return receiver;
}

afterEach(() => {
  for (const receiver of opened.splice(0)) receiver[Symbol.dispose]();
});

/** Bytes that differ, none of them the canary. */
const frameOf = (length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, n) => {
    const byte = (n * 5 + (n >> 7)) & 0xff;
    return byte === CANARY ? 1 : byte;
  });

/** A complete header with `buffers` as num_buffers. */
const plainHeader = (buffers: number): number[] => [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, buffers & 0xff, buffers >> 8];

describe('§5.1.6.4 a frame in one buffer', () => {
  it.each([12, 10])('cut in two at every byte of a header of %i bytes and the headers behind it', (headerSize) => {
    const receiver = open({}, headerSize, headerSize === 12);
    const frame = frameOf(150);
    for (let cut = 0; cut <= headerSize + frame.length; cut++) {
      receiver.post(cut, headerSize + frame.length + 20 - cut);
      expect(receiver.build(frame, 54)).toBe(true);
      receiver.queue.publish();
      const got = receiver.collectFrame();
      expect([cut, got.header]).toEqual([cut, plainHeader(1).slice(0, headerSize)]);
      expect(got.frame).toEqual([...frame]);
      expect([got.used, got.untouched]).toEqual([[headerSize + 150], true]);
    }
  });

  it('one byte in each descriptor', () => {
    const receiver = open({ size: 256 });
    receiver.post(...Array.from({ length: 200 }, () => 1));
    const frame = frameOf(180);
    expect(receiver.build(frame, 54)).toBe(true);
    receiver.queue.publish();
    expect(receiver.collectFrame()).toMatchObject({ frame: [...frame], header: plainHeader(1), untouched: true });
  });

  it('leaves the triple before the payload to the caller, whatever it writes there', () => {
    for (const lengths of [[2000], [12, 2000], [30, 30, 30, 2000]]) {
      const receiver = open();
      receiver.post(...lengths);
      const frame = frameOf(300);
      const { receive, iovecs } = receiver;
      expect(receive.reserve(100, 300)).toBe(300);
      for (let n = 0; n < 54; n++) receive.header[receive.headerOffset + n] = frame[n]!;
      receive.payload(54, 246);
      const triples = receiver.triples(receive.payloadFirst, receive.payloadCount);
      iovecs.fill(0xffffffff, 3 * (receive.payloadFirst - 1), 3 * receive.payloadFirst);
      expect(receiver.triples(receive.payloadFirst, receive.payloadCount)).toEqual(triples);
      receive.commit(300, 54, 0, 0, 0, 0);
      receiver.queue.publish();
      expect(receiver.collectFrame()).toMatchObject({ header: plainHeader(1), used: [312] });
    }
  });
});

describe('§5.1.6.4 fields of the header', () => {
  function headerAfter(...commit: Parameters<ReceiveQueue['commit']>): number[] {
    const receiver = open();
    receiver.post(4000);
    receiver.receive.reserve(60, 3000);
    receiver.receive.commit(...commit);
    receiver.queue.publish();
    return receiver.collectFrame().header;
  }

  it('§5.1.6.4.1 a checksum left to the driver: NEEDS_CSUM, csum_start, csum_offset', () => {
    expect(headerAfter(100, 54, 34, 16, 0, 0)).toEqual([1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 1, 0]);
  });

  it('§5.1.6.4.1 segmentation left to the driver: gso_type, gso_size, hdr_len', () => {
    expect(headerAfter(3000, 66, 34, 16, 1, 1448)).toEqual([1, 1, 66, 0, 1448 & 0xff, 1448 >> 8, 34, 0, 16, 0, 1, 0]);
  });

  it('§5.1.6.4.1 no flag, GSO_NONE and zeroes for a complete frame, whatever lay there before', () => {
    expect(headerAfter(100, 54, 0, 0, 0, 0)).toEqual(plainHeader(1));
  });

  it('§5.1.6.4.1 num_buffers is 1 where MRG_RXBUF was not negotiated; a legacy header has none', () => {
    const modern = open({}, 12, false);
    modern.post(200);
    modern.build(frameOf(60), 54);
    modern.queue.publish();
    expect(modern.collectFrame().header).toEqual(plainHeader(1));
    const legacy = open({}, 10, false);
    legacy.post(200);
    legacy.build(frameOf(60), 54);
    legacy.queue.publish();
    expect(legacy.collectFrame()).toMatchObject({ header: plainHeader(1).slice(0, 10), frame: [...frameOf(60)] });
  });
});

describe('§5.1.6.4.1 mergeable buffers', () => {
  it('fills all buffers but the last, counts them exactly, and shows them together', () => {
    const receiver = open();
    for (let n = 0; n < 5; n++) receiver.post(100);
    const frame = frameOf(300);
    expect(receiver.build(frame, 54)).toBe(true);
    expect(receiver.driver.usedCount()).toBe(0);
    expect(receiver.queue.publish()).toBe(true);
    expect(receiver.driver.usedCount()).toBe(4);
    expect(receiver.collectFrame()).toEqual({
      header: plainHeader(4),
      frame: [...frame],
      sizes: [100, 100, 100, 100],
      used: [100, 100, 100, 12],
      untouched: true,
    });
  });

  it('takes no more buffers than the frame came to in the end', () => {
    const receiver = open();
    for (let n = 0; n < 5; n++) receiver.post(100);
    expect(receiver.build(frameOf(88), 54, 400)).toBe(true);
    receiver.queue.publish();
    expect(receiver.collectFrame()).toMatchObject({ header: plainHeader(1), used: [100] });
    expect(receiver.queue.poll()).toBe(4);
  });

  it('takes nothing where a frame was reserved but not committed', () => {
    const receiver = open();
    const head = receiver.post(100);
    receiver.receive.reserve(60, 80);
    receiver.queue.publish();
    expect([receiver.queue.poll(), receiver.queue.headAt(0), receiver.driver.usedCount()]).toEqual([1, head, 0]);
  });

  it('has no room for more than there are buffers, and none for less than `least`', () => {
    const receiver = open();
    expect(receiver.receive.reserve(1, 100)).toBe(0);
    receiver.post(100);
    receiver.post(50);
    expect(receiver.receive.reserve(139, 1000)).toBe(0);
    expect(receiver.receive.reserve(138, 1000)).toBe(138);
    expect(receiver.receive.reserve(1, 20)).toBe(20);
    expect(receiver.driver.usedCount()).toBe(0);
  });

  it('any frames in any buffers of any pieces, cut by windows too, arrive as they were sent', () => {
    const buffer = fc
      .array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 5 })
      .filter((lengths) => lengths.reduce((a, b) => a + b) >= 12);
    const frames = fc.array(
      fc.record({
        length: fc.integer({ min: 55, max: 3000 }),
        headers: fc.integer({ min: 14, max: Math.min(54, MAX_HEADERS) }),
        more: fc.nat(4000),
        copy: fc.boolean(),
      }),
      { minLength: 1, maxLength: 8 },
    );
    fc.assert(
      fc.property(fc.array(buffer, { minLength: 1, maxLength: 10 }), frames, fc.boolean(), (buffers, sent, windows) => {
        using receiver = new Receiver({ size: 512, ...(windows ? { regionSize: 16_384, indirectEntries: 1 } : {}) });
        let n = 0;
        for (const { length, headers, more, copy } of sent) {
          // 12 bytes of the smallest buffer hold a frame of 3,000 bytes 251 times over: as many as one frame may take.
          while (receiver.driver.freeCount >= 5 && receiver.driver.inFlight() < 80) {
            receiver.post(...buffers[n++ % buffers.length]!);
          }
          const frame = frameOf(length);
          const fits = receiver.receive.reserve(length, length) === length;
          const built = copy ? receiver.receive.copy(frame, length) : receiver.build(frame, headers, length + more);
          expect(built).toBe(fits);
          receiver.queue.publish();
          const got = receiver.collectFrame();
          expect(got.frame).toEqual(fits ? [...frame] : []);
          expect(got.header).toEqual(fits ? plainHeader(got.used.length) : []);
          expect(got.used.slice(0, -1)).toEqual(got.sizes.slice(0, -1));
          expect(got.untouched).toBe(true);
        }
      }),
      { numRuns: 80 },
    );
  });
});

describe('the most that a frame may span', () => {
  it('is as many pieces as one system call takes', () => {
    const receiver = open({ size: 2048 });
    for (let n = 0; n < 2; n++) receiver.post(...Array.from({ length: 600 }, () => 1));
    expect(receiver.receive.reserve(100, 1100)).toBe(588);
    expect(receiver.build(frameOf(500), 54, 1100)).toBe(true);
    receiver.queue.publish();
    expect(receiver.collectFrame()).toMatchObject({ frame: [...frameOf(500)], used: [512], untouched: true });
    expect(receiver.receive.faults).toBe(0);
  });

  it('is 128 buffers: enough for 1,500 bytes in the smallest that a driver may post (§5.1.6.3.1)', () => {
    const receiver = open({ size: 256 });
    for (let n = 0; n < 200; n++) receiver.post(12);
    expect(receiver.receive.reserve(60, 5000)).toBe(127 * 12);
    expect(receiver.receive.copy(frameOf(1514), 1514)).toBe(true);
    receiver.queue.publish();
    expect(receiver.collectFrame()).toMatchObject({ frame: [...frameOf(1514)], header: plainHeader(128) });
  });
});

describe('without MRG_RXBUF', () => {
  it('§5.1.6.3.1 a frame lies in one buffer; the others stay', () => {
    const receiver = open({}, 12, false);
    receiver.post(200);
    receiver.post(200);
    expect(receiver.receive.reserve(60, 400)).toBe(188);
    expect(receiver.build(frameOf(188), 54)).toBe(true);
    receiver.queue.publish();
    expect(receiver.collectFrame()).toMatchObject({ used: [200], header: plainHeader(1) });
    expect(receiver.queue.poll()).toBe(1);
  });

  it('a buffer that a frame does not fit in goes back empty, so that the queue goes on', () => {
    const receiver = open({}, 12, false);
    receiver.post(100);
    receiver.post(400);
    expect(receiver.receive.copy(frameOf(300), 300)).toBe(false);
    expect(receiver.receive.copy(frameOf(300), 300)).toBe(true);
    receiver.queue.publish();
    expect(receiver.collect().map(({ used }) => used)).toEqual([0, 312]);
  });
});

describe('buffers that break the rules', () => {
  it.each([
    ['smaller than the header', [11]],
    ['empty', [0]],
  ])('a buffer %s goes back with length 0 and is counted', (_, lengths) => {
    const receiver = open();
    receiver.post(...lengths);
    receiver.post(200);
    expect(receiver.build(frameOf(60), 54)).toBe(true);
    receiver.queue.publish();
    expect(receiver.collect().map(({ used, untouched }) => [used, untouched])).toEqual([
      [0, true],
      [72, true],
    ]);
    expect(receiver.receive.faults).toBe(1);
  });

  it('a buffer with a device-readable part goes back with length 0', () => {
    const receiver = open();
    receiver.driver.beginChain(false);
    receiver.driver.addBuffer(receiver.data, 100, false);
    receiver.driver.addBuffer(receiver.data + 100, 2000, true);
    const head = receiver.driver.endChain();
    receiver.driver.publish();
    expect(receiver.receive.reserve(60, 100)).toBe(0);
    receiver.queue.publish();
    expect([receiver.driver.takeUsed(), receiver.driver.usedLength]).toEqual([head, 0]);
  });

  it('a queue of nothing but bad buffers is given back whole', () => {
    const receiver = open();
    for (let n = 0; n < 63; n++) receiver.post(5);
    expect(receiver.receive.reserve(60, 100)).toBe(0);
    receiver.queue.publish();
    expect(receiver.collect().map(({ used }) => used)).toEqual(Array.from({ length: 63 }, () => 0));
  });

  it('a bad buffer behind one that is too small on its own does not stop the queue', () => {
    const receiver = open();
    receiver.post(40);
    receiver.post(0);
    for (let n = 0; n < 3; n++) receiver.post(200);
    let tries = 0;
    while (!receiver.receive.copy(frameOf(150), 150) && tries < 5) tries++;
    receiver.queue.publish();
    const got = receiver.collect();
    expect(got.at(-1)).toMatchObject({ used: 162, untouched: true });
    expect(got.slice(0, -1).every(({ used }) => used === 0)).toBe(true);
  });

  it('refuses no more than a bounded number of buffers at once, and the rest later', () => {
    const receiver = open({ size: 256 });
    for (let n = 0; n < 200; n++) receiver.post(5);
    receiver.post(500);
    for (const left of [137, 73, 9]) {
      expect(receiver.receive.reserve(60, 100)).toBe(0);
      expect(receiver.queue.poll()).toBe(left);
    }
    expect(receiver.receive.reserve(60, 100)).toBe(100);
    expect(receiver.receive.faults).toBe(200);
  });

  it('an available index that jumps while buffers are lined up breaks the queue, and nothing beyond is read', () => {
    const receiver = open();
    receiver.post(100);
    receiver.queue.poll();
    receiver.setAvailIdx(66);
    expect(receiver.receive.reserve(60, 1000)).toBe(88);
    expect(receiver.queue.broken).not.toBe(0);
  });

  it('a head out of range breaks the queue', () => {
    const receiver = open();
    receiver.offer(64);
    expect(receiver.receive.reserve(60, 100)).toBe(0);
    expect(receiver.queue.broken).not.toBe(0);
  });
});
