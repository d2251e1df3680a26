import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { once } from 'node:events';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PATTERN_LENGTH, fillPattern } from '../../../bench/driver/pattern.js';
import { ServicePort } from '../../../bench/driver/workloads.js';
import { processUsage } from '../../../bench/load/processUsage.js';
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
