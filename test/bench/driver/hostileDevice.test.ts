/** Devices that lie: the driver says so, or drops what is wrong and goes on. It never hangs, and takes no byte that nobody sent. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Command, Status } from '../../../bench/driver/control.js';
import { Packet } from '../../../bench/driver/queuePair.js';
import { expectClean } from './clean.js';
import { DriverHarness } from './harness.js';
import { RX_BUFFER } from './peerNetwork.js';
import type { Delivery } from './peerNetwork.js';

/** Lets a connection come up, then breaks every eighth packet. */
function sometimes(lie: (delivery: Delivery) => void): (delivery: Delivery) => void {
  let packets = 0;
  return (delivery) => {
    if (++packets > 8 && packets % 8 === 0) lie(delivery);
  };
}

describe('virtio 1.2 §5.1.6.4: packets that the device gives back wrong are counted and dropped', () => {
  test.each([
    ['a used length of 0', (it) => (it.used[0] = 0)],
    ['a used length below that of the header', (it) => (it.used[0] = 11)],
    ['a used length beyond the buffer', (it) => (it.used[0] = RX_BUFFER + 1)],
    ['the largest used length', (it) => (it.used[0] = 0xffff_ffff)],
    ['no buffer', (it) => (it.numBuffers = 0)],
    ['one buffer more than there is', (it) => it.numBuffers++],
    ['all buffers that there can be', (it) => (it.numBuffers = 0xffff)],
  ] as [string, (delivery: Delivery) => void][])('%s', async (_, lie) => {
    await using it = await DriverHarness.open({
      workload: { kind: 'fetch', flows: 2, bytes: 1_000_000 },
      peer: { tamper: sometimes(lie) },
    });
    it.command(Command.RUN);
    expect(await it.until(() => it.control[Status.TRANSFERS_DONE] === 2)).toBe(true);
    expectClean(it.snapshot(), 'ringErrors');
    expect(it.snapshot().counters.ringErrors).toBeGreaterThan(0);
  });
});

test('frames cut anywhere behind their headers are put together, and counted: all buffers but the last must be full', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 90, max: 1_000 }), { minLength: 1, maxLength: 7 }), async (cuts) => {
      let turn = 0;
      const cut = (it: Delivery): void => {
        let left = it.pieces.reduce((sum, bytes) => sum + bytes, 0);
        it.pieces = [];
        for (; left > 0; left -= it.pieces.at(-1) ?? 0) it.pieces.push(Math.min(cuts[turn++ % cuts.length], left));
        it.used = [...it.pieces];
        it.numBuffers = it.pieces.length;
      };
      await using it = await DriverHarness.open({
        workload: { kind: 'fetch', flows: 1, bytes: 300_000 },
        peer: { tamper: cut },
        device: { refused: ['GUEST_TSO4'] },
      });
      it.command(Command.RUN);
      expect(await it.until(() => it.control[Status.TRANSFERS_DONE] === 1)).toBe(true);
      expectClean(it.snapshot(), 'ringErrors');
      expect(it.snapshot().counters.ringErrors).toBeGreaterThan(0);
    }),
    { numRuns: 10 },
  );
});

test('virtio 1.2 §2.7.8: buffers may be used in any order', async () => {
  await using it = await DriverHarness.open({
    workload: { kind: 'fetch', flows: 2, bytes: 1_000_000 },
    peer: { tamper: (delivery) => (delivery.backwards = true) },
  });
  it.command(Command.RUN);
  expect(await it.until(() => it.control[Status.TRANSFERS_DONE] === 2)).toBe(true);
  expectClean(it.snapshot());
});

test('a packet is read wherever its pieces lie', () => {
  const lengths = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 10 });
  fc.assert(
    fc.property(lengths, fc.nat(500), fc.nat(500), (pieces, skip, length) => {
      const packet = new Packet();
      const memory = new Uint8Array(1_000);
      const frame: number[] = [];
      for (const [n, bytes] of pieces.entries()) {
        packet.offsets[n] = 100 * (pieces.length - 1 - n);
        packet.lengths[n] = bytes;
        for (let k = 0; k < bytes; k++) frame.push((memory[packet.offsets[n] + k] = frame.length % 251));
      }
      packet.pieces = pieces.length;
      expect([...packet.copy(memory, skip, length)]).toEqual(frame.slice(skip, skip + length));
    }),
  );
});

test('frames cut within their headers are counted and dropped', async () => {
  const cut = sometimes((it) => {
    const [first, ...others] = it.pieces;
    it.pieces = [40, first - 40, ...others];
    it.used = [...it.pieces];
    it.numBuffers++;
  });
  await using it = await DriverHarness.open({
    workload: { kind: 'fetch', flows: 1, bytes: 1_000_000 },
    peer: { tamper: cut },
    device: { refused: ['GUEST_TSO4'] },
  });
  it.command(Command.RUN);
  expect(await it.until(() => it.control[Status.TRANSFERS_DONE] === 1)).toBe(true);
  expectClean(it.snapshot(), 'ringErrors', 'badFrames');
  expect(it.snapshot().counters.badFrames).toBeGreaterThan(0);
});

test.each([256, 257, 300, 4_097])('receive buffers of %i bytes', async (rxBufferSize) => {
  // Aligned, and so large that 256 of them hold the largest segment.
  const rxBuffer = Math.max(Math.ceil(rxBufferSize / 64) * 64, 320);
  await using it = await DriverHarness.open({
    device: { rxBufferSize },
    workload: { kind: 'fetch', flows: 1, bytes: 300_000 },
    peer: { rxBuffer },
  });
  expect(it.device.description.pairs[0].rxBufferSize).toBe(rxBuffer);
  it.command(Command.RUN);
  expect(await it.until(() => it.control[Status.TRANSFERS_DONE] === 1)).toBe(true);
  expectClean(it.snapshot());
});

function giveBackTwice({ peer }: DriverHarness): void {
  const head = peer.queue(0).take()?.head ?? -1;
  peer.queue(0).use(head, 0);
  peer.queue(0).use(head, 0);
}

describe('virtio 1.2 §2.7.8: a used ring that is wrong ends the run, and is named', () => {
  const runs = async (index: number, breakIt: (it: DriverHarness) => void): Promise<void> => {
    await using it = await DriverHarness.open({ workload: { kind: 'rr', flows: 4 } });
    it.command(Command.RUN);
    expect(await it.until(() => it.snapshot().counters.operations > 50)).toBe(true);
    breakIt(it);
    it.peer.queue(index).publish();
    await it.until(() => false);
  };

  test('an id beyond the descriptor table', async () => {
    await expect(runs(0, (it) => it.peer.queue(0).use(70_000, 60))).rejects.toThrow(
      /receive queue of pair 0.* descriptor 70000.*§2\.7\.8/,
    );
  });

  test('a chain that is given back twice', async () => {
    await expect(runs(0, giveBackTwice)).rejects.toThrow(/receive queue of pair 0.* is not in flight/);
  });

  test.each([1_000, 40_000])('an index that runs %i chains ahead', async (chains) => {
    const ahead = (it: DriverHarness): void => {
      for (let n = 0; n < chains; n++) it.peer.queue(1).use(0, 0);
    };
    await expect(runs(1, ahead)).rejects.toThrow(/transmit queue of pair 0.* \d+ chains ahead/);
  });
});

test('a server that announces an MSS of 0 still gets its data (RFC 9293 §3.7.1)', async () => {
  await using it = await DriverHarness.open({
    workload: { kind: 'check', flows: 1, bytes: 10_000 },
    peer: { mss: 0 },
  });
  it.command(Command.RUN);
  expect(await it.until(() => it.control[Status.TRANSFERS_DONE] === 1)).toBe(true);
  expectClean(it.snapshot());
});

describe('queues too small for what the options ask', () => {
  test('virtio 1.2 §2.7.5.3.1: a chain longer than the queue is refused in words', async () => {
    for (const refused of [[], ['INDIRECT_DESC']] as const) {
      await expect(DriverHarness.open({ device: { queueSize: 16, fragment: 4_096, refused } })).rejects.toThrow(
        'a queue of 16 entries is too small for chains of 17 descriptors',
      );
    }
  });

  test('§5.1.6.3: all receive buffers together hold the largest packet', async () => {
    await using it = await DriverHarness.open({ device: { queueSize: 16, rxBufferSize: 256 } });
    expect(16 * it.device.description.pairs[0].rxBufferSize).toBeGreaterThanOrEqual(12 + 14 + 65_535);
    await using plain = await DriverHarness.open({
      device: { queueSize: 16, rxBufferSize: 256, refused: ['GUEST_TSO4', 'GUEST_TSO6'] },
    });
    expect(plain.device.description.pairs[0].rxBufferSize).toBe(256);
  });
});

test('a small window is announced from the SYN on (RFC 9293 §3.10.1)', async () => {
  await using it = await DriverHarness.open({
    workload: { kind: 'fetch', flows: 1, bytes: 100_000 },
    loop: { windowBytes: 2_048 },
  });
  it.command(Command.RUN);
  expect(await it.until(() => it.control[Status.TRANSFERS_DONE] === 1)).toBe(true);
  expect(it.peer.tcp.largestWindow).toBe(2_048);
});
