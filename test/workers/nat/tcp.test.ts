/** TCP towards the guest as packet traces, named by the clause that they prove. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { C } from '../../../workers/counters.js';
import { parseIpv4Address } from '../../../workers/wire/ipv4.js';
import { ACK, FIN, PSH, RST, SYN, Trace, URG } from './trace.js';

const ECONNREFUSED = 111;
const EMFILE = 24;
const EADDRNOTAVAIL = 99;

describe('opening', () => {
  it('A2, A3: the SYN is answered when the socket is connected, not before', () => {
    const t = new Trace();
    expect(t.send({ flags: SYN, seq: 1000, mss: 1460, scale: 7 })).toEqual([]);
    const [synAck, ...more] = t.connects();
    expect(synAck).toMatchObject({ flags: SYN | ACK, ack: 1001, mss: 1460, scale: 7 });
    expect(more).toEqual([]);
    expect(t.send({ flags: ACK, seq: 1001, ack: synAck!.seq + 1 })).toEqual([]);
    expect(t.socket).toMatchObject({ address: parseIpv4Address('192.0.2.7'), port: 80 });
  });

  it('A10: a SYN sent again while connecting opens no second socket', () => {
    const t = new Trace();
    for (let n = 0; n < 5; n++) expect(t.send({ flags: SYN, seq: 1000 })).toEqual([]);
    expect(t.socketCount).toBe(1);
    expect(t.connects()).toHaveLength(1);
    expect(t.send({ flags: SYN, seq: 1000 })).toMatchObject([{ flags: SYN | ACK, ack: 1001 }]);
    expect(t.socketCount).toBe(1);
  });

  it('A5: a refused connect is a RST, and the flow is gone', () => {
    const t = new Trace();
    t.send({ flags: SYN, seq: 1000 });
    expect(t.fails(ECONNREFUSED)).toMatchObject([{ flags: RST | ACK, seq: 0, ack: 1001 }]);
    expect(t.open).toBe(0);
  });

  it('A6: a silent connect is a RST after 3 s', () => {
    const t = new Trace();
    t.send({ flags: SYN, seq: 1000 });
    expect(t.passes(2_900)).toEqual([]);
    expect(t.passes(300)).toMatchObject([{ flags: RST | ACK, ack: 1001 }]);
    expect(t.open).toBe(0);
    expect(t.socket.state).toBe('aborted');
  });

  it.each([EMFILE, EADDRNOTAVAIL])('no socket (errno %i): a RST, and nothing is kept', (errno) => {
    const t = new Trace();
    t.engine.socketErrno = errno;
    expect(t.send({ flags: SYN, seq: 1000 })).toMatchObject([{ flags: RST | ACK, ack: 1001 }]);
    t.engine.socketErrno = 0;
    t.engine.connectErrno = errno;
    expect(t.send({ flags: SYN, seq: 1000 })).toMatchObject([{ flags: RST | ACK, ack: 1001 }]);
    expect(t.open).toBe(0);
  });

  it('a full shard refuses with a RST', () => {
    const t = new Trace({ flows: 1 });
    t.establish();
    t.ports = [40_001, 80];
    expect(t.send({ flags: SYN, seq: 5 })).toMatchObject([{ flags: RST | ACK, ack: 6 }]);
    expect(t.counters[C.shardFull]).toBe(1);
  });

  it('RFC 9293 §3.7.1: no MSS option means 536; RFC 7323 §2.2: no window scale means none of ours', () => {
    const t = new Trace();
    t.send({ flags: SYN, seq: 1000 });
    const [synAck] = t.connects();
    expect(synAck).toMatchObject({ scale: -1 });
    t.send({ flags: ACK, seq: 1001, ack: synAck!.seq + 1 });
    expect(t.receives('x'.repeat(600)).map(({ data }) => data.length)).toEqual([536, 64]);
  });

  it('RFC 9293 §3.7.1: an MSS of 1 is no reason to send single bytes', () => {
    const t = new Trace();
    t.establish({ mss: 1 });
    expect(t.receives('x'.repeat(88))).toHaveLength(1);
  });

  it.each(['0.0.0.0', '127.0.0.1', '10.0.2.2', '10.0.2.9', '169.254.169.254', '224.0.0.1', '255.255.255.255'])(
    'secure by default: %s answers with a RST, without a socket',
    (address) => {
      const t = new Trace();
      t.destination = parseIpv4Address(address);
      expect(t.send({ flags: SYN, seq: 1000 })).toMatchObject([{ flags: RST | ACK, ack: 1001 }]);
      expect(t.socketCount).toBe(0);
      expect(t.counters[C.deniedByPolicy]).toBe(1);
    },
  );

  it('10.0.2.2 is the host, if allowed', () => {
    const t = new Trace({ allowHostLoopback: true });
    t.destination = parseIpv4Address('10.0.2.2');
    t.send({ flags: SYN, seq: 1000 });
    expect(t.socket.address).toBe(parseIpv4Address('127.0.0.1'));
  });
});

describe('RFC 9293 §3.10.7.1: segments of no connection', () => {
  it.each([
    [
      { flags: ACK, seq: 5, ack: 77 },
      { flags: RST, seq: 77 },
    ],
    [
      { flags: FIN, seq: 5 },
      { flags: RST | ACK, seq: 0, ack: 6 },
    ],
    [
      { flags: PSH, seq: 5, data: 'abc' },
      { flags: RST | ACK, seq: 0, ack: 8 },
    ],
    [
      { flags: SYN | ACK, seq: 5, ack: 9 },
      { flags: RST, seq: 9 },
    ],
  ])('%o gets %o', (segment, reset) => {
    const t = new Trace();
    expect(t.send(segment)).toMatchObject([reset]);
    expect(t.open).toBe(0);
  });

  it('a RST gets nothing', () => {
    expect(new Trace().send({ flags: RST, seq: 5 })).toEqual([]);
  });
});

describe('from the guest', () => {
  it('RFC 9293 §3.8.6.3: a small segment is acknowledged with the answer', () => {
    const t = new Trace();
    const { seq, ack } = t.establish();
    expect(t.send({ flags: ACK | PSH, seq, ack, data: 'hello' })).toEqual([]);
    expect(t.socket.sent).toBe('hello');
    expect(t.receives('world')).toMatchObject([{ flags: ACK | PSH, seq: ack, ack: seq + 5, data: 'world' }]);
    expect(t.passes(100)).toEqual([]);
  });

  it('RFC 9293 §3.8.6.3: without an answer it is acknowledged soon, and every second one at once', () => {
    const t = new Trace();
    const { seq, ack } = t.establish();
    t.send({ flags: ACK, seq, ack, data: 'a' });
    expect(t.passes(16)).toMatchObject([{ flags: ACK, ack: seq + 1, data: '' }]);
    t.send({ flags: ACK, seq: seq + 1, ack, data: 'b' });
    expect(t.send({ flags: ACK, seq: seq + 2, ack, data: 'c' })).toMatchObject([{ ack: seq + 3 }]);
  });

  it('RFC 9293 §3.10.7.4: bytes beyond a gap are dropped and asked for; old ones are acknowledged again', () => {
    const t = new Trace();
    const { seq, ack } = t.establish();
    expect(t.send({ flags: ACK, seq: seq + 3, ack, data: 'def' })).toMatchObject([{ flags: ACK, ack: seq }]);
    t.send({ flags: ACK, seq, ack, data: 'abc' });
    t.passes(16);
    expect(t.send({ flags: ACK, seq, ack, data: 'abc' })).toMatchObject([{ flags: ACK, ack: seq + 3 }]);
    expect(t.send({ flags: ACK, seq: seq + 1, ack, data: 'bcdef' })).toMatchObject([{ ack: seq + 6 }]);
    expect(t.socket.sent).toBe('abcdef');
  });

  it('RFC 6093 §5: urgent data is data, whatever the pointer says', () => {
    const t = new Trace();
    const { seq, ack } = t.establish();
    t.send({ flags: ACK | URG, seq, ack, data: 'abc' });
    expect(t.socket.sent).toBe('abc');
  });

  it('what the socket does not take is held, its window standing still, and goes when it can', () => {
    const t = new Trace();
    const { seq, ack } = t.establish();
    t.socket.space = 4;
    const [first] = [...t.send({ flags: ACK, seq, ack, data: 'abcdefgh' }), ...t.passes(16)];
    expect(first).toMatchObject({ ack: seq + 4 });
    const edge = first!.ack + first!.window;
    const [second] = t.send({ flags: ACK | FIN, seq: seq + 8, ack, data: 'ij' }).concat(t.passes(16));
    expect(second).toMatchObject({ ack: seq + 4 });
    expect(second!.ack + second!.window).toBe(edge);
    expect(t.givenBack).toEqual([]);
    expect(t.takes(Number.POSITIVE_INFINITY)).toMatchObject([{ ack: seq + 11 }]);
    expect(t.socket).toMatchObject({ sent: 'abcdefghij', finished: true });
    expect(t.givenBack).toHaveLength(2);
  });

  it.each([
    ['10.0.2.2', 'does not pace', 2 << 20],
    ['192.0.2.7', 'paces as the host will have it', 4 << 20],
  ])('to %s the socket %s, and the window grows to %i bytes', (destination, _paces, largest) => {
    const t = new Trace({ allowHostLoopback: true });
    t.destination = parseIpv4Address(destination);
    let { seq, ack } = t.establish({ scale: 7 });
    expect(t.engine.unpaced.size).toBe(destination === '10.0.2.2' ? 1 : 0);
    let window = 0;
    for (let n = 0; n < 100; n++, seq += 1400) {
      for (const answer of t.send({ flags: ACK, seq, ack, data: 'x'.repeat(1400) })) window = answer.window << 7;
    }
    expect(window).toBeGreaterThan(largest - (1 << 20));
    expect(window).toBeLessThanOrEqual(largest);
  });

  it('RFC 9293 §3.8.6.2.2: the window shown never shrinks', () => {
    const t = new Trace();
    const { ack } = t.establish({ scale: 7 });
    let seq = 1001;
    let edge = 0;
    for (let n = 0; n < 200; n++) {
      for (const { ack: acked, window } of t.send({ flags: ACK, seq, ack, data: 'x'.repeat(1400) })) {
        expect(acked + window * 128).toBeGreaterThanOrEqual(edge - 128);
        edge = acked + window * 128;
      }
      seq += 1400;
    }
    expect(edge).toBeGreaterThan(seq);
  });

  it('RFC 9293 §3.1: a wrong checksum is dropped, when the guest fills checksums in itself', () => {
    const t = new Trace();
    const { seq, ack } = t.establish();
    t.frame.needsCsum = false;
    t.send({ flags: ACK, seq, ack, data: 'good' });
    t.send({ flags: ACK, seq: seq + 4, ack, data: 'bad', corrupt: true });
    expect(t.socket.sent).toBe('good');
    expect(t.counters[C.badChecksums]).toBe(1);
  });
});

describe('to the guest', () => {
  it('sends no more than its window, and the rest as it opens', () => {
    const t = new Trace();
    const { seq, ack } = t.establish({ window: 3000 });
    const data = 'x'.repeat(5000);
    expect(t.receives(data).map((s) => s.data.length)).toEqual([1460, 1460]);
    const more = t.send({ flags: ACK, seq, ack: ack + 2920, window: 3000 });
    expect(more.map((s) => s.data.length)).toEqual([1460, 620]);
    t.send({ flags: ACK, seq, ack: ack + 5000, window: 3000 });
    expect(t.socket.received).toBe('');
  });

  it('RFC 6298 §5: what is not acknowledged is sent again, with doubling time, and given up at last', () => {
    const t = new Trace();
    const { ack } = t.establish();
    expect(t.receives('hello')).toHaveLength(1);
    expect(t.passes(180)).toEqual([]);
    expect(t.passes(60)).toMatchObject([{ seq: ack, data: 'hello' }]);
    expect(t.passes(330)).toEqual([]);
    expect(t.passes(120)).toMatchObject([{ seq: ack, data: 'hello' }]);
    const rest = t.passes(600_000);
    expect(rest.at(-1)).toMatchObject({ flags: RST | ACK });
    expect(rest.length).toBeLessThan(12);
    expect(t.open).toBe(0);
  });

  it('RFC 5681 §3.2: three duplicate acknowledgments bring a segment again at once', () => {
    const t = new Trace();
    const { seq, ack } = t.establish();
    t.receives('x'.repeat(4000));
    const duplicate = { flags: ACK, seq, ack };
    expect(t.send(duplicate)).toEqual([]);
    expect(t.send(duplicate)).toEqual([]);
    expect(t.send(duplicate)[0]).toMatchObject({ seq: ack });
  });

  it('RFC 9293 §3.8.6.1: a closed window is probed, and sending goes on when it opens', () => {
    const t = new Trace();
    const { seq, ack } = t.establish({ window: 0 });
    expect(t.receives('hello')).toEqual([]);
    const [probe] = t.passes(300);
    expect(probe).toMatchObject({ flags: ACK, seq: ack - 1, data: '' });
    expect(t.send({ flags: ACK, seq, ack, window: 100 })).toMatchObject([{ seq: ack, data: 'hello' }]);
  });

  it('C7: asks for a large receive buffer once, when a download becomes long', () => {
    const t = new Trace({ segmentation: true });
    const { seq, ack } = t.establish({ window: 65_535, scale: 7 });
    for (let received = 0; received < 600_000; received += 60_000) {
      expect(t.socket.grown).toHaveLength(received > 256 << 10 ? 1 : 0);
      t.receives('x'.repeat(60_000));
      t.send({ flags: ACK, seq, ack: (ack + received + 60_000) | 0, window: 512 });
    }
    expect(t.socket.received).toBe('');
  });

  it('waits for buffers, and loses nothing', () => {
    const t = new Trace();
    const { ack } = t.establish();
    t.sink.buffers = 0;
    expect(t.receives('hello')).toEqual([]);
    expect(t.buffersCome()).toMatchObject([{ seq: ack, data: 'hello' }]);
  });
});

describe('virtio 1.2 §5.1.6.5.6: the pair that a flow is steered to', () => {
  const SEGMENT = 1460;

  /** A flow on pair 0 with `segments` of them in flight. */
  function download(segments: number): { t: Trace; acknowledge: (pair: number, segments: number) => void } {
    const t = new Trace({ pairs: 2, segmentation: false });
    const { seq, ack } = t.establish({ scale: 7 });
    t.receives('x'.repeat(segments * SEGMENT));
    const acknowledge = (pair: number, acked: number): void => {
      t.pair = pair;
      t.send({ flags: ACK, seq, ack: ack + acked * SEGMENT, window: 2048 });
    };
    return { t, acknowledge };
  }

  it('is at once the one that the guest sends on, when nothing is in flight', () => {
    const { t, acknowledge } = download(2);
    acknowledge(1, 2);
    t.receives('y');
    expect(t.pairUsed).toBe(1);
  });

  it('stays while a guest acknowledges data in flight on both in turn: it would overtake itself', () => {
    const { t, acknowledge } = download(40);
    for (let acked = 1; acked < 39; acked++) {
      acknowledge(acked % 2, acked);
      t.receives('y');
      expect(t.pairUsed).toBe(0);
    }
  });

  it('follows a guest that goes on on another pair', () => {
    const { t, acknowledge } = download(40);
    for (let acked = 1; acked < 39 && t.pairUsed === 0; acked++) {
      acknowledge(1, acked);
      t.receives('y');
    }
    expect(t.pairUsed).toBe(1);
  });
});

describe('closing', () => {
  it('RFC 9293 §3.6: the guest first; both half-closed ways carry data until their FIN', () => {
    const t = new Trace();
    const { seq, ack } = t.establish();
    t.send({ flags: ACK | FIN, seq, ack });
    expect(t.socket.finished).toBe(true);
    expect(t.receives('late')).toMatchObject([{ ack: seq + 1, data: 'late' }]);
    expect(t.peerFinishes()).toMatchObject([{ flags: FIN | ACK, seq: ack + 4 }]);
    expect(t.send({ flags: ACK, seq: seq + 1, ack: ack + 5 })).toEqual([]);
    expect(t.open).toBe(0);
    expect(t.socket).toMatchObject({ state: 'closed', received: '' });
  });

  it('RFC 9293 §3.6: the host first; late FINs of the guest are acknowledged in TIME_WAIT', () => {
    const t = new Trace();
    const { seq, ack } = t.establish();
    expect(t.peerFinishes()).toMatchObject([{ flags: FIN | ACK, seq: ack }]);
    t.send({ flags: ACK, seq, ack: ack + 1, data: 'late' });
    expect(t.socket.sent).toBe('late');
    const last = { flags: ACK | FIN, seq: seq + 4, ack: ack + 1 };
    expect(t.send(last)).toMatchObject([{ flags: ACK, ack: seq + 5 }]);
    expect(t.socket.state).toBe('closed');
    expect(t.send(last)).toMatchObject([{ flags: ACK, ack: seq + 5 }]);
    t.passes(1_100);
    expect(t.open).toBe(0);
  });

  it('RFC 9293 §3.6.1: a new SYN may take the place of a connection in TIME_WAIT', () => {
    const t = new Trace();
    const { seq, ack } = t.establish();
    t.peerFinishes();
    t.send({ flags: ACK | FIN, seq, ack: ack + 1 });
    expect(t.send({ flags: SYN, seq: seq + 100 })).toEqual([]);
    expect(t.socketCount).toBe(2);
    expect(t.connects()).toMatchObject([{ flags: SYN | ACK, ack: seq + 101 }]);
  });

  it('a lost FIN is sent again', () => {
    const t = new Trace();
    const { seq, ack } = t.establish();
    t.receives('bye');
    t.peerFinishes();
    const again = t.passes(260);
    expect(again.map((s) => [s.seq, s.data, s.flags & FIN])).toEqual([
      [ack, 'bye', 0],
      [ack + 3, '', FIN],
    ]);
    t.send({ flags: ACK, seq, ack: ack + 4 });
    expect(t.passes(2_000)).toEqual([]);
  });

  it('the socket breaks: a RST', () => {
    const t = new Trace();
    const { seq, ack } = t.establish();
    expect(t.fails(104)).toMatchObject([{ flags: RST | ACK, seq: ack, ack: seq }]);
    expect(t.open).toBe(0);
  });
});

describe('RFC 5961', () => {
  it('§3.2: a RST must have the next sequence number; another in the window is challenged, one outside ignored', () => {
    const t = new Trace();
    const { seq, ack } = t.establish();
    expect(t.send({ flags: RST, seq: seq + 10 })).toMatchObject([{ flags: ACK, seq: ack, ack: seq }]);
    expect(t.send({ flags: RST, seq: seq - 10 })).toEqual([]);
    expect(t.send({ flags: RST, seq: seq + 1_000_000 })).toEqual([]);
    expect(t.open).toBe(1);
    t.send({ flags: RST, seq });
    expect(t.open).toBe(0);
    expect(t.socket.state).toBe('aborted');
  });

  it('§4: a SYN in a connection is challenged', () => {
    const t = new Trace();
    const { seq, ack } = t.establish();
    expect(t.send({ flags: SYN, seq: 99 })).toMatchObject([{ flags: ACK, seq: ack, ack: seq }]);
    expect(t.socketCount).toBe(1);
  });

  it('§5: an acknowledgment of what was never sent is answered, and its data dropped', () => {
    const t = new Trace();
    const { seq, ack } = t.establish();
    expect(t.send({ flags: ACK, seq, ack: ack + 1000, data: 'x' })).toMatchObject([{ flags: ACK, ack: seq }]);
    expect(t.socket.sent).toBe('');
  });
});

describe('RFC 5382 REQ-5: idle flows', () => {
  it('established: more than 2 h 4 min', () => {
    const t = new Trace();
    t.establish();
    expect(t.passes(7_430_000)).toEqual([]);
    expect(t.open).toBe(1);
    expect(t.passes(20_000)).toMatchObject([{ flags: RST | ACK }]);
    expect(t.open).toBe(0);
  });

  it('half-closed: 4 min', () => {
    const t = new Trace();
    const { seq, ack } = t.establish();
    t.send({ flags: ACK | FIN, seq, ack });
    t.passes(239_000);
    expect(t.open).toBe(1);
    t.passes(8_000);
    expect(t.open).toBe(0);
  });
});

describe('whatever comes', () => {
  it('frames cut at any length, of any type, are survived', () => {
    const frame = fc.uint8Array({ minLength: 14, maxLength: 120, size: 'max' });
    const types = fc.constantFrom([0x08, 0x00], [0x08, 0x06], [0x86, 0xdd], [0x12, 0x34]);
    fc.assert(
      fc.property(frame, types, fc.boolean(), (bytes, [high, low], tcpLike) => {
        bytes[12] = high!;
        bytes[13] = low!;
        if (tcpLike && bytes.length > 24) bytes.set([0x45, 0, 0, bytes.length - 14], 14);
        if (tcpLike && bytes.length > 24) bytes[23] = 6;
        new Trace().sendFrame(bytes);
      }),
      { numRuns: 2000 },
    );
  });

  it('segments in any order keep both byte streams whole', () => {
    const out = Array.from({ length: 4000 }, (_, n) => String.fromCharCode(97 + (n % 26))).join('');
    const step = fc.oneof(
      fc.record({ kind: fc.constant('data' as const), at: fc.nat(3900), length: fc.nat(100) }),
      fc.record({ kind: fc.constant('space' as const), bytes: fc.nat(200) }),
      fc.record({ kind: fc.constant('receive' as const), bytes: fc.nat(300) }),
      fc.record({ kind: fc.constant('ack' as const), part: fc.nat(100), window: fc.nat(4000) }),
      fc.record({ kind: fc.constant('time' as const), ms: fc.nat(600) }),
      fc.record({ kind: fc.constant('buffers' as const), count: fc.nat(3) }),
    );
    const run = (steps: (typeof step extends fc.Arbitrary<infer T> ? T : never)[]): void => {
      const t = new Trace();
      const { seq, ack } = t.establish({ window: 4000 });
      let offered = '';
      let got = '';
      const take = (segments: ReturnType<Trace['send']>): void => {
        for (const { seq: at, data } of segments) {
          const offset = (at - ack) | 0;
          if (data !== '' && offset <= got.length) got = got.slice(0, offset) + data + got.slice(offset + data.length);
        }
      };
      for (const s of steps) {
        if (t.open === 0) break;
        if (s.kind === 'data')
          take(t.send({ flags: ACK, seq: seq + s.at, ack, data: out.slice(s.at, s.at + s.length) }));
        else if (s.kind === 'space') take(t.takes(s.bytes));
        else if (s.kind === 'receive') {
          const more = out.slice(offered.length, offered.length + s.bytes);
          offered += more;
          take(t.receives(more));
        } else if (s.kind === 'ack') {
          const part = Math.floor((got.length * s.part) / 100);
          take(t.send({ flags: ACK, seq, ack: ack + part, window: s.window }));
        } else if (s.kind === 'time') take(t.passes(s.ms));
        else {
          t.sink.buffers = s.count;
          t.flows.wakeWaiting();
        }
        expect(out.startsWith(t.socket.sent)).toBe(true);
        expect(offered.startsWith(got)).toBe(true);
      }
    };
    fc.assert(fc.property(fc.array(step, { maxLength: 60, size: 'max' }), run), { numRuns: 300 });
  });
});
