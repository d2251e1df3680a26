/** Receive and transmit queues of a device on a running network, by both fronts (virtio 1.2 §2.7, §5.1.6). */
import { closeSync, openSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { VIRTIO_F_EVENT_IDX, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU } from '../../device/features.js';
import { addon } from '../../src/native/addon.js';
import { until } from '../native/support.js';
import { CONFIG, type Front, PciFront, VhostUserFront } from './fronts.js';
import { arpRequest, FEATURES, type QueueGuest } from './queueGuest.js';
import * as fe from './vhostUser/frontEnd.js';

const HEADER = 12;
const RECEIVE = 0;
const TRANSMIT = 1;
/** struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers. */
const header = (bytes: Readonly<Record<number, number>>): Uint8Array =>
  Uint8Array.from({ length: HEADER }, (_, at) => bytes[at] ?? 0);
const interrupted = (guest: QueueGuest, ring: number): Promise<unknown> =>
  until(() => (guest.interrupted(ring) ? true : undefined));

describe.each([
  ['vhost-user', 1, () => VhostUserFront.create(1)],
  ['vhost-user', 2, () => VhostUserFront.create(2)],
  ['PCI', 1, () => PciFront.create(1)],
  ['PCI', 2, () => PciFront.create(2)],
] as const)('%s, two pairs on %i workers', (_, workers, create) => {
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
