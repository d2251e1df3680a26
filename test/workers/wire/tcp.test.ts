import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as tcp from '../../../workers/wire/tcp.js';

const port = fc.nat(0xffff);
const MAX_OPTIONS = 40;

/** Parses options in the middle of bytes that would change the result if they were read. */
function parse(options: readonly number[]): [ok: boolean, mss: number, windowScale: number] {
  const bytes = new Uint8Array(options.length + 16).fill(2);
  bytes.set(options, 8);
  const out = new tcp.SynOptions();
  out.mss = 77;
  out.windowScale = 7;
  const ok = tcp.parseSynOptions(bytes, 8, options.length, out);
  return [ok, out.mss, out.windowScale];
}

describe('TCP header (RFC 9293 §3.1)', () => {
  it('reads back what was written, and touches nothing around it', () => {
    const header = fc.record({
      sourcePort: port,
      destinationPort: port,
      sequence: fc.integer(),
      acknowledgment: fc.integer(),
      dataOffset: fc.integer({ min: 5, max: 15 }).map((words) => words * 4),
      flags: fc.nat(255),
      window: port,
    });
    fc.assert(
      fc.property(header, (h) => {
        const bytes = new Uint8Array(28).fill(0xa5);
        const { sourcePort, destinationPort, sequence, acknowledgment, dataOffset, flags, window } = h;
        tcp.writeTcp(bytes, 4, sourcePort, destinationPort, sequence, acknowledgment, dataOffset, flags, window);
        expect({
          sourcePort: tcp.sourcePort(bytes, 4),
          destinationPort: tcp.destinationPort(bytes, 4),
          sequence: tcp.sequence(bytes, 4),
          acknowledgment: tcp.acknowledgment(bytes, 4),
          dataOffset: tcp.dataOffset(bytes, 4),
          flags: tcp.flags(bytes, 4),
          window: tcp.window(bytes, 4),
        }).toEqual(h);
        expect([...bytes.subarray(20, 24)]).toEqual([0, 0, 0, 0]); // checksum and urgent pointer
        expect([...bytes.subarray(0, 4), ...bytes.subarray(24)]).toEqual(Array.from({ length: 8 }, () => 0xa5));
      }),
    );
  });

  it('has the control bits where the figure has them', () => {
    const bytes = new Uint8Array(20);
    tcp.writeTcp(bytes, 0, 0x1234, 80, 1, 2, 24, tcp.TCP_SYN | tcp.TCP_ACK, 0xfeff);
    expect(Buffer.from(bytes).toString('hex')).toBe('1234005000000001000000026012feff00000000');
    const bits = [tcp.TCP_FIN, tcp.TCP_SYN, tcp.TCP_RST, tcp.TCP_PSH, tcp.TCP_ACK, tcp.TCP_URG];
    expect(bits).toEqual([1, 2, 4, 8, 16, 32]);
  });
});

describe('SYN options', () => {
  it('reads back what was written, in a multiple of 4 bytes', () => {
    fc.assert(
      fc.property(port, fc.integer({ min: -1, max: 14 }), (mss, scale) => {
        const bytes = new Uint8Array(12).fill(0xa5);
        const length = tcp.writeSynOptions(bytes, 0, mss, scale);
        expect(length).toBe(scale < 0 ? 4 : 8);
        expect([...bytes.subarray(length)].every((byte) => byte === 0xa5)).toBe(true);
        expect(parse([...bytes.subarray(0, length)])).toEqual([true, mss, scale]);
      }),
    );
  });

  it('are absent when there are none, and reset by each call', () => {
    expect(parse([])).toEqual([true, 0, -1]);
  });

  it('reads a Linux SYN’s: MSS, SACK permitted, timestamps, NOP, window scale', () => {
    const linux = [2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
    expect(parse(linux)).toEqual([true, 1460, 7]);
  });

  it('RFC 9293 §3.1: end of list ends the options, bytes after it are not read', () => {
    expect(parse([3, 3, 5, 0, 2, 4, 5, 0xb4])).toEqual([true, 0, 5]);
    expect(parse([0, 2, 1, 0])).toEqual([true, 0, -1]);
  });

  it('RFC 9293 §3.1: skips unknown options by their length (MUST-6)', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 4, max: 255 }),
        fc.uint8Array({ maxLength: 28 }),
        fc.nat(4),
        (kind, value, nops) => {
          const padding = Array.from({ length: nops }, () => 1);
          const options = [...padding, kind, value.length + 2, ...value, 2, 4, 4, 0, 3, 3, 2];
          expect(parse(options)).toEqual([true, 1024, 2]);
        },
      ),
    );
  });

  it('RFC 7323 §2.3: a scale above 14 is taken for 14', () => {
    for (let scale = 0; scale < 256; scale++) expect(parse([3, 3, scale])[2]).toBe(Math.min(scale, 14));
  });

  it('RFC 9293 §3.1: wrong lengths stop the reading (MUST-7), what came before stays', () => {
    const wrong = [
      [2],
      [3],
      [9],
      [2, 0],
      [9, 0],
      [9, 1],
      [9, 3],
      [2, 3, 1],
      [2, 4, 5],
      [2, 5, 1, 2, 3],
      [3, 2],
      [3, 3],
      [3, 4, 7, 7],
    ];
    for (const options of wrong) {
      expect(parse(options)).toEqual([false, 0, -1]);
      expect(parse([2, 4, 2, 0x18, ...options])).toEqual([false, 536, -1]);
    }
  });

  it('terminates on any bytes and reads none beyond its length', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: MAX_OPTIONS }), fc.nat(255), (options, after) => {
        const inside = new Uint8Array(options.length + 8).fill(after);
        inside.set(options);
        const first = new tcp.SynOptions();
        const second = new tcp.SynOptions();
        const ok = tcp.parseSynOptions(options, 0, options.length, first);
        expect(tcp.parseSynOptions(inside, 0, options.length, second)).toBe(ok);
        expect(second).toEqual(first);
        expect(first.windowScale).toBeLessThanOrEqual(14);
      }),
    );
  });
});

describe('sequence numbers (RFC 9293 §3.4)', () => {
  it('are ordered modulo 2^32', () => {
    const distance = fc.integer({ min: 1, max: 0x7fffffff });
    fc.assert(
      fc.property(fc.integer(), distance, (a, ahead) => {
        const b = (a + ahead) | 0;
        expect([tcp.seqLt(a, b), tcp.seqGt(a, b)]).toEqual([true, false]);
        expect([tcp.seqLt(b, a), tcp.seqGt(b, a)]).toEqual([false, true]);
        expect([tcp.seqLt(a, a), tcp.seqGt(a, a)]).toEqual([false, false]);
      }),
    );
    expect(tcp.seqLt(0x7fffffff, -0x80000000)).toBe(true);
    expect(tcp.seqLt(-1, 0)).toBe(true);
  });
});
