import { createSocket } from 'node:dgram';
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { once } from 'node:events';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PATTERN_LENGTH, fillPattern } from '../../../bench/driver/pattern.js';
import { ServicePort } from '../../../bench/driver/workloads.js';
import { processUsage } from '../../../bench/load/processUsage.js';
import { readServerCounts, settledServerCounts } from '../../../bench/load/serverCounts.js';
import { LoadServers } from '../../../bench/load/servers.js';

/** Below the ports that the kernel gives out, and apart from those of other test processes. */
const PORT_BASE = 20_000 + ((process.pid * 20) % 12_000);
const pattern = new Uint8Array(PATTERN_LENGTH);
fillPattern(pattern);

let servers: LoadServers;
beforeAll(async () => {
  servers = await LoadServers.start(PORT_BASE, 2);
});
afterAll(() => servers.close());

async function open(port: number, allowHalfOpen = false): Promise<Socket> {
  const socket = connect({ port: PORT_BASE + port, host: '127.0.0.1', allowHalfOpen });
  await once(socket, 'connect');
  return socket;
}

/** Reads until `length` bytes are there, or the end. */
async function read(socket: Socket, length = Infinity): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of socket) {
    parts.push(part as Buffer);
    bytes += (part as Buffer).length;
    if (bytes >= length) break;
  }
  return Buffer.concat(parts);
}

test('echo sends back what comes', async () => {
  const socket = await open(ServicePort.ECHO + 7);
  socket.write('hello');
  expect((await read(socket, 5)).toString()).toBe('hello');
});

test('the source sends the pattern of the driver, over and over', async () => {
  const received = await read(await open(ServicePort.SOURCE), 20 * PATTERN_LENGTH);
  const expected = new Uint8Array(received.length);
  fillPattern(expected);
  expect(received.compare(expected)).toBe(0);
});

test.each([
  ['right', 0, 0n],
  ['wrong', 1, 1n],
])('check says how much came, and that it is %s', async (_, change, wrong) => {
  const socket = await open(ServicePort.CHECK, true);
  const bytes = Uint8Array.from(pattern.subarray(0, 10_000));
  bytes[5_000] ^= change;
  socket.end(bytes);
  const answer = await read(socket);
  expect(answer.readBigUInt64LE(0)).toBe(10_000n);
  expect(answer.readBigUInt64LE(8)).toBe(wrong);
});

test('the sink takes what comes and sends nothing', async () => {
  const socket = await open(ServicePort.SINK, true);
  socket.end(Buffer.alloc(1_000_000));
  expect((await read(socket)).length).toBe(0);
});

/** As the load driver sends it: its number, and the pattern from there on. */
function datagram(number: number, length: number): Buffer {
  const whole = Buffer.alloc(Math.max(length, 4));
  whole.writeUInt32LE(number);
  for (let n = 4; n < length; n++) whole[n] = pattern[(number + n - 4) % PATTERN_LENGTH];
  return whole.subarray(0, length);
}

test('UDP: echo sends back what comes, an empty datagram and the largest too', async () => {
  const socket = createSocket('udp4');
  for (const length of [1, 0, 1_472, 65_507]) {
    const sent = Buffer.from(pattern.subarray(0, length));
    socket.send(sent, PORT_BASE + ServicePort.ECHO, '127.0.0.1');
    const [echoed] = (await once(socket, 'message')) as [Buffer];
    expect(echoed.equals(sent)).toBe(true);
  }
  socket.close();
});

test('UDP: the sink counts what comes, and what of it is wrong; whoever asks is told', async () => {
  const before = await readServerCounts(PORT_BASE);
  const socket = createSocket('udp4');
  const lengths = [0, 1, 4, 5, 1_000, 65_507];
  const numbers = [0, PATTERN_LENGTH - 1, PATTERN_LENGTH + 7, 0xffff_ffff];
  const sent = numbers.flatMap((number) => lengths.map((length) => datagram(number, length)));
  const last = sent[sent.length - 1];
  const wrong = [4, 65_506].map((at) => Buffer.from(last).fill(last[at] ^ 1, at, at + 1));
  for (const each of [...sent, ...wrong]) socket.send(each, PORT_BASE + ServicePort.SINK, '127.0.0.1');
  const arrived = await settledServerCounts(PORT_BASE);
  expect(arrived).toEqual({
    datagrams: before.datagrams + sent.length + 2,
    bytes: before.bytes + [...sent, ...wrong].reduce((sum, { length }) => sum + length, 0),
    wrong: before.wrong + 2,
    sent: before.sent,
  });
  socket.close();
});

test('UDP: the source sends numbered datagrams of the request’s length until it is told to stop, or hears no more', async () => {
  const before = await readServerCounts(PORT_BASE);
  const socket = createSocket('udp4');
  const seen: Buffer[] = [];
  socket.on('message', (message: Buffer) => seen.push(message));
  const ask = (length: number): void => socket.send(Buffer.alloc(length), PORT_BASE + ServicePort.SOURCE, '127.0.0.1');
  ask(100);
  const { sent } = await settledServerCounts(PORT_BASE);
  expect(seen.length).toBeGreaterThan(0);
  expect(sent - before.sent).toBeGreaterThanOrEqual(seen.length);
  for (const each of seen) expect(each.equals(datagram(each.readUInt32LE(0), 100))).toBe(true);
  seen.length = 0;
  ask(2);
  await once(socket, 'message');
  ask(0);
  await settledServerCounts(PORT_BASE);
  expect(seen.every(({ length }) => length === 2)).toBe(true);
  const ended = seen.length;
  await settledServerCounts(PORT_BASE);
  expect(seen.length).toBe(ended);
  socket.close();
});

test('nobody says what arrived where there are no servers', async () => {
  await expect(readServerCounts(PORT_BASE + 5)).rejects.toThrow(
    `the servers on port ${PORT_BASE + 5} do not say what arrived: connect ECONNREFUSED`,
  );
});

test('a port of UDP that is taken is named', async () => {
  const squatter = createSocket('udp4').bind(PORT_BASE + 20, '127.0.0.1');
  await once(squatter, 'listening');
  await expect(LoadServers.start(PORT_BASE + 20, 1)).rejects.toThrow(`127.0.0.1:${PORT_BASE + 20} (UDP)`);
  squatter.close();
});

test('a port that is taken is named', async () => {
  const squatter = createServer().listen({ port: PORT_BASE + 15, host: '127.0.0.1' });
  await once(squatter, 'listening');
  await expect(LoadServers.start(PORT_BASE + 15, 1)).rejects.toThrow(`127.0.0.1:${PORT_BASE + 15}`);
  squatter.close();
});

test('servers of another run are no ports to share', async () => {
  await expect(LoadServers.start(PORT_BASE, 2)).rejects.toThrow('Address already in use');
});

test('the congestion control is set, or named if the host has none such', async () => {
  await (await LoadServers.start(PORT_BASE + 20, 1, 'reno')).close();
  await expect(LoadServers.start(PORT_BASE + 20, 1, 'carrier-pigeon')).rejects.toThrow('carrier-pigeon: No such file');
});

test('the usage of a process, and of none', () => {
  expect(processUsage(servers.pid)).toMatchObject({ threads: 3 });
  expect(processUsage(2 ** 22 + 1)).toBeUndefined();
});
