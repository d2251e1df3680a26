import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Command, Status } from '../../../bench/driver/control.js';
import type { FeatureName } from '../../../bench/driver/features.js';
import { expectClean } from './clean.js';
import { DriverHarness } from './harness.js';

const NO_OFFLOADS: FeatureName[] = ['CSUM', 'GUEST_CSUM', 'INDIRECT_DESC', 'EVENT_IDX', 'MRG_RXBUF'];

/** Numbers from 0 to 1, evenly spread (xorshift32): fast-check's own favour the ends. */
function evenly(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

describe.each([
  ['all features', []],
  ['none that can be refused', NO_OFFLOADS],
  ['partial checksums, no large segments', ['HOST_TSO4', 'GUEST_TSO4']],
  ['direct descriptors', ['INDIRECT_DESC']],
] as [string, FeatureName[]][])('with %s', (_, refused) => {
  test('crr: connections are opened, answered and closed by both sides', async () => {
    await using it = await DriverHarness.open({ device: { refused }, workload: { flows: 4, bytes: 100 } });
    it.command(Command.RUN);
    expect(await it.until(() => it.snapshot().counters.operations >= 200)).toBe(true);
    it.command(0);
    expect(await it.until(() => it.peer.tcp.connections.size === 0)).toBe(true);
    const result = it.snapshot();
    expectClean(result);
    expect(it.peer.complaints).toEqual([]);
    expect(it.peer.tcp.opened).toBe(result.counters.operations);
    expect(result.latency.total?.count).toBe(result.counters.operations);
  });

  test('check: what is sent arrives whole; fetch: what is received is right', async () => {
    for (const kind of ['check', 'fetch'] as const) {
      await using it = await DriverHarness.open({
        device: { refused },
        workload: { kind, flows: 2, bytes: 1_500_000 },
      });
      it.command(Command.RUN);
      expect(await it.until(() => it.control[Status.TRANSFERS_DONE] + it.control[Status.TRANSFERS_FAILED] === 2)).toBe(
        true,
      );
      expect(it.control[Status.TRANSFERS_DONE]).toBe(2);
      expectClean(it.snapshot());
      expect(it.peer.complaints).toEqual([]);
      const { largeSent, largeReceived } = it.snapshot().counters;
      expect((kind === 'check' ? largeSent : largeReceived) > 0).toBe(refused.length < 2 && refused[0] !== 'CSUM');
    }
  });
});

test('transfers survive loss in both directions', async () => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom('check' as const, 'fetch' as const), fc.integer(), async (kind, seed) => {
      await using it = await DriverHarness.open({
        device: { refused: ['HOST_TSO4', 'GUEST_TSO4'] },
        workload: { kind, flows: 2, bytes: 200_000 },
        peer: { loss: 0.02, random: evenly(seed) },
      });
      it.command(Command.RUN);
      expect(await it.until(() => it.control[Status.TRANSFERS_DONE] === 2)).toBe(true);
      expectClean(it.snapshot());
      expect(it.peer.complaints).toEqual([]);
    }),
    { numRuns: 6 },
  );
});

test('a flow has no more in flight than its send buffer holds', async () => {
  const sentUnanswered = async (segments: number): Promise<number> => {
    let packets = 0;
    await using it = await DriverHarness.open({
      device: { refused: ['HOST_TSO4'] },
      workload: { kind: 'upload', flows: 1 },
      loop: { sendBufferBytes: segments * 1_460 },
      // SYN, SYN-ACK and ACK get through, and nothing after them.
      peer: { loss: 0.5, random: () => (++packets > 3 ? 0 : 1) },
    });
    it.command(Command.RUN);
    expect(await it.until(() => it.snapshot().counters.retransmittedSegments > 0)).toBe(true);
    const { counters, pairs } = it.snapshot();
    return pairs.reduce((sum, pair) => sum + pair.txPackets, 0) - counters.retransmittedSegments;
  };
  // Less than the initial window of 10 segments, which would be the limit otherwise.
  expect((await sentUnanswered(7)) - (await sentUnanswered(3))).toBe(4);
});

test('RFC 9293 §3.8.1: a transfer survives the loss of any packet of its handshake', async () => {
  for (const lost of [1, 2, 3]) {
    let packets = 0;
    await using it = await DriverHarness.open({
      workload: { kind: 'fetch', flows: 1, bytes: 10_000 },
      peer: { loss: 0.5, random: () => (++packets === lost ? 0 : 1) },
    });
    it.command(Command.RUN);
    expect(await it.until(() => it.control[Status.TRANSFERS_DONE] === 1)).toBe(true);
    expectClean(it.snapshot());
  }
});

test('flows that hop between queue pairs, and are answered on others, lose nothing', async () => {
  let turn = 0;
  await using it = await DriverHarness.open({
    device: { pairs: 3, threads: 1 },
    workload: { kind: 'check', flows: 3, bytes: 30_000_000, hopMs: 1 },
    peer: { route: () => (turn = (turn + 1) % 3) },
  });
  it.command(Command.RUN);
  expect(await it.until(() => it.control[Status.TRANSFERS_DONE] === 3)).toBe(true);
  const { counters, pairs } = it.snapshot();
  expectClean(it.snapshot());
  expect(counters.hops).toBeGreaterThan(0);
  expect(counters.cross).toBeGreaterThan(0);
  expect(pairs.every((pair) => pair.txPackets > 0 && pair.rxPackets > 0)).toBe(true);
});

test('a thread hands packets of another thread’s flow over', async () => {
  await using it = await DriverHarness.open({
    device: { pairs: 2, threads: 2 },
    workload: { kind: 'rr', flows: 4, bytes: 3_000 },
    peer: { route: (pair) => 1 - pair },
  });
  it.command(Command.RUN);
  expect(await it.until(() => it.snapshot().counters.operations >= 200)).toBe(true);
  expectClean(it.snapshot());
  expect(it.snapshot().counters.handedOver).toBeGreaterThan(200);
});

test('memory in several regions with holes between them', async () => {
  await using it = await DriverHarness.open({
    device: { regionSize: 1_048_576, regionGap: 0x4000_0000, guestBase: 0x1_0000_0000 },
    workload: { kind: 'check', flows: 1, bytes: 1_000_000 },
  });
  expect(it.device.description.memory.size).toBeGreaterThan(1_048_576);
  it.command(Command.RUN);
  expect(await it.until(() => it.control[Status.TRANSFERS_DONE] === 1)).toBe(true);
  expect(it.peer.complaints).toEqual([]);
});

test('a refused connect and one without an answer are told apart, and counted', async () => {
  await using it = await DriverHarness.open({
    workload: { flows: 1 },
    loop: { timeoutMs: 50 },
    peer: { service: (port) => (port % 2 === 0 ? 'refuse' : 'silent') },
  });
  it.command(Command.RUN);
  const enough = (): boolean => it.snapshot().counters.refused > 1 && it.snapshot().counters.timeouts > 1;
  expect(await it.until(enough)).toBe(true);
  expect(it.snapshot().counters.operations).toBe(0);
});

test('idle connections are opened beside others, and still answer', async () => {
  await using it = await DriverHarness.open({ workload: { flows: 2, idle: 150, stalled: 20 } });
  it.command(Command.RUN | Command.IDLE | Command.STALL);
  expect(await it.until(() => it.control[Status.IDLE_OPEN] === 150)).toBe(true);
  it.command(Command.IDLE | Command.STALL | Command.PING);
  expect(await it.until(() => it.control[Status.IDLE_ANSWERED] === 150)).toBe(true);
  expect(it.control[Status.IDLE_FAILED]).toBe(0);
  expectClean(it.snapshot());
});

describe('downloads side by side from a network that serves all alike', () => {
  test.each([
    { pairs: 1, threads: 1, flows: 8 },
    { pairs: 2, threads: 2, flows: 8 },
    { pairs: 2, threads: 1, flows: 16 },
  ])('$flows over $pairs queue pairs, $threads threads: all get the same', async ({ pairs, threads, flows }) => {
    await using it = await DriverHarness.open({
      // Without large segments a turn of the peer's is one of the driver's: nothing is lost, and so nobody loses more.
      device: { pairs, threads, refused: ['GUEST_TSO4'] },
      workload: { kind: 'download', flows },
    });
    it.command(Command.RUN);
    expect(await it.until(() => it.snapshot().counters.bytesReceived > flows * 500_000)).toBe(true);
    expectClean(it.snapshot());
    expect(it.snapshot().counters.outOfOrder).toBe(0);
    const bytes = it.peer.tcp.acknowledgedBytes();
    expect(bytes.length).toBe(flows);
    expect(Math.min(...bytes) / Math.max(...bytes)).toBeGreaterThan(0.9);
  });
});
