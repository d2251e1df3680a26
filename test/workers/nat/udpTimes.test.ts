/** How long UDP flows last, and what becomes of datagrams that find no room (RFC 4787 §4.3). */
import { describe, expect, it } from 'vitest';
import { C } from '../../../workers/counters.js';
import { EAGAIN, EPOLLIN } from '../../../workers/engine/engine.js';
import { BULKY, SMALL } from '../../../workers/turnLists.js';
import { parseIpv4Address } from '../../../workers/wire/ipv4.js';
import { udpDatagram } from '../../e2e/guestFrames.js';
import { Trace } from './trace.js';
import { parseIcmp } from './udpHost.js';

const MINUTE = 60_000;
const destination = parseIpv4Address('192.0.2.7');
const from = (port: number, to = 9): Uint8Array =>
  udpDatagram({ destination, ports: [port, to], payload: Uint8Array.of(1) });

describe('RFC 4787 REQ-5', () => {
  it('a flow lasts five minutes from its last datagram, then its socket is closed', () => {
    const t = new Trace();
    t.sendDatagram(from(1));
    t.passes(5 * MINUTE - 100);
    expect([t.open, t.socket.state]).toEqual([1, 'connecting']);
    t.passes(200);
    expect([t.open, t.socket.state]).toEqual([0, 'closed']);
  });

  it('REQ-6 datagrams from the guest keep it', () => {
    const t = new Trace();
    for (let n = 0; n < 4; n++) {
      t.sendDatagram(from(1));
      t.passes(4 * MINUTE);
    }
    expect([t.open, t.socketCount]).toEqual([1, 1]);
  });

  it('and so do those of the peer', () => {
    const t = new Trace();
    t.sendDatagram(from(1));
    for (let n = 0; n < 4; n++) {
      t.passes(4 * MINUTE);
      t.receives('answer');
    }
    expect(t.counters[C.datagramsToGuest]).toBe(4);
    t.passes(4 * MINUTE);
    expect(t.open).toBe(1);
    t.passes(1.1 * MINUTE);
    expect(t.open).toBe(0);
  });

  it('REQ-5a one to a name server lasts half a minute from the answer, and as any without one', () => {
    const [answered, silent] = [new Trace(), new Trace()];
    for (const t of [answered, silent]) t.sendDatagram(from(1, 53));
    answered.receives('answer');
    for (const t of [answered, silent]) t.passes(29_000);
    expect([answered.open, silent.open]).toEqual([1, 1]);
    for (const t of [answered, silent]) t.passes(2_000);
    expect([answered.open, silent.open]).toEqual([0, 1]);
  });

  it('another server than that of names keeps its five minutes', () => {
    const t = new Trace();
    t.sendDatagram(from(1, 54));
    t.receives('answer');
    t.passes(4.9 * MINUTE);
    expect(t.open).toBe(1);
  });
});

describe('a datagram that finds no room', () => {
  it('in the shard is dropped and counted, and goes through once a flow has ended', () => {
    const t = new Trace({ flows: 2 });
    for (const port of [1, 2, 3]) expect(t.sendDatagram(from(port))).toEqual([]);
    expect([t.open, t.counters[C.shardFull], t.counters[C.datagramsFromGuest]]).toEqual([2, 1, 2]);
    t.passes(5.1 * MINUTE);
    t.sendDatagram(from(3));
    expect([t.open, t.counters[C.datagramsFromGuest]]).toEqual([1, 3]);
  });

  it('among the descriptors too', () => {
    const t = new Trace();
    t.engine.socketErrno = 24; // EMFILE
    expect(t.sendDatagram(from(1))).toEqual([]);
    expect([t.open, t.counters[C.socketFailed]]).toEqual([0, 1]);
    t.engine.socketErrno = 0;
    t.sendDatagram(from(1));
    expect([t.open, t.counters[C.datagramsFromGuest]]).toEqual([1, 1]);
  });

  it.each([
    ['ENETUNREACH', 101, 0],
    ['EHOSTUNREACH', 113, 1],
    ['EACCES', 13, 13],
  ])('no way to its destination (%s) is told to the guest', (_, errno, code) => {
    const t = new Trace();
    t.engine.socketErrno = errno;
    const [frame] = t.sendDatagram(from(1));
    expect(parseIcmp(frame!)).toMatchObject({
      from: '10.0.2.2',
      type: 3,
      code,
      sums: [true, true, true],
      quoted: [17, '10.0.2.15', '192.0.2.7', 1, 9],
    });
  });

  it.each([0, parseIpv4Address('127.0.0.1'), parseIpv4Address('224.0.0.1'), -1])(
    'RFC 1122 §3.2.2 who is no single host (%i) is told nothing',
    (source) => {
      const t = new Trace();
      t.engine.socketErrno = 101;
      expect(t.sendDatagram(udpDatagram({ source, destination, ports: [1, 9], payload: new Uint8Array(1) }))).toEqual(
        [],
      );
    },
  );
});

it('TCP and UDP with the same addresses and ports are two flows', () => {
  const t = new Trace();
  t.destination = destination;
  t.ports = [1, 9];
  t.send({ flags: 2, seq: 1 });
  t.sendDatagram(from(1));
  expect([t.open, t.socketCount]).toEqual([2, 2]);
});

it('a guest without receive buffers gets what came once it has some', () => {
  const t = new Trace();
  t.sendDatagram(from(1));
  t.sink.buffers = 0;
  t.receives('answer');
  expect(t.counters[C.datagramsToGuest]).toBe(0);
  t.buffersCome();
  expect(t.counters[C.datagramsToGuest]).toBe(1);
});

describe('10.0.2.3', () => {
  const RESOLVER = parseIpv4Address('127.0.0.53');
  const nameServer = parseIpv4Address('10.0.2.3');
  const query = (port: number): Uint8Array =>
    udpDatagram({ destination: nameServer, ports: [1, port], payload: Uint8Array.of(1) });

  it("port 53 leads to the host's name server, be it on the host's loopback, and no other port does", () => {
    const t = new Trace();
    t.resolver[0] = RESOLVER;
    t.sendDatagram(query(53));
    expect([t.socket.address, t.socket.port]).toEqual([RESOLVER, 53]);
    t.receives('answer');
    expect(t.counters[C.datagramsToGuest]).toBe(1);
    expect(parseIcmp(t.sendDatagram(query(54))[0]!)).toMatchObject({ type: 3, code: 13 });
    expect(t.socketCount).toBe(1);
  });

  it('by TCP too', () => {
    const t = new Trace();
    t.resolver[0] = RESOLVER;
    t.destination = nameServer;
    t.ports = [1, 53];
    t.send({ flags: 2, seq: 1 });
    expect([t.socket.address, t.socket.port]).toEqual([RESOLVER, 53]);
  });

  it('is prohibited where there is none', () => {
    const t = new Trace();
    expect(parseIcmp(t.sendDatagram(query(53))[0]!)).toMatchObject({ type: 3, code: 13 });
    expect(t.socketCount).toBe(0);
  });
});

it('a flow with more than its share of a turn goes on after the others, among those with much', () => {
  const t = new Trace();
  const flood = 300;
  t.sendDatagram(from(1));
  let left = flood;
  t.engine.receiveDatagram = () => (left-- > 0 ? 1 : -EAGAIN);
  t.event(EPOLLIN);
  const first = t.counters[C.datagramsToGuest]!;
  expect(first).toBeGreaterThan(0);
  expect(first).toBeLessThan(flood);
  expect([t.flows.listed.size(0, SMALL), t.flows.listed.size(0, BULKY)]).toEqual([0, 1]);
  for (let n = 0; n < flood; n++) t.passes(1);
  expect(t.counters[C.datagramsToGuest]).toBe(flood);
  expect(t.flows.listed.length).toBe(0);
});
