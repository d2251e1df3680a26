/** UDP between a guest and its host, on running workers (RFC 768, RFC 4787, RFC 5508, RFC 1122 §3.2.2). */
import * as fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_MRG_RXBUF } from '../../../device/features.js';
import type { CounterName } from '../../../workers/counters.js';
import { setU16 } from '../../../workers/wire/bytes.js';
import { parseIpv4Address } from '../../../workers/wire/ipv4.js';
import type { ControlGuest } from '../../device/controlGuest.js';
import { VhostUserFront } from '../../device/fronts.js';
import { FEATURES, type QueueGuest } from '../../device/queueGuest.js';
import { type DatagramOptions, udpDatagram } from '../../e2e/guestFrames.js';
import { until } from '../../until.js';
import { UdpServer, fragmentOf, parseIcmp, parseUdp, udpDatagramCut, udpSum } from './udpHost.js';

const HEADER = 12;
const GUEST_PORT = 40_000;
/** What a link of MTU 1500 carries. */
const LONGEST = 1472;
const bytes = (length: number, first = 0): Uint8Array => Uint8Array.from({ length }, (_, n) => (first + n) & 0xff);

const label = (port: number, payload: Uint8Array): string => `${port} ${Buffer.from(payload).toString('hex')}`;

describe.each([1, 2])('%i workers', (workers) => {
  let front: VhostUserFront;
  let echo: UdpServer;
  /** Receives and says nothing. */
  let sink: UdpServer;
  const open: AsyncDisposable[] = [];

  beforeAll(async () => {
    front = await VhostUserFront.create(workers);
    echo = await UdpServer.start(true);
    sink = await UdpServer.start(false);
  });
  afterEach(async () => {
    for (const server of open.splice(0)) await server[Symbol.asyncDispose]();
    sink.received.length = 0;
  });
  afterAll(async () => {
    await front.close();
    await echo[Symbol.asyncDispose]();
    await sink[Symbol.asyncDispose]();
  });

  const guestWith = (options?: Parameters<VhostUserFront['open']>[0]): Promise<ControlGuest> => front.open(options);
  const datagram = (payload: Uint8Array, more: Partial<DatagramOptions> = {}): Uint8Array =>
    udpDatagram({ ports: [GUEST_PORT, echo.port], payload, ...more });
  /** Waits for the next frame that comes in, on whatever pair. */
  const next = (guest: QueueGuest): Promise<unknown> => until(() => guest.takeFrameOn(0) || guest.takeFrameOn(1));
  const exchange = async (guest: QueueGuest, pair: number, frame: Uint8Array): Promise<ReturnType<typeof parseUdp>> => {
    await guest.sendAllOn(pair, [frame]);
    await next(guest);
    return parseUdp(guest.lastFrame);
  };
  /** By how much counters grow. */
  const growth = async (names: readonly CounterName[], act: () => Promise<unknown>): Promise<number[]> => {
    const before = names.map((name) => front.counter(name));
    await act();
    return names.map((name, n) => front.counter(name) - before[n]!);
  };

  describe('an echo', () => {
    const CSUM = VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM;
    it.each([
      ['with checksums of our own', {}],
      ['with partial checksums', { features: FEATURES | CSUM }],
      ['in buffers of 100 bytes', { receiveBuffer: 100 }],
      ['without MRG_RXBUF', { features: FEATURES & ~VIRTIO_NET_F_MRG_RXBUF }],
    ])('of 0, 1, 17 and 1472 bytes, %s', async (_, options) => {
      await using guest = await guestWith(options);
      const partial = 'features' in options && options.features === (FEATURES | CSUM);
      for (const length of [0, 1, 17, LONGEST]) {
        const payload = bytes(length, length);
        const answer = await exchange(guest, 0, datagram(payload));
        expect(answer).toEqual({
          source: '10.0.2.2',
          destination: '10.0.2.15',
          ports: [echo.port, GUEST_PORT],
          payload,
        });
        // A partial checksum is the pseudo-header's sum, to be completed from byte 34 on at 6 (virtio 1.2 §5.1.6.4.1).
        const { lastHeader, lastFrame } = guest;
        expect([lastHeader[0], lastHeader[6], lastHeader[8]]).toEqual(partial ? [1, 34, 6] : [0, 0, 0]);
        expect(partial || udpSum(lastFrame) === 0xffff).toBe(true);
      }
    });

    it('of a datagram whose checksum comes to 0 is sent with 0xffff (RFC 768)', async () => {
      await using guest = await guestWith();
      const frame = datagram(bytes(2));
      const fill = (udpSum(datagram(new Uint8Array(2))), (frame[40]! << 8) | frame[41]!);
      // One's complement: adding the checksum to the payload makes the sum 0xffff, and its complement 0.
      const payload = new Uint8Array(2);
      const sum = ((frame[42]! << 8) | frame[43]!) + fill;
      setU16(payload, 0, sum > 0xffff ? sum - 0xffff : sum);
      const request = datagram(payload);
      expect([request[40], request[41]]).toEqual([0xff, 0xff]);
      await exchange(guest, 0, request);
      expect([guest.lastFrame[40], guest.lastFrame[41]]).toEqual([0xff, 0xff]);
    });

    it('of any datagrams of several flows, cut anywhere, on either pair', async () => {
      await using guest = await guestWith();
      const sent = fc.record({
        pair: fc.nat({ max: 1 }),
        port: fc.integer({ min: 41_000, max: 41_003 }),
        payload: fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.uint8Array({ minLength: 1400, maxLength: LONGEST })),
        cuts: fc.array(fc.integer({ min: 1, max: 17 }), { maxLength: 3 }),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(sent, { minLength: 1, maxLength: 12 }), async (datagrams) => {
          for (const pair of [0, 1]) {
            const mine = datagrams.filter((each) => each.pair === pair);
            const frames = mine.map(({ port, payload }) => datagram(payload, { ports: [port, echo.port] }));
            await guest.sendAllOn(pair, frames, (n) => mine[n]!.cuts);
          }
          const left = new Map<string, number>();
          const count = (key: string, by: number): void => void left.set(key, (left.get(key) ?? 0) + by);
          for (const { port, payload } of datagrams) count(label(port, payload), 1);
          for (const _ of datagrams) {
            await next(guest);
            const { ports, payload } = parseUdp(guest.lastFrame);
            count(label(ports[1], payload), -1);
          }
          expect([...left.values()].filter((number) => number !== 0)).toEqual([]);
        }),
        { numRuns: 40 },
      );
    });
  });

  describe('batches', () => {
    const numbered = (count: number, length: (n: number) => number): Uint8Array[] =>
      Array.from({ length: count }, (_, n) => datagram(bytes(length(n), n), { ports: [GUEST_PORT + 1, sink.port] }));

    it.each([
      ['one size', () => 100],
      ['one size, the last shorter', (n: number) => (n === 31 ? 7 : 1000)],
      ['many sizes', (n: number) => 3 * n],
    ])('32 datagrams of %s go by one system call, in order', async (_, length) => {
      await using guest = await guestWith();
      await guest.sendAllOn(0, numbered(1, length));
      await until(() => sink.received.length === 1);
      const [calls, datagrams] = await growth(['sendCalls', 'datagramsFromGuest'], async () => {
        await guest.sendAllOn(0, numbered(32, length));
        await until(() => sink.received.length === 33);
      });
      expect([calls, datagrams]).toEqual([1, 32]);
      const got = sink.received.slice(1).map(({ data }) => [data.length, data[0]]);
      expect(got).toEqual(Array.from({ length: 32 }, (__, n) => [length(n), length(n) === 0 ? undefined : n]));
    });

    it('datagrams of two flows in turn keep their order', async () => {
      await using guest = await guestWith();
      const ports = [GUEST_PORT + 2, GUEST_PORT + 3];
      const frames = Array.from({ length: 40 }, (_, n) =>
        datagram(bytes(50, n), { ports: [ports[n % 2]!, sink.port] }),
      );
      await guest.sendAllOn(0, frames);
      await until(() => sink.received.length === 40);
      const from = (port: number): number[] =>
        sink.received.filter((each) => each.port === port).map(({ data }) => data[0]!);
      const [first, second] = [...new Set(sink.received.map(({ port }) => port))];
      const orders = [from(first!), from(second!)].toSorted((a, b) => a[0]! - b[0]!);
      expect(orders).toEqual([0, 1].map((parity) => Array.from({ length: 20 }, (_, n) => 2 * n + parity)));
    });

    it('what a server sends at once comes in order, but for what is longer than the MTU: it is dropped and counted', async () => {
      await using guest = await guestWith();
      await guest.sendAllOn(0, [datagram(bytes(1), { ports: [GUEST_PORT + 4, sink.port] })]);
      await until(() => sink.received.length === 1);
      const lengths = Array.from({ length: 40 }, (_, n) => (n % 7 === 3 ? LONGEST + 1 + n : 20 * n + 1));
      const fitting = lengths.filter((length) => length <= LONGEST);
      const [tooLong] = await growth(['datagramsTooLong'], async () => {
        for (const length of lengths) sink.send(bytes(length, length));
        const got: Uint8Array[] = [];
        for (const _ of fitting) {
          await next(guest);
          got.push(parseUdp(guest.lastFrame).payload);
        }
        expect(got).toEqual(fitting.map((length) => bytes(length, length)));
        await until(() => front.counter('datagramsTooLong') >= lengths.length - fitting.length);
      });
      expect(tooLong).toBe(lengths.length - fitting.length);
    });
  });

  describe('RFC 4787', () => {
    it('REQ-1 a guest port has the same port towards all peers, whichever pair it sends on', async () => {
      await using guest = await guestWith();
      const other = await UdpServer.start(false);
      open.push(other);
      const send = (port: number, to: UdpServer, pair: number): Promise<void> =>
        guest.sendAllOn(pair, [datagram(bytes(1), { ports: [port, to.port] })]);
      await send(42_000, sink, 0);
      await send(42_000, other, 1);
      await send(42_001, other, 1);
      await until(() => sink.received.length === 1 && other.received.length === 2);
      const [same, different] = other.received.map(({ port }) => port);
      expect(same).toBe(sink.received[0]!.port);
      expect(different).not.toBe(same);
      // Each peer's answer comes from it.
      for (const server of [other, sink]) {
        server.socket.send('answer', same!, '127.0.0.1');
        await next(guest);
        expect(parseUdp(guest.lastFrame).ports).toEqual([server.port, 42_000]);
      }
    });

    it('REQ-3 guest ports share no port', async () => {
      await using guest = await guestWith();
      const frames = Array.from({ length: 60 }, (_, n) => datagram(bytes(1), { ports: [43_000 + n, sink.port] }));
      await guest.sendAllOn(0, frames);
      await until(() => sink.received.length === 60);
      expect(new Set(sink.received.map(({ port }) => port)).size).toBe(60);
    });

    it('REQ-12 an ICMP error is told to the guest, and ends nothing (RFC 1122 §3.2.2.1)', async () => {
      await using guest = await guestWith();
      const gone = await UdpServer.start(false);
      const request = datagram(bytes(3), { ports: [GUEST_PORT + 5, gone.port] });
      await guest.sendAllOn(0, [request]);
      await until(() => gone.received.length === 1);
      const { port } = gone.received[0]!;
      await gone[Symbol.asyncDispose]();
      await guest.sendAllOn(0, [request]);
      await next(guest);
      expect(parseIcmp(guest.lastFrame)).toEqual({
        protocol: 1,
        from: '10.0.2.2',
        to: '10.0.2.15',
        type: 3,
        code: 3,
        sums: [true, true, true],
        quoted: [17, '10.0.2.15', '10.0.2.2', GUEST_PORT + 5, gone.port],
      });
      const back = await UdpServer.start(true, gone.port);
      open.push(back);
      expect((await exchange(guest, 0, request)).payload).toEqual(bytes(3));
      expect(back.received).toEqual([{ data: Buffer.from(bytes(3)), port }]);
    });
  });

  describe('RFC 5508 REQ-8', () => {
    const denied = (destination: string): Uint8Array =>
      datagram(bytes(4), { destination: parseIpv4Address(destination), ports: [44_000, 7] });

    it.each(['10.0.2.3', '10.0.2.9', '127.0.0.1', '169.254.169.254'])(
      '%s is prohibited, and said to be',
      async (to) => {
        await using guest = await guestWith();
        const names = ['deniedByPolicy', 'icmpErrorsSent', 'framesToGuest', 'flowsOpened'] as const;
        expect(await growth(names, () => guest.sendOn(0, denied(to)))).toEqual([1, 1, 1, 0]);
        expect(parseIcmp(guest.lastFrame)).toMatchObject({
          from: '10.0.2.2',
          type: 3,
          code: 13,
          sums: [true, true, true],
          quoted: [17, '10.0.2.15', to, 44_000, 7],
        });
      },
    );

    it.each(['10.0.2.255', '224.0.0.251', '255.255.255.255'])(
      '%s, which are many, is too, but there is no answer (RFC 1122 §3.2.2)',
      async (to) => {
        await using guest = await guestWith();
        let pairs: number[] = [];
        const send = async (): Promise<void> => void (pairs = await guest.sendOn(0, denied(to)));
        expect(await growth(['deniedByPolicy', 'icmpErrorsSent'], send)).toEqual([1, 0]);
        expect(pairs).toEqual([]);
      },
    );

    it('nobody floods himself with errors: RFC 1812 §4.3.2.8', async () => {
      await using guest = await guestWith();
      const flood = Array.from({ length: 60 }, () => denied('10.0.2.9'));
      const [refused, told] = await growth(['deniedByPolicy', 'icmpErrorsSent'], async () => {
        for (let n = 0; n < 20; n++) {
          await guest.sendAllOn(0, flood);
          while (guest.takeFrameOn(0));
        }
      });
      expect(refused).toBe(1200);
      expect(told).toBeGreaterThan(0);
      expect(told).toBeLessThan(1200);
    });
  });

  describe('rubbish', () => {
    const LENGTH = 38;
    const CHECKSUM = 40;
    const broken =
      (change: (frame: Uint8Array) => Uint8Array | void): (() => Uint8Array) =>
      () => {
        const frame = datagram(bytes(30));
        return change(frame) ?? frame;
      };
    it.each<[string, CounterName, () => Uint8Array]>([
      ['a length beyond the packet', 'malformedFrames', broken((frame) => setU16(frame, LENGTH, 39))],
      ['a length of 0', 'malformedFrames', broken((frame) => setU16(frame, LENGTH, 0))],
      ['a length shorter than its header', 'malformedFrames', broken((frame) => setU16(frame, LENGTH, 7))],
      ['no room for a header', 'malformedFrames', broken((frame) => udpDatagramCut(frame))],
      ['port 0', 'malformedFrames', () => datagram(bytes(1), { ports: [1, 0] })],
      ['a wrong checksum', 'badChecksums', broken((frame) => setU16(frame, CHECKSUM, 1))],
      ['a fragment', 'unsupportedFrames', broken((frame) => fragmentOf(frame))],
    ])('%s is dropped and counted', async (_, counter, build) => {
      await using guest = await guestWith();
      expect(await growth([counter, 'datagramsFromGuest'], () => guest.sendAllOn(0, [build()]))).toEqual([1, 0]);
      expect((await exchange(guest, 0, datagram(bytes(5)))).payload).toEqual(bytes(5));
    });

    it('but no checksum is none that is wrong, and what follows the datagram in its packet is no part of it', async () => {
      await using guest = await guestWith();
      const none = broken((frame) => setU16(frame, CHECKSUM, 0));
      expect((await exchange(guest, 0, none())).payload).toEqual(bytes(30));
      const short = broken((frame) => {
        setU16(frame, CHECKSUM, 0);
        setU16(frame, LENGTH, 8 + 10);
      });
      expect((await exchange(guest, 0, short())).payload).toEqual(bytes(10));
    });

    it('a flag says that the checksum is to be completed: then it is not looked at', async () => {
      await using guest = await guestWith({ features: FEATURES | VIRTIO_NET_F_CSUM });
      const frame = broken((each) => setU16(each, CHECKSUM, 1));
      const header = Uint8Array.from({ length: HEADER }, (_, n) => (n === 0 ? 1 : 0));
      await guest.sendAllOn(0, [frame()], () => [], header);
      await next(guest);
      expect(parseUdp(guest.lastFrame).payload).toEqual(bytes(30));
    });
  });

  it('a flow that goes on on another pair is handed over, then moves, and loses nothing', async () => {
    await using guest = await guestWith();
    const names = ['handoffsOut', 'rehomedOut', 'flowsOpened'] as const;
    const [handed, moved, opened] = await growth(names, async () => {
      for (let n = 0; n < 60; n++) {
        const pair = n < 5 ? 0 : 1;
        const answer = await exchange(guest, pair, datagram(bytes(9, n), { ports: [45_000, echo.port] }));
        expect(answer.payload).toEqual(bytes(9, n));
      }
      await guest.sendAllOn(
        0,
        Array.from({ length: 40 }, (_, n) => datagram(bytes(9, n), { ports: [45_000, sink.port] })),
      );
      await until(() => sink.received.length === 40);
    });
    expect(sink.received.map(({ data }) => data[0])).toEqual(Array.from({ length: 40 }, (_, n) => n));
    expect(new Set([...sink.received, ...echo.received.slice(-60)].map(({ port }) => port)).size).toBe(1);
    expect(opened).toBe(2);
    const several = workers > 1;
    expect([handed! >= 16, moved! >= 1]).toEqual([several, several]);
  });

  it('a flow whose pair the driver switches off goes on on another, with what its peer sends', async () => {
    await using guest = await guestWith();
    await guest.setPairs(2);
    await guest.sendAllOn(1, [datagram(bytes(1), { ports: [47_000, sink.port] })]);
    await until(() => sink.received.length === 1);
    await guest.setPairs(1);
    sink.send(bytes(7));
    await guest.frameOn(0);
    expect(parseUdp(guest.lastFrame)).toMatchObject({ ports: [sink.port, 47_000], payload: bytes(7) });
    await guest.sendAllOn(0, [datagram(bytes(1), { ports: [47_000, sink.port] })]);
    await until(() => sink.received.length === 2);
    expect(sink.received[1]!.port).toBe(sink.received[0]!.port);
  });

  it('flows outlive their worker', async () => {
    await using guest = await guestWith();
    const before = front.counter('takeovers');
    for (let n = 0; n < 3; n++) {
      const answer = await exchange(guest, 0, datagram(bytes(4, n), { ports: [46_000, echo.port] }));
      expect(answer.payload).toEqual(bytes(4, n));
      await front.injectFault(0);
      // The frame that kills is gone.
      await guest.sendAllOn(0, [datagram(bytes(1), { ports: [46_000, echo.port] })]);
      await until(() => front.counter('takeovers') === before + n + 1);
    }
    await guest.sendAllOn(0, [datagram(bytes(4), { ports: [46_000, sink.port] })]);
    await until(() => sink.received.length === 1);
    expect(sink.received[0]!.port).toBe(echo.received.at(-1)!.port);
  });
});
