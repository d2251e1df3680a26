/** UDP of the load driver, against a network that answers, loses, delays and falsifies datagrams. */
import { describe, expect, test } from 'vitest';
import { Command } from '../../../bench/driver/control.js';
import type { FeatureName } from '../../../bench/driver/features.js';
import { PATTERN_LENGTH, fillPattern } from '../../../bench/driver/pattern.js';
import { ServicePort } from '../../../bench/driver/workloads.js';
import { expectClean } from './clean.js';
import { DriverHarness } from './harness.js';
import type { Datagram, PeerOptions } from './peerNetwork.js';

const NO_OFFLOADS: FeatureName[] = ['CSUM', 'GUEST_CSUM', 'INDIRECT_DESC', 'EVENT_IDX', 'MRG_RXBUF'];
const echo: PeerOptions['udp'] = ({ payload }, answer) => answer(payload);

describe.each([
  ['all features', []],
  ['none that can be refused', NO_OFFLOADS],
  ['direct descriptors', ['INDIRECT_DESC']],
] as [string, FeatureName[]][])('with %s', (_, refused) => {
  // 1,472 is the largest; 516 the last that is copied behind the headers; 8,972 takes several receive buffers.
  test.each([1, 3, 4, 5, 516, 517, 1_472, 8_972])('udp-rr: datagrams of %i bytes, every byte right', async (bytes) => {
    await using it = await DriverHarness.open({
      device: { refused, mtu: Math.max(1_500, bytes + 28) },
      workload: { kind: 'udp-rr', flows: 4, bytes },
      peer: { udp: echo },
    });
    it.command(Command.RUN);
    expect(await it.until(() => it.snapshot().counters.operations >= 200)).toBe(true);
    const { counters, latency, flowBytes } = it.snapshot();
    expectClean(it.snapshot());
    expect(it.peer.complaints).toEqual([]);
    expect(counters).toMatchObject({ lost: 0, stray: 0, datagramsReceived: counters.operations });
    expect(counters.bytesReceived).toBe(bytes * counters.operations);
    expect(latency.response?.count).toBe(counters.operations);
    expect(flowBytes.reduce((sum, each) => sum + each)).toBe(counters.bytesSent + counters.bytesReceived);
    expect(Math.min(...flowBytes)).toBeGreaterThan(0);
  });
});

test('a datagram is its number, little-endian, and the pattern from there on', async () => {
  const seen: Datagram[] = [];
  await using it = await DriverHarness.open({
    workload: { kind: 'udp-rr', flows: 2, bytes: 100, portBase: 5_000 },
    peer: { udp: (datagram, answer) => (seen.push(datagram), answer(datagram.payload)) },
  });
  it.command(Command.RUN);
  expect(await it.until(() => it.snapshot().counters.operations >= 20)).toBe(true);
  const pattern = new Uint8Array(PATTERN_LENGTH + 100);
  fillPattern(pattern);
  for (const { payload, remotePort } of seen) {
    const number = payload.readUInt32LE(0);
    const at = number % PATTERN_LENGTH;
    expect(payload.subarray(4).equals(pattern.subarray(at, at + 96))).toBe(true);
    expect(remotePort).toBe(5_000 + ServicePort.ECHO);
  }
  const ports = new Set(seen.map(({ localPort }) => localPort));
  expect(ports.size).toBe(2);
  for (const port of ports) {
    const numbers = seen.filter(({ localPort }) => localPort === port).map(({ payload }) => payload.readInt32LE(0));
    expect(numbers).toEqual(numbers.map((_, n) => (numbers[0] + n) | 0));
  }
});

test('udp-rr: what is lost is given up, counted, and sent anew', async () => {
  let packets = 0;
  await using it = await DriverHarness.open({
    workload: { kind: 'udp-rr', flows: 3, bytes: 8 },
    loop: { timeoutMs: 20 },
    peer: { udp: echo, loss: 0.5, random: () => (++packets % 10 === 0 ? 0 : 1) },
  });
  it.command(Command.RUN);
  expect(await it.until(() => it.snapshot().counters.lost >= 5)).toBe(true);
  const { counters } = it.snapshot();
  expectClean(it.snapshot());
  expect(counters.operations).toBeGreaterThan(counters.lost);
  // What waits for its time limit yet is neither.
  expect(it.peer.lost - counters.lost).toBeGreaterThanOrEqual(0);
  expect(it.peer.lost - counters.lost).toBeLessThanOrEqual(3);
});

test('udp-rr: echoes that come late, or twice, are nobody’s answer', async () => {
  const late: (() => void)[] = [];
  let count = 0;
  await using it = await DriverHarness.open({
    workload: { kind: 'udp-rr', flows: 1, bytes: 8 },
    loop: { timeoutMs: 20 },
    peer: {
      udp: ({ payload }, answer) => {
        count++;
        if (count % 10 === 0) return void late.push(() => answer(payload));
        answer(payload);
        if (count % 10 === 5) answer(payload);
        if (count % 10 === 1) for (const each of late.splice(0)) each();
      },
    },
  });
  it.command(Command.RUN);
  expect(await it.until(() => it.snapshot().counters.lost >= 3 && count % 10 === 4)).toBe(true);
  const { counters } = it.snapshot();
  expectClean(it.snapshot());
  expect(counters.stray).toBeGreaterThanOrEqual(counters.lost);
  expect(counters.datagramsReceived).toBe(counters.operations + counters.stray);
});

test('udp-rr: an echo with other bytes, or fewer or more of them, is bad data', async () => {
  const falsifiers: ((payload: Buffer) => Buffer)[] = [
    (payload) => (payload.writeUInt8(payload[99] ^ 1, 99), payload),
    (payload) => payload.subarray(0, 99),
    (payload) => Buffer.concat([payload, Buffer.from([0])]),
  ];
  for (const falsify of falsifiers) {
    let falsified = 0;
    await using it = await DriverHarness.open({
      workload: { kind: 'udp-rr', flows: 1, bytes: 100 },
      peer: { udp: ({ payload }, answer) => answer(++falsified <= 3 ? falsify(payload) : payload) },
    });
    it.command(Command.RUN);
    expect(await it.until(() => it.snapshot().counters.operations >= 10)).toBe(true);
    expectClean(it.snapshot(), 'badData');
    expect(it.snapshot().counters.badData).toBe(3);
  }
});

test('udp-rr: a network without UDP', async () => {
  await using it = await DriverHarness.open({
    workload: { kind: 'udp-rr', flows: 2, bytes: 1 },
    loop: { timeoutMs: 10 },
  });
  it.command(Command.RUN);
  expect(await it.until(() => it.snapshot().counters.lost >= 4)).toBe(true);
  expect(it.snapshot().counters.operations).toBe(0);
});

test('echoes on another queue pair reach their flow’s thread; flows hop', async () => {
  await using it = await DriverHarness.open({
    device: { pairs: 4, threads: 2 },
    workload: { kind: 'udp-rr', flows: 4, bytes: 1_000, hopMs: 1 },
    peer: { udp: echo, route: (pair) => 3 - pair },
  });
  it.command(Command.RUN);
  expect(await it.until(() => it.snapshot().counters.operations >= 400)).toBe(true);
  const { counters, pairs } = it.snapshot();
  expectClean(it.snapshot());
  expect(counters.lost).toBe(0);
  expect(counters.handedOver).toBeGreaterThan(200);
  expect(pairs.every(({ txPackets, rxPackets }) => txPackets > 0 && rxPackets > 0)).toBe(true);
});

test('udp-flood: as many as the queues take, evenly from all flows, until told to stop', async () => {
  const arrived = new Map<number, number>();
  await using it = await DriverHarness.open({
    device: { pairs: 2, threads: 2, queueSize: 32 },
    workload: { kind: 'udp-flood', flows: 4, bytes: 1_472 },
    peer: {
      udp: ({ localPort, remotePort }) => {
        expect(remotePort).toBe(18_000 + ServicePort.SINK);
        arrived.set(localPort, (arrived.get(localPort) ?? 0) + 1);
      },
    },
  });
  const total = (): number => [...arrived.values()].reduce((sum, each) => sum + each, 0);
  it.command(Command.RUN);
  expect(await it.until(() => total() > 5_000)).toBe(true);
  it.command(0);
  let before = -1;
  expect(await it.until(() => before === (before = total()))).toBe(true);
  const { counters, flowBytes } = it.snapshot();
  expect(counters.datagramsSent).toBe(total());
  expect(counters.txFull).toBeGreaterThan(0);
  expect(flowBytes.reduce((sum, each) => sum + each)).toBe(1_472 * total());
  expect(Math.max(...arrived.values()) - Math.min(...arrived.values())).toBeLessThan(0.1 * total());
  expect(it.peer.complaints).toEqual([]);
  // And anew.
  it.command(Command.RUN);
  expect(await it.until(() => it.snapshot().counters.datagramsSent > counters.datagramsSent)).toBe(true);
});

/** Answers a request by so many datagrams of its length. */
function source(count: number, change = (payload: Buffer): Buffer => payload): NonNullable<PeerOptions['udp']> {
  const pattern = new Uint8Array(2 * PATTERN_LENGTH);
  fillPattern(pattern);
  return ({ payload, remotePort }, answer) => {
    expect(remotePort).toBe(18_000 + ServicePort.SOURCE);
    for (let n = 0; n < count && payload.length > 0; n++) {
      const number = PATTERN_LENGTH - 2 + n;
      const at = number % PATTERN_LENGTH;
      const datagram = Buffer.concat([Buffer.alloc(4), pattern.subarray(at, at + payload.length - 4)]);
      datagram.writeUInt32LE(number);
      answer(change(datagram));
    }
  };
}

test.each([
  ['all features', []],
  ['none that can be refused', NO_OFFLOADS],
] as [string, FeatureName[]][])(
  'udp-flood-rx with %s: asks again and again, and for nothing at the end',
  async (_, refused) => {
    let last = -1;
    const send = source(8);
    await using it = await DriverHarness.open({
      device: { refused },
      workload: { kind: 'udp-flood-rx', flows: 2, bytes: 1_472 },
      peer: { udp: (datagram, answer) => ((last = datagram.payload.length), send(datagram, answer)) },
    });
    it.command(Command.RUN);
    expect(await it.until(() => it.snapshot().counters.datagramsReceived >= 100)).toBe(true);
    expectClean(it.snapshot());
    expect(last).toBe(1_472);
    it.command(0);
    expect(await it.until(() => last === 0)).toBe(true);
    const { counters, flowBytes } = it.snapshot();
    expect(flowBytes.reduce((sum, each) => sum + each)).toBe(counters.bytesReceived);
    it.command(Command.RUN);
    expect(await it.until(() => last === 1_472)).toBe(true);
    expect(it.peer.complaints).toEqual([]);
  },
);

test('udp-flood-rx: a datagram of other bytes, or of another length, is bad data', async () => {
  const changes: ((payload: Buffer) => Buffer)[] = [
    (payload) => (payload.writeUInt8(payload[50] ^ 1, 50), payload),
    (payload) => (payload.writeUInt8(payload[0] ^ 1, 0), payload),
    (payload) => payload.subarray(1),
  ];
  for (const change of changes) {
    await using it = await DriverHarness.open({
      workload: { kind: 'udp-flood-rx', flows: 1, bytes: 100 },
      peer: { udp: source(2, change) },
    });
    it.command(Command.RUN);
    expect(await it.until(() => it.snapshot().counters.datagramsReceived >= 10)).toBe(true);
    expect(it.snapshot().counters.badData).toBe(it.snapshot().counters.datagramsReceived);
  }
});
