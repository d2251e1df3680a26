/** Receive and transmit queues of a device on a running network, by both fronts (virtio 1.2 §2.7, §5.1.6). */
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
} from '../../device/features.js';
import { addon } from '../../src/native/addon.js';
import { setU16 } from '../../workers/wire/bytes.js';
import { pseudoHeaderSum, sum16 } from '../../workers/wire/checksum.js';
import * as ip from '../../workers/wire/ipv4.js';
import * as tcp from '../../workers/wire/tcp.js';
import { tcpSegment, tcpSyn } from '../e2e/guestFrames.js';
import { CONFIG, FRONTS, type Front, VhostUserFront } from './fronts.js';
import { arpRequest, FEATURES, type QueueGuest } from './queueGuest.js';
import * as fe from './vhostUser/frontEnd.js';
import { until } from '../until.js';

const HEADER = 12;
const RECEIVE = 0;
const TRANSMIT = 1;
/** Where TCP's header lies in a frame without options of IP. */
const TCP = 34;
/** struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers. */
const header = (bytes: Readonly<Record<number, number>>): Uint8Array =>
  Uint8Array.from({ length: HEADER }, (_, at) => bytes[at] ?? 0);
const u16le = (bytes: Uint8Array, at: number): number => bytes[at]! | (bytes[at + 1]! << 8);
const interrupted = (guest: QueueGuest, ring: number): Promise<unknown> => until(() => guest.interrupted(ring));

describe.each(FRONTS)('%s, two pairs on %i workers', (_, workers, create) => {
  let front: Front;

  beforeAll(async () => {
    front = await create();
  });

  afterAll(async () => {
    await front.close();
  });

  /** Takes note of interrupts of the start: each queue has one. */
  const opened = async (features: bigint): Promise<QueueGuest & AsyncDisposable> => {
    const guest = (await front.open({ features })) as QueueGuest & AsyncDisposable;
    for (const ring of [RECEIVE, TRANSMIT]) await interrupted(guest, ring);
    return guest;
  };

  it('R2 §2.7.4.2 writes no descriptor, and no buffer of a transmit queue', async () => {
    await using guest = await front.open();
    await guest.setPairs(2);
    for (let n = 0; n < 6; n++) expect([await guest.askOn(n & 1), guest.wroteReadOnly]).toEqual([[n & 1], false]);
  });

  it('R4 §2.7.8 used.len is what was written: nothing of a frame that was sent, header and frame of one that came', async () => {
    await using guest = await front.open();
    expect(await guest.askOn(0)).toEqual([0]);
    expect(guest.queues[TRANSMIT]!.usedLength).toBe(0);
    expect(guest.queues[RECEIVE]!.usedLength).toBe(HEADER + guest.lastFrame.length);
    // ARP: 14 bytes of Ethernet, 28 of its own.
    expect(guest.lastFrame.length).toBeGreaterThanOrEqual(42);
  });

  it.each([[12], [1, 10, 1], [5, 20], [40]])(
    'R1 §2.7.4.1 §5.1.6.2 a frame and its header are cut wherever the driver likes: %j',
    async (...cuts) => {
      await using guest = await front.open();
      expect(await guest.sendOn(0, arpRequest(), header({}), { cuts })).toEqual([0]);
    },
  );

  it.each(['plain', 'with WRITE', 'behind the first'] as const)(
    'R3 §2.7.5.3.2 an indirect table, %s: WRITE on the descriptor that names it means nothing, others may come before it',
    async (indirect) => {
      await using guest = await front.open({ features: FEATURES | VIRTIO_F_INDIRECT_DESC });
      for (let n = 0; n < 3; n++) {
        expect(await guest.sendOn(0, arpRequest(), header({}), { cuts: [12, 14], indirect })).toEqual([0]);
      }
    },
  );

  it('R5 §2.7.7.2 NO_INTERRUPT without EVENT_IDX: no interrupt while it is set, and one when it is not', async () => {
    await using guest = await opened(FEATURES);
    const queue = guest.queues[RECEIVE]!;
    for (let n = 0; n < 3; n++) {
      queue.disableInterrupts();
      for (let asked = 0; asked < 3; asked++) expect(await guest.askOn(0)).toEqual([0]);
      expect(guest.interrupted(RECEIVE)).toBe(false);
      queue.enableInterrupts(0);
      expect(await guest.askOn(0)).toEqual([0]);
      await interrupted(guest, RECEIVE);
    }
  });

  it('R6 §2.7.7.2 §2.7.10 EVENT_IDX: the interrupt comes when the index crosses used_event, flags have no part in it', async () => {
    await using guest = await opened(FEATURES | VIRTIO_F_EVENT_IDX);
    const queue = guest.queues[RECEIVE]!;
    for (let n = 0; n < 3; n++) {
      queue.enableInterrupts(3);
      for (let asked = 0; asked < 3; asked++) expect(await guest.askOn(0)).toEqual([0]);
      expect(guest.interrupted(RECEIVE)).toBe(false);
      expect(await guest.askOn(0)).toEqual([0]);
      await interrupted(guest, RECEIVE);
      expect([RECEIVE, TRANSMIT].map((ring) => guest.usedFlags(ring))).toEqual([0, 0]);
    }
  });

  it('N3 §5.1.6.2.2 flags that are unknown, hdr_len, num_buffers, and checksum fields without NEEDS_CSUM mean nothing', async () => {
    await using guest = await front.open();
    const rubbish = [{ 0: 0xfe }, { 2: 0xff, 3: 0xff }, { 10: 0xff, 11: 0xff }, { 6: 0xff, 7: 0xff, 8: 0xff, 9: 0xff }];
    for (const bytes of rubbish) expect(await guest.sendOn(0, arpRequest(), header(bytes))).toEqual([0]);
  });

  it('N3 §5.1.6.2.1 a frame of a GSO type that was not negotiated is dropped and counted, and its chain given back', async () => {
    await using guest = await front.open();
    for (const type of [1, 3, 4, 5, 0x81]) {
      const before = front.counter('malformedChains');
      expect(await guest.sendOn(0, arpRequest(), header({ 0: 1, 1: type, 4: 100 }))).toEqual([]);
      expect(front.counter('malformedChains')).toBe(before + 1);
    }
    expect(await guest.askOn(0)).toEqual([0]);
  });

  it('N2 §5.1.4.2 a frame that is longer than the MTU which was told is dropped and counted', async () => {
    await using guest = await front.open({ features: FEATURES | VIRTIO_NET_F_MTU });
    const padded = (length: number): Uint8Array => {
      const frame = new Uint8Array(length);
      frame.set(arpRequest());
      return frame;
    };
    const before = front.counter('malformedChains');
    // An Ethernet header, and a VLAN tag at most.
    expect(await guest.sendOn(0, padded(CONFIG.mtu + 18))).toEqual([0]);
    expect(front.counter('malformedChains')).toBe(before);
    expect(await guest.sendOn(0, padded(CONFIG.mtu + 19))).toEqual([]);
    expect(front.counter('malformedChains')).toBe(before + 1);
  });

  it.each([
    ['with MRG_RXBUF', FEATURES],
    ['without', FEATURES & ~VIRTIO_NET_F_MRG_RXBUF],
  ])(
    'N4 N5 N6 N9 §5.1.6.4.1 a frame in one buffer, %s: num_buffers 1; without GUEST_CSUM and GUEST_TSO all else is 0',
    async (__, features) => {
      await using guest = await front.open({ features });
      expect(await guest.askOn(0)).toEqual([0]);
      expect(guest.lastHeader).toEqual(header({ 10: 1 }));
    },
  );

  it('N4 §5.1.6.4.1 a frame in several buffers: num_buffers counts them, all but the last are full, all are shown together', async () => {
    await using guest = await front.open({ receiveBuffer: 24 });
    for (let n = 0; n < 3; n++) {
      expect(await guest.askOn(0)).toEqual([0]);
      const bytes = HEADER + guest.lastFrame.length;
      expect(guest.lastLengths).toEqual([24, 24, bytes - 48]);
      expect(guest.lastHeader).toEqual(header({ 10: 3 }));
    }
  });

  describe('a server that sends more than a segment', () => {
    const SENT = 6000;
    /** What a driver takes that says nothing of it in its SYN (RFC 9293 §3.7.1). */
    const SEGMENT = 536;
    const GUEST_CSUM = VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM;
    let server: Server;
    let port: number;

    beforeAll(async () => {
      server = createServer((socket) => socket.on('error', () => undefined).write(new Uint8Array(SENT).fill(0x5a)));
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      ({ port } = server.address() as AddressInfo);
    });

    afterAll(() => {
      server.close();
    });

    /** Connects; the first frame with data is then the guest's last. */
    const connect = async (guest: QueueGuest): Promise<void> => {
      if ((await guest.sendOn(0, tcpSyn(port))).length === 0) await guest.frameOn(0);
      expect(tcp.flags(guest.lastFrame, TCP)).toBe(tcp.TCP_SYN | tcp.TCP_ACK);
      const answer = tcpSegment(port, 2, tcp.sequence(guest.lastFrame, TCP) + 1, tcp.TCP_ACK);
      if ((await guest.sendOn(0, answer)).length === 0) await guest.frameOn(0);
    };

    /** A frame's TCP checksum as a driver completes it (§5.1.6.4.2), or as it is; whether it is right. */
    const isSummed = ({ lastFrame, lastHeader }: QueueGuest): boolean => {
      const frame = lastFrame.slice(0, 14 + ip.totalLength(lastFrame, 14));
      const length = frame.length - TCP;
      if ((lastHeader[0]! & 1) !== 0) {
        const [start, offset] = [u16le(lastHeader, 6), u16le(lastHeader, 8)];
        setU16(frame, start + offset, ~sum16(frame, start, frame.length - start, 0));
      }
      const seed = pseudoHeaderSum(ip.source(frame, 14), ip.destination(frame, 14), ip.PROTOCOL_TCP, length);
      return (sum16(frame, TCP, length, seed) & 0xffff) === 0xffff;
    };

    it('N6 N7 N8 §5.1.6.4.1 with GUEST_TSO4: one frame, its gso_type and gso_size, NEEDS_CSUM, the sum of the pseudo-header', async () => {
      await using guest = await front.open({ features: FEATURES | GUEST_CSUM | VIRTIO_NET_F_GUEST_TSO4 });
      await connect(guest);
      expect(guest.lastFrame).toHaveLength(54 + SENT);
      expect(guest.lastLengths).toEqual([2048, 2048, HEADER + 54 + SENT - 4096]);
      const [size, start, offset] = [4, 6, 8].map((at) => u16le(guest.lastHeader, at));
      expect({ flags: guest.lastHeader[0], type: guest.lastHeader[1], size, start, offset }).toEqual({
        flags: 1,
        type: 1,
        size: SEGMENT,
        start: TCP,
        offset: 16,
      });
      expect(isSummed(guest)).toBe(true);
    });

    it.each([
      ['with GUEST_CSUM', GUEST_CSUM],
      ['with nothing', 0n],
    ])(
      'N5 N6 N9 §5.1.6.4.1 %s: no frame longer than a segment, no gso_type, a right checksum',
      async (__, features) => {
        await using guest = await front.open({ features: FEATURES | features });
        await connect(guest);
        expect(guest.lastFrame).toHaveLength(54 + SEGMENT);
        expect([guest.lastHeader[1], u16le(guest.lastHeader, 4), u16le(guest.lastHeader, 10)]).toEqual([0, 0, 1]);
        // DATA_VALID (2) never; NEEDS_CSUM (1) for those who took it.
        expect(guest.lastHeader[0]! & (features === 0n ? 0xff : 0xfe)).toBe(0);
        expect(isSummed(guest)).toBe(true);
      },
    );
  });

  it('S5 §2.2.2 the same features, one driver after the other', async () => {
    for (let n = 0; n < 5; n++) {
      await using guest = await front.open();
      expect(await guest.askOn(0)).toEqual([0]);
      expect(await guest.askOn(1)).toEqual(workers === 1 ? [0] : []);
    }
  });
});

describe.each([1, 2])('memory that cannot be mapped, vhost-user, on %i workers', (workers) => {
  it.each(['ADD_MEM_REG', 'SET_MEM_TABLE'] as const)('%s is refused, and all goes on as before', async (request) => {
    const front = await VhostUserFront.create(workers);
    const guest = await front.openRings();
    const writable = addon.createMemory('read-only', 4096);
    const readOnly = openSync(`/proc/self/fd/${writable}`, 'r');
    const region = { guestAddress: 0, size: 4096, userAddress: 0n, fileOffset: 0 };
    const [number, payload] =
      request === 'ADD_MEM_REG'
        ? [fe.ADD_MEM_REG, fe.singleRegion(region)]
        : [fe.SET_MEM_TABLE, fe.memoryTable([region])];
    for (let n = 0; n < 3; n++) {
      expect(await guest.raw.ack(number, payload, [readOnly])).toBe(1n);
      expect(await guest.askOn(0)).toEqual([0]);
    }
    guest[Symbol.dispose]();
    await front.close();
    addon.close(writable);
    closeSync(readOnly);
  });
});
