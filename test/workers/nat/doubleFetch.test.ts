/**
 * A guest that rewrites its headers while they are read: each read of a byte finds one of two frames. Nothing that the
 * NAT checked once may then be read again and believed: no read and no payload reaches beyond the frame.
 */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { FrameSource } from '../../../workers/nat/guestLink.js';
import { setU16 } from '../../../workers/wire/bytes.js';
import { sum16 } from '../../../workers/wire/checksum.js';
import { udpDatagram } from '../../e2e/guestFrames.js';
import { ACK, PSH, SYN, Trace } from './trace.js';

const OFFSET = 7;
const HEADERS = 134;

/** Two frames of one length; each read takes the byte of the one that `choices` names next. */
class RestlessFrame implements FrameSource {
  readonly bytes: Uint8Array;
  readonly offset = OFFSET;
  readonly linear: number;
  readonly length: number;
  readonly payloadFirst = 0;
  readonly payloadCount = 1;
  /** What went wrong, in words. */
  readonly faults: string[] = [];
  private reads = 0;

  constructor(
    private readonly frames: readonly [Uint8Array, Uint8Array],
    private readonly choices: readonly boolean[],
    readonly needsCsum: boolean,
    private readonly iovecs: Uint32Array,
  ) {
    this.length = frames[0].length;
    this.linear = this.length;
    // Beside the frame lies what is none of its business.
    this.bytes = new Proxy(new Uint8Array(OFFSET + this.length + 256), {
      get: (target, key) =>
        typeof key === 'string' && /^-?\d+$/.test(key) ? this.read(Number(key)) : this.method(target, key),
    });
  }

  linearize(): void {}

  payload(from: number, length: number): void {
    const inside = Number.isInteger(from) && Number.isInteger(length) && from >= 0 && length >= 0;
    if (!inside || from + length > this.length) this.faults.push(`payload of ${length} bytes at ${from}`);
    this.iovecs.set([0, 0, 0], 0);
  }

  rewind(): void {}

  private read(index: number): number {
    const at = index - OFFSET;
    if (at < 0 || at >= this.length) this.faults.push(`read of byte ${at}`);
    return this.frames[this.choices[this.reads++ % this.choices.length] ? 1 : 0][at] ?? 0;
  }

  private method(target: Uint8Array, key: string | symbol): unknown {
    if (key === 'subarray')
      return (from: number, to: number) => Uint8Array.from({ length: to - from }, (_, n) => this.read(from + n));
    const value: unknown = Reflect.get(target, key, target);
    return typeof value === 'function' ? (value.bind(target) as unknown) : value;
  }
}

/** What the second frame has instead: mostly in the headers, mostly of lengths. */
const change = fc.record({
  at: fc.oneof(fc.constantFrom(14, 16, 17, 23, 26, 30, 36, 37, 38, 39, 46, 47), fc.nat({ max: 400 })),
  value: fc.oneof(fc.constantFrom(0, 0x40, 0x4f, 0xf0, 0xff), fc.nat({ max: 255 })),
});
const restless = fc.record({
  changes: fc.array(change, { minLength: 1, maxLength: 12 }),
  choices: fc.array(fc.boolean(), { minLength: 1, maxLength: 61 }),
  needsCsum: fc.boolean(),
});

function changed(frame: Uint8Array, changes: readonly { at: number; value: number }[]): Uint8Array {
  const other = frame.slice();
  for (const { at, value } of changes) if (at < other.length) other[at] = value;
  // Half of the tampering is worthless if the checksum tells.
  setU16(other, 24, 0);
  setU16(other, 24, ~sum16(other, 14, 20, 0));
  return other;
}

/** DISCOVER with options of many lengths, as `udhcpc` sends it. */
function discover(): Uint8Array {
  const frame = new Uint8Array(14 + 20 + 8 + 300);
  frame.set([255, 255, 255, 255, 255, 255, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 0]);
  frame.set([0x45, 0, (frame.length - 14) >> 8, (frame.length - 14) & 255, 0, 0, 0, 0, 64, 17, 0, 0], 14);
  frame.fill(255, 30, 34);
  setU16(frame, 24, ~sum16(frame, 14, 20, 0));
  frame.set([0, 68, 0, 67, 308 >> 8, 308 & 255], 34);
  frame.set([1, 1, 6, 0, 1, 2, 3, 4], 42);
  frame.set([0x63, 0x82, 0x53, 0x63], 42 + 236);
  frame.set(
    [53, 1, 1, 57, 2, 2, 64, 61, 7, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 55, 4, 1, 3, 6, 26, 52, 1, 3, 255],
    42 + 240,
  );
  return frame;
}

function arpRequest(): Uint8Array {
  const frame = new Uint8Array(42);
  frame.set([255, 255, 255, 255, 255, 255, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
  frame.set([10, 0, 2, 2], 38);
  return frame;
}

const KINDS: readonly [string, (trace: Trace) => Uint8Array][] = [
  ['a SYN with options', (t) => t.frameOf({ flags: SYN, seq: 1, mss: 1460, scale: 7 })],
  ['data of an open flow', (t) => t.frameOf({ flags: ACK | PSH, ...t.establish(), data: 'x'.repeat(300) })],
  ['a segment of no flow', (t) => t.frameOf({ flags: ACK, seq: 1, ack: 2, data: 'abc' })],
  ['a datagram', () => udpDatagram({ ports: [5, 7], payload: new Uint8Array(200), destination: 0x08080808 })],
  ['a datagram that may not go out', () => udpDatagram({ ports: [5, 7], payload: new Uint8Array(200) })],
  ['DHCP', discover],
  ['ARP', arpRequest],
];

describe.each(KINDS)('%s, rewritten while it is read', (_name, build) => {
  it('leads to no read and no payload beyond the frame', () => {
    fc.assert(
      fc.property(restless, ({ changes, choices, needsCsum }) => {
        const trace = new Trace();
        const frame = build(trace);
        const source = new RestlessFrame([frame, changed(frame, changes)], choices, needsCsum, trace.iovecs);
        trace.input(source);
        expect(source.faults).toEqual([]);
      }),
      { numRuns: 2000 },
    );
  });

  it('and any two frames of the shortest lengths do so neither', () => {
    const bytes = fc.uint8Array({ minLength: HEADERS, maxLength: HEADERS });
    fc.assert(
      fc.property(
        bytes,
        restless,
        fc.integer({ min: 14, max: HEADERS }),
        (noise, { changes, choices, needsCsum }, length) => {
          const trace = new Trace();
          const whole = build(trace);
          const frame = changed(
            Uint8Array.from({ length }, (_, n) => (n < 48 ? (whole[n] ?? 0) : noise[n]!)),
            changes,
          );
          const source = new RestlessFrame([frame, changed(frame, changes)], choices, needsCsum, trace.iovecs);
          trace.input(source);
          expect(source.faults).toEqual([]);
        },
      ),
      { numRuns: 1000 },
    );
  });
});
