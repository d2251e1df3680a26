import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameReader, MAX_PAYLOAD, encodeFrame, encodeStart, words } from '../../src/sandbox/frames.js';

const frame = fc.record({
  type: fc.nat(20),
  run: fc.nat(0xffffffff),
  payload: fc.uint8Array({ maxLength: 300 }),
});

describe('frames', () => {
  it('survive any cutting of the stream', () => {
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 8 }), fc.array(fc.nat(50), { minLength: 1 }), (frames, cuts) => {
        const stream = Buffer.concat(frames.map(({ type, run, payload }) => encodeFrame(type, run, payload)));
        const reader = new FrameReader();
        const read = [];
        for (let at = 0, turn = 0; at < stream.length; turn++) {
          const length = 1 + (cuts[turn % cuts.length] ?? 0);
          read.push(...reader.push(stream.subarray(at, at + length)));
          at += length;
        }
        expect(read.map(({ type, run, payload }) => ({ type, run, payload: new Uint8Array(payload) }))).toEqual(frames);
      }),
    );
  });

  it('longer than the agent may send are refused', () => {
    expect(() => new FrameReader().push(words(17, 1, MAX_PAYLOAD + 1))).toThrow(RangeError);
  });
});

describe('START', () => {
  const request = { command: ['a'], folder: '/', environment: {}, terminal: undefined };

  it('refuses what the agent could not take', () => {
    expect(() => encodeStart({ ...request, command: [] })).toThrow(/empty/);
    expect(() => encodeStart({ ...request, command: [''] })).toThrow(/empty/);
    expect(() => encodeStart({ ...request, command: ['a\0b'] })).toThrow(/NUL/);
    expect(() => encodeStart({ ...request, command: ['a', 'x'.repeat(MAX_PAYLOAD)] })).toThrow(/stdin/);
  });

  it('says the terminal, the count of arguments, then folder, arguments and environment', () => {
    const payload = encodeStart({
      command: ['sh', '-c'],
      folder: '/root',
      environment: { A: '1' },
      terminal: { rows: 24, columns: 80 },
    });
    expect(payload.subarray(0, 16)).toEqual(words(1, 24, 80, 2));
    expect(payload.toString('latin1', 16)).toBe('/root\0sh\0-c\0A=1\0');
  });
});
