/** Several frames at once, one per receive buffer. */
import { afterEach, describe, expect, it } from 'vitest';
import { ReceiveQueue } from '../../device/receiveQueue.js';
import type { FrameFilter } from '../../device/receiveBatch.js';
import { MockDriver } from './mockDriver.js';

const FIRST = 1100;
const HEADER = 12;
const HEADERS = 42;
const MOST = 100;
const BUFFER = HEADER + HEADERS + MOST;
const opened: Receiver[] = [];

class Receiver extends MockDriver {
  readonly batch;
  private readonly posted = new Map<number, number>();
  private next = this.data;

  constructor(filter?: FrameFilter) {
    super({ size: 64, dataBytes: 1 << 16 });
    opened.push(this);
    this.batch = new ReceiveQueue(this.queue, this.guest, this.iovecs, FIRST, HEADER, true, filter).batch;
  }

  post(...lengths: number[]): void {
    this.driver.beginChain(false);
    const at = this.next;
    for (const length of lengths) {
      this.driver.addBuffer(this.next, length, true);
      this.next += length;
    }
    this.posted.set(this.driver.endChain(), at);
    this.driver.publish();
  }

  /** The kernel's part: message `n` comes with this payload. */
  fill(n: number, payload: readonly number[]): void {
    const { batch, iovecs } = this;
    const triple = 3 * (batch.data + n);
    this.guest.bytesOf(iovecs[triple]!).set(payload.slice(0, iovecs[triple + 2]), iovecs[triple + 1]!);
    iovecs[3 * (batch.messages + n) + 2] = payload.length;
  }

  /** Makes message `n` the next frame, its headers all of one byte. */
  deliver(n: number, header: number): void {
    const { batch } = this;
    const length = batch.length(n);
    batch.place(n, length);
    batch.header.fill(header, batch.headerOffset, batch.headerOffset + HEADERS);
    batch.commit(length, 0, 0);
  }

  /** Frames that the driver got: the first byte of the headers, and the payload. */
  frames(): number[][] {
    this.queue.publish();
    const frames = [];
    for (let head = this.driver.takeUsed(); head >= 0; head = this.driver.takeUsed()) {
      const at = this.posted.get(head)!;
      const bytes = [...this.memory.u8.subarray(at, at + this.driver.usedLength)];
      expect(bytes.slice(0, HEADER)).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
      frames.push([bytes[HEADER]!, ...bytes.slice(HEADER + HEADERS)]);
    }
    return frames;
  }
}

afterEach(() => {
  for (const receiver of opened.splice(0)) receiver[Symbol.dispose]();
});

describe('ReceiveBatch', () => {
  it('offers as many frames as wanted, or as there are buffers, each with room for the longest payload', () => {
    const r = new Receiver();
    for (let n = 0; n < 5; n++) r.post(BUFFER + 7 * n);
    expect([3, 5, 9].map((frames) => r.batch.reserve(frames, HEADERS, MOST))).toEqual([3, 5, 5]);
    const lengths = Array.from({ length: 5 }, (_, n) => r.iovecs[3 * (r.batch.data + n) + 2]);
    expect(lengths).toEqual([MOST, MOST, MOST, MOST, MOST]);
  });

  it('delivers frames of any length in order, takes only the buffers that it used', () => {
    const r = new Receiver();
    for (let n = 0; n < 4; n++) r.post(BUFFER);
    r.batch.reserve(4, HEADERS, MOST);
    const payloads = [[], [1], Array.from({ length: MOST }, (_, n) => n)];
    payloads.forEach((payload, n) => r.fill(n, payload));
    payloads.forEach((_, n) => r.deliver(n, 50 + n));
    expect(r.frames()).toEqual(payloads.map((payload, n) => [50 + n, ...payload]));
    expect([r.queue.waiting(), r.batch.reserve(4, HEADERS, MOST)]).toEqual([1, 1]);
  });

  it('what was dropped in between leaves no gap: the next frame takes its buffer', () => {
    const r = new Receiver();
    for (let n = 0; n < 4; n++) r.post(BUFFER);
    r.batch.reserve(4, HEADERS, MOST);
    for (let n = 0; n < 4; n++) r.fill(n, [n, n, n]);
    for (const n of [1, 3]) r.deliver(n, n);
    expect(r.frames()).toEqual([
      [1, 1, 1, 1],
      [3, 3, 3, 3],
    ]);
    expect(r.queue.waiting()).toBe(2);
  });

  it.each([
    ['too short', [BUFFER - 1]],
    ['in two pieces', [HEADER, BUFFER]],
  ])('ends before a buffer that is %s', (_, lengths) => {
    const r = new Receiver();
    r.post(BUFFER);
    r.post(...lengths);
    r.post(BUFFER);
    expect(r.batch.reserve(3, HEADERS, MOST)).toBe(1);
  });

  it('a frame that the filter keeps out takes no buffer', () => {
    const r = new Receiver({ accepts: (frame, offset) => frame[offset] !== 1 });
    for (let n = 0; n < 3; n++) r.post(BUFFER);
    r.batch.reserve(3, HEADERS, MOST);
    for (let n = 0; n < 3; n++) r.fill(n, [n]);
    for (let n = 0; n < 3; n++) r.deliver(n, n);
    expect(r.frames()).toEqual([
      [0, 0],
      [2, 2],
    ]);
    expect(r.queue.waiting()).toBe(1);
  });
});
