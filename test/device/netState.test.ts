/** What the control queue's commands change, and the filter that obeys it (virtio 1.2 §5.1.6.5). */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as control from '../../device/controlQueue.js';
import { executeControl, VIRTIO_NET_ERR, VIRTIO_NET_OK } from '../../device/controlQueue.js';
import * as f from '../../device/features.js';
import { MAC_TABLE_ENTRIES, NET_STATE_WORDS, NetState, ReceiveFilter } from '../../device/netState.js';

const MAC = Uint8Array.of(0x52, 0x54, 0, 1, 2, 3);
const ALL = f.PCI_DEVICE_FEATURES;
const OTHER = [0x02, 0, 0, 0, 0, 7];
const GROUP = [0x01, 0x00, 0x5e, 0, 0, 1];
const BROADCAST = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

class Device {
  readonly net = new NetState(new Int32Array(new SharedArrayBuffer(4 * NET_STATE_WORDS)));
  readonly filter = new ReceiveFilter(this.net);

  constructor(features = ALL) {
    this.net.reset(MAC);
    this.net.negotiate(features);
  }

  command(...bytes: readonly number[]): number {
    const state = { maxPairs: 1, multiqueue: false, activePairs: 1, net: this.net };
    return executeControl(Uint8Array.from(bytes), bytes.length, state);
  }

  /** Whether a frame to this address gets through, with this VLAN tag. */
  takes(to: readonly number[] | Uint8Array, vlan?: number): boolean {
    const type = vlan === undefined ? [0x08, 0x00] : [0x81, 0x00, 0xe0 | (vlan >> 8), vlan & 0xff, 0x08, 0x00];
    return this.filter.accepts(Uint8Array.of(9, ...to, 2, 2, 2, 2, 2, 2, ...type), 1);
  }
}

const macTable = (unicast: readonly number[][], multicast: readonly number[][]): number[] => [
  control.CTRL_MAC,
  control.MAC_TABLE_SET,
  ...[unicast, multicast].flatMap((table) => [table.length & 0xff, table.length >> 8, 0, 0, ...table.flat()]),
];
const addresses = (count: number, first: number): number[][] =>
  Array.from({ length: count }, (_, n) => [first, 0, 0, 0, n >> 8, n & 0xff]);

describe('N11 §5.1.6.5.2.1 MAC filter', () => {
  it('after a reset the table is empty: own address and broadcast only', () => {
    const device = new Device();
    expect([MAC, BROADCAST, OTHER, GROUP].map((to) => device.takes(to))).toEqual([true, true, false, false]);
    device.command(...macTable([OTHER], [GROUP]));
    device.net.reset(MAC);
    device.net.negotiate(ALL);
    expect([MAC, BROADCAST, OTHER, GROUP].map((to) => device.takes(to))).toEqual([true, true, false, false]);
  });

  it('takes what is in the table, drops and counts the rest', () => {
    const device = new Device();
    expect(device.command(...macTable([OTHER], [GROUP]))).toBe(VIRTIO_NET_OK);
    expect([MAC, OTHER, GROUP].map((to) => device.takes(to))).toEqual([true, true, true]);
    const { filtered } = device.net;
    expect(
      [
        [2, 0, 0, 0, 0, 8],
        [3, 0, 0x5e, 0, 0, 1],
      ].map((to) => device.takes(to)),
    ).toEqual([false, false]);
    expect(device.net.filtered).toBe(filtered + 2);
  });

  it('MAC_TABLE_SET replaces what was there', () => {
    const device = new Device();
    device.command(...macTable([OTHER], [GROUP]));
    device.command(...macTable([], []));
    expect([OTHER, GROUP].map((to) => device.takes(to))).toEqual([false, false]);
  });

  it('more than it holds is as good as all of the kind', () => {
    const device = new Device();
    device.command(...macTable(addresses(MAC_TABLE_ENTRIES, 2), addresses(MAC_TABLE_ENTRIES + 1, 3)));
    expect(
      [[2, 0, 0, 0, 0, MAC_TABLE_ENTRIES], [2, 0, 0, 0, 0, MAC_TABLE_ENTRIES - 1], GROUP].map((to) => device.takes(to)),
    ).toEqual([false, true, true]);
    device.command(...macTable(addresses(MAC_TABLE_ENTRIES + 1, 2), []));
    expect([[4, 4, 4, 4, 4, 4], GROUP].map((to) => device.takes(to))).toEqual([true, false]);
  });

  it('MAC_ADDR_SET: the address that is shown is the one that is taken', () => {
    const device = new Device();
    expect(device.command(control.CTRL_MAC, control.MAC_ADDR_SET, ...OTHER)).toBe(VIRTIO_NET_OK);
    expect([...device.net.mac]).toEqual(OTHER);
    expect([OTHER, MAC].map((to) => device.takes(to))).toEqual([true, false]);
  });

  it('a driver without CTRL_RX takes every address', () => {
    const device = new Device(ALL & ~f.VIRTIO_NET_F_CTRL_RX & ~f.VIRTIO_NET_F_CTRL_RX_EXTRA);
    expect([OTHER, GROUP, BROADCAST].map((to) => device.takes(to))).toEqual([true, true, true]);
    expect(device.net.filtered).toBe(0);
  });
});

describe('N10 §5.1.6.5.1 receive modes', () => {
  const KINDS = [MAC, OTHER, GROUP, BROADCAST];
  it.each([
    ['PROMISC', [0], [true, true, true, true]],
    ['ALLMULTI', [1], [true, false, true, true]],
    ['ALLUNI', [2], [true, true, false, true]],
    ['NOMULTI over ALLMULTI', [1, 3], [true, false, false, true]],
    ['NOUNI over ALLUNI', [2, 4], [false, false, false, true]],
    ['NOBCAST', [5], [true, false, false, false]],
    ['PROMISC over all', [0, 3, 4, 5], [true, true, true, true]],
  ])('%s', (_, modes, taken) => {
    const device = new Device();
    for (const mode of modes) expect(device.command(control.CTRL_RX, mode, 1)).toBe(VIRTIO_NET_OK);
    expect(KINDS.map((to) => device.takes(to))).toEqual(taken);
    for (const mode of modes) device.command(control.CTRL_RX, mode, 0);
    expect(KINDS.map((to) => device.takes(to))).toEqual([true, false, false, true]);
  });

  it('the extra modes are for drivers that negotiated CTRL_RX_EXTRA', () => {
    const device = new Device(ALL & ~f.VIRTIO_NET_F_CTRL_RX_EXTRA);
    expect([0, 1, 2, 3, 4, 5].map((mode) => device.command(control.CTRL_RX, mode, 1))).toEqual([0, 0, 1, 1, 1, 1]);
  });
});

describe('N12 §5.1.6.5.3 VLAN filter', () => {
  it('is empty at first; takes untagged frames, and tags that were added', () => {
    const device = new Device();
    expect([device.takes(MAC), device.takes(MAC, 5), device.takes(MAC, 0)]).toEqual([true, false, false]);
    for (const vlan of [0, 5, 31, 32, 4095]) {
      expect(device.command(control.CTRL_VLAN, control.VLAN_ADD, vlan & 0xff, vlan >> 8)).toBe(VIRTIO_NET_OK);
      expect([device.takes(MAC, vlan), device.net.hasVlan(vlan)]).toEqual([true, true]);
    }
    device.command(control.CTRL_VLAN, control.VLAN_DEL, 31, 0);
    expect([31, 32, 4095, 4094].map((vlan) => device.takes(MAC, vlan))).toEqual([false, true, true, false]);
    device.net.reset(MAC);
    expect(device.net.hasVlan(5)).toBe(false);
  });

  it('a driver without CTRL_VLAN takes every tag', () => {
    expect(new Device(ALL & ~f.VIRTIO_NET_F_CTRL_VLAN).takes(MAC, 77)).toBe(true);
  });
});

describe('N13 §5.1.6.5.4 announcement', () => {
  it('ANNOUNCE_ACK takes the bit back', () => {
    const device = new Device();
    device.net.setStatus(2, true);
    const { generation } = device.net;
    expect([device.net.status, device.command(control.CTRL_ANNOUNCE, control.ANNOUNCE_ACK), device.net.status]).toEqual(
      [3, 0, 1],
    );
    expect(device.net.generation).not.toBe(generation);
  });
});

const le64 = (bits: bigint): number[] => [...new Uint8Array(BigUint64Array.of(bits).buffer)];

describe('§5.1.6.5.8 guest offloads', () => {
  const set = (device: Device, bits: bigint): number =>
    device.command(control.CTRL_GUEST_OFFLOADS, control.GUEST_OFFLOADS_SET, ...le64(bits));

  it('are those that were negotiated at first, and any valid part of them later', () => {
    const device = new Device();
    const all = f.VIRTIO_NET_F_GUEST_CSUM | f.VIRTIO_NET_F_GUEST_TSO4 | f.VIRTIO_NET_F_GUEST_TSO6;
    expect(device.net.offloads).toBe(Number(all));
    for (const offloads of [0n, f.VIRTIO_NET_F_GUEST_CSUM, all & ~f.VIRTIO_NET_F_GUEST_TSO4, all]) {
      expect([set(device, offloads), device.net.offloads]).toEqual([VIRTIO_NET_OK, Number(offloads)]);
    }
  });

  it.each([
    ['one that was not negotiated', f.VIRTIO_NET_F_GUEST_CSUM | f.VIRTIO_NET_F_GUEST_TSO6],
    ['a feature that is no offload', f.VIRTIO_NET_F_GUEST_CSUM | f.VIRTIO_NET_F_MQ],
    ['UFO, which is not offered', f.VIRTIO_NET_F_GUEST_CSUM | (1n << 10n)],
    ['a bit beyond all', f.VIRTIO_NET_F_GUEST_CSUM | (1n << 63n)],
    ['TSO without CSUM (§5.1.3.1)', f.VIRTIO_NET_F_GUEST_TSO4],
  ])('refuse %s', (_, offloads) => {
    const device = new Device(ALL & ~f.VIRTIO_NET_F_GUEST_TSO6);
    const before = device.net.offloads;
    expect([set(device, offloads), device.net.offloads]).toEqual([VIRTIO_NET_ERR, before]);
  });
});

describe('malformed commands answer ERR and change nothing', () => {
  it.each([
    ['promiscuous mode without a value', [0, 0]],
    ['promiscuous mode of two bytes', [0, 0, 1, 0]],
    ['promiscuous mode 2', [0, 0, 2]],
    ['a mode that there is not', [0, 6, 1]],
    ['a MAC table that is cut', macTable([OTHER], [GROUP]).slice(0, -1)],
    ['a MAC table without its second half', macTable([OTHER], []).slice(0, -4)],
    ['a MAC table with more behind it', [...macTable([OTHER], []), 0]],
    ['a MAC table of 2^32 - 1 entries', [1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]],
    ['MAC table entries whose size wraps', [1, 0, 0xab, 0xaa, 0xaa, 0x2a, 0, 0, 0, 0, 0, 0, 0, 0]],
    ['a MAC address of 5 bytes', [1, 1, 2, 0, 0, 0, 0]],
    ['a MAC address of 7 bytes', [1, 1, 2, 0, 0, 0, 0, 0, 0]],
    ['VLAN 4096', [2, 0, 0, 0x10]],
    ['a VLAN of one byte', [2, 0, 5]],
    ['a VLAN command that there is not', [2, 2, 5, 0]],
    ['an acknowledgement with data', [3, 0, 0]],
    ['another announcement command', [3, 1]],
    ['offloads of four bytes', [5, 0, 2, 0, 0, 0]],
    ['another offloads command', [5, 1, 2, 0, 0, 0, 0, 0, 0, 0]],
    ['another MAC command', [1, 2, 2, 0, 0, 0, 0, 1]],
  ])('%s', (_, bytes) => {
    const device = new Device();
    const { generation } = device.net;
    expect([device.command(...bytes), device.net.generation]).toEqual([VIRTIO_NET_ERR, generation]);
  });

  it('and so does every valid one to a driver that did not negotiate its feature', () => {
    const device = new Device(f.DEVICE_FEATURES);
    const valid = [[0, 0, 1], macTable([], []), [1, 1, ...OTHER], [2, 0, 5, 0], [3, 0], [5, 0, 0, 0, 0, 0, 0, 0, 0, 0]];
    expect(valid.map((bytes) => device.command(...bytes))).toEqual(Array(6).fill(VIRTIO_NET_ERR));
    expect(valid.map((bytes) => new Device().command(...bytes))).toEqual(Array(6).fill(VIRTIO_NET_OK));
  });

  it('any bytes: OK or ERR, and ERR changes nothing', () => {
    const bytes = fc.tuple(fc.nat(6), fc.nat(6), fc.uint8Array({ maxLength: 40 }));
    fc.assert(
      fc.property(bytes, ([group, name, data]) => {
        const device = new Device();
        const { generation } = device.net;
        const answer = device.command(group, name, ...data);
        expect([VIRTIO_NET_OK, VIRTIO_NET_ERR]).toContain(answer);
        expect(answer === VIRTIO_NET_OK || device.net.generation === generation).toBe(true);
        expect(device.takes(BROADCAST)).toBe((device.net.rxMode & 0x21) !== 0x20);
      }),
      { numRuns: 1000 },
    );
  });
});

describe('the seqlock', () => {
  it('while a change is under way, what was before it holds', () => {
    const words = new Int32Array(NET_STATE_WORDS);
    const net = new NetState(words);
    const filter = new ReceiveFilter(net);
    net.reset(MAC);
    net.negotiate(ALL);
    const frame = Uint8Array.of(...OTHER, 2, 2, 2, 2, 2, 2, 8, 0);
    expect(filter.accepts(frame, 0)).toBe(false);
    net.setMac(Uint8Array.from(OTHER), 0);
    words[0]!++;
    expect(filter.accepts(frame, 0)).toBe(false);
    words[0]!++;
    expect(filter.accepts(frame, 0)).toBe(true);
  });
});
