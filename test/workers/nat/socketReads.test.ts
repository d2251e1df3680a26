import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BULK, FLAGS, FLOW_WORDS, LOOPBACK, READ_FIRST } from '../../../workers/flow.js';
import { parseIpv4Address } from '../../../workers/wire/ipv4.js';
import { TCP_ACK as ACK } from '../../../workers/wire/tcp.js';
import { Trace, type TraceOptions } from './trace.js';

/** Payload of the largest segment. */
const SEGMENT = 65_495;
const FIXED_BUFFER = 4 << 20;

/** A download that is bulk already; the guest has acknowledged all of it so far. */
class Download {
  readonly t: Trace;
  received = 0;
  private readonly seq: number;
  private readonly ack: number;

  constructor(options: TraceOptions = {}, destination = '10.0.2.2') {
    this.t = new Trace({ segmentation: true, allowHostLoopback: true, ...options });
    this.t.destination = parseIpv4Address(destination);
    ({ seq: this.seq, ack: this.ack } = this.t.establish({ window: 65_535, scale: 7 }));
    for (let n = 0; n < 5; n++) this.takes(this.t.receives('x'.repeat(SEGMENT)));
    this.acknowledges();
  }

  /** The guest gets the segments' data. */
  takes(segments: ReturnType<Trace['send']>): void {
    for (const { data } of segments) this.received += data.length;
  }

  /** The guest acknowledges what it got, all but `missing` bytes. */
  acknowledges(missing = 0, window = 65_535): void {
    this.takes(this.t.send({ flags: ACK, seq: this.seq, ack: (this.ack + this.received - missing) | 0, window }));
  }
}

describe('a long download from the host itself', () => {
  it('is read to the end before any of it is dropped', () => {
    const d = new Download();
    expect(d.t.socket.received).toBe('');
    d.takes(d.t.receives('y'.repeat(3 * SEGMENT + 100)));
    d.acknowledges();
    d.acknowledges();
    expect(d.t.socket.received).toHaveLength(3 * SEGMENT + 100);
    d.acknowledges();
    d.acknowledges();
    expect(d.received).toBe(5 * SEGMENT + 3 * SEGMENT + 100);
    expect(d.t.socket.received).toBe('');
  });

  it('shows its sender a small window, set anew whenever something was dropped', () => {
    const d = new Download();
    d.t.socket.clamp = Number.POSITIVE_INFINITY;
    d.takes(d.t.receives('y'.repeat(2 * SEGMENT)));
    d.acknowledges();
    expect(d.t.socket.clamp).toBe(Number.POSITIVE_INFINITY);
    d.acknowledges();
    d.acknowledges();
    expect(d.t.socket.received).toBe('');
    expect(d.t.socket.clamp).toBe(256 << 10);
  });

  it('is dropped all the same while the guest is the slower one: its window is shut', () => {
    const d = new Download();
    d.takes(d.t.receives('y'.repeat(6 * SEGMENT)));
    d.acknowledges(SEGMENT / 5, 100);
    expect(d.t.socket.received.length).toBeLessThan(6 * SEGMENT);
  });

  it('is sent again from where the guest missed something, whatever the socket keeps', () => {
    const d = new Download();
    const text = Array.from({ length: 3 * SEGMENT }, (_, n) => String.fromCharCode(97 + (n % 23))).join('');
    d.takes(d.t.receives(text));
    d.acknowledges();
    const before = d.received - 5 * SEGMENT;
    d.acknowledges(10);
    const again = d.t.passes(300).map(({ data }) => data);
    expect(again.join('').length).toBeGreaterThan(SEGMENT);
    expect(text.startsWith(again.join(''), before - 10)).toBe(true);
  });

  it('is kept for 16 MiB at most', () => {
    const d = new Download();
    d.t.socket.received = 'y'.repeat(18 << 20);
    d.takes(d.t.event(1));
    let most = 0;
    while (d.t.socket.received.length > 4 << 20) {
      const kept = d.t.socket.received.length;
      d.acknowledges();
      most = Math.max(most, kept - d.t.socket.received.length);
    }
    expect(most).toBeGreaterThan(16 << 20);
    expect(most).toBeLessThan((16 << 20) + 2 * SEGMENT);
  });

  it('ends with nothing left in the socket, so that its close is no reset', () => {
    const d = new Download();
    d.takes(d.t.receives('y'.repeat(2 * SEGMENT)));
    d.takes(d.t.peerFinishes());
    for (let n = 0; n < 5; n++) d.acknowledges();
    expect(d.received).toBe(7 * SEGMENT);
    expect(d.t.socket.received).toBe('');
  });

  it('has a buffer of its own size beside others, if the host allows that', () => {
    for (const mostReceiveBuffer of [FIXED_BUFFER, FIXED_BUFFER - 1]) {
      const d = new Download({ mostReceiveBuffer });
      const first = d.t.socket;
      d.t.ports = [40_001, 80];
      const { seq, ack } = d.t.establish({ window: 65_535, scale: 7 });
      for (let n = 1; n <= 5; n++) {
        d.t.receives('x'.repeat(SEGMENT));
        d.t.send({ flags: ACK, seq, ack: (ack + n * SEGMENT) | 0, window: 65_535 });
      }
      expect(first.fixed).toBe(0);
      expect(d.t.socket.fixed).toBe(mostReceiveBuffer === FIXED_BUFFER ? FIXED_BUFFER : 0);
    }
  });
});

describe('a download is dropped as the guest acknowledges it', () => {
  it.each<[string, TraceOptions, string]>([
    ['from another host', {}, '192.0.2.7'],
    ['in segments of an MTU', { segmentation: false }, '10.0.2.2'],
    ['without SO_PEEK_OFF', { peekOffset: false }, '10.0.2.2'],
  ])('%s', (_case, options, destination) => {
    const d = new Download(options, destination);
    for (let n = 0; d.received < 5 * SEGMENT && n < 1000; n++) d.acknowledges();
    expect(d.t.socket.received).toBe('');
    d.takes(d.t.receives('y'.repeat(4 * SEGMENT)));
    d.acknowledges();
    expect(d.t.socket.received.length).toBeLessThan(4 * SEGMENT);
    expect(d.t.socket.clamp).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('whatever comes', () => {
  it('the guest gets the bytes in order, and the socket keeps all that it might want again', () => {
    const out = Array.from({ length: 6000 }, (_, n) => String.fromCharCode(97 + (n % 26))).join('');
    const step = fc.oneof(
      fc.record({ kind: fc.constant('receive' as const), bytes: fc.nat(900) }),
      fc.record({ kind: fc.constant('ack' as const), part: fc.nat(100), window: fc.nat(4000) }),
      fc.record({ kind: fc.constant('time' as const), ms: fc.nat(600) }),
      fc.record({ kind: fc.constant('buffers' as const), count: fc.nat(3) }),
    );
    const run = (steps: (typeof step extends fc.Arbitrary<infer T> ? T : never)[]): void => {
      const t = new Trace({ segmentation: true });
      const { seq, ack } = t.establish({ window: 1000 });
      t.flows.records[t.socket.token * FLOW_WORDS + FLAGS]! |= BULK | LOOPBACK | READ_FIRST;
      let [offered, got, acknowledged] = ['', '', 0];
      const take = (segments: ReturnType<Trace['send']>): void => {
        for (const { seq: at, data } of segments) {
          const offset = (at - ack) | 0;
          if (data !== '' && offset <= got.length) got = got.slice(0, offset) + data + got.slice(offset + data.length);
        }
      };
      for (const s of steps) {
        if (s.kind === 'receive') {
          const more = out.slice(offered.length, offered.length + s.bytes);
          offered += more;
          take(t.receives(more));
        } else if (s.kind === 'ack') {
          acknowledged = Math.max(acknowledged, Math.floor((got.length * s.part) / 100));
          take(t.send({ flags: ACK, seq, ack: ack + acknowledged, window: s.window }));
        } else if (s.kind === 'time') take(t.passes(s.ms));
        else {
          t.sink.buffers = s.count;
          t.flows.wakeWaiting();
        }
        expect(offered.startsWith(got)).toBe(true);
        if (t.open === 0) break;
        expect(t.socket.received.endsWith(offered.slice(acknowledged))).toBe(true);
      }
    };
    fc.assert(fc.property(fc.array(step, { maxLength: 60, size: 'max' }), run), { numRuns: 300 });
  });
});
