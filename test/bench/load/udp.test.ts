/** `runLoad` with UDP: true servers, behind a network of the test's that leads datagrams to them. The driver's threads load from dist/. */
import { createSocket } from 'node:dgram';
import type { Socket } from 'node:dgram';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DEVICE_DEFAULTS } from '../../../bench/driver/device.js';
import { LOOP_DEFAULTS } from '../../../bench/driver/eventLoop.js';
import { GUEST_DEFAULTS } from '../../../bench/driver/loadDriver.js';
import type { UdpWorkloadKind } from '../../../bench/driver/workloads.js';
import { runLoad } from '../../../bench/load/load.js';
import { loadReport } from '../../../bench/load/report.js';
import type { LoadResult } from '../../../bench/load/result.js';
import type { PeerOptions } from '../driver/peerNetwork.js';
import { RX_BUFFER } from '../driver/peerNetwork.js';
import { PeerServer, WORKLOAD } from '../driver/peerServer.js';

/** Below the ports that the kernel gives out, and apart from those of other test processes. */
const PORT_BASE = 20_000 + ((process.pid * 20) % 12_000);
const STEP_MS = 1;
const NO_FLOOD = { sent: 0, arrived: 0, bytes: 0, wrong: 0 };

let folder: string;
let server: PeerServer | undefined;
let stepping: NodeJS.Timeout;
const sockets: Socket[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'slipway-udp-'));
});

afterEach(async () => {
  clearInterval(stepping);
  await server?.close();
  for (const socket of sockets.splice(0)) socket.close();
  rmSync(folder, { recursive: true });
});

async function run(mode: UdpWorkloadKind, bytes: number, peer: PeerOptions): Promise<LoadResult> {
  const socket = join(folder, 'socket');
  server = new PeerServer(socket, { pairs: 1, peer });
  const { network } = server;
  stepping = setInterval(() => network.step(), STEP_MS);
  return runLoad(
    {
      mode,
      socket,
      listen: false,
      seconds: 0.3,
      warmup: 0.1,
      serverThreads: 1,
      driver: {
        device: { ...DEVICE_DEFAULTS, rxBufferSize: RX_BUFFER },
        loop: { ...LOOP_DEFAULTS, timeoutMs: 50 },
        workload: { ...WORKLOAD, kind: mode, flows: 2, bytes, portBase: PORT_BASE },
        guest: GUEST_DEFAULTS,
      },
    },
    () => undefined,
  );
}

/** A NAT of a few lines: a socket for each of the guest's ports. Every `lose`th datagram to the host is lost. */
function nat(lose = Infinity): NonNullable<PeerOptions['udp']> {
  const byPort = new Map<number, { socket: Socket; answer: (payload: Uint8Array) => void }>();
  let count = 0;
  return ({ localPort, remotePort, payload }, answer) => {
    let mapping = byPort.get(localPort);
    if (mapping === undefined) {
      const socket = createSocket('udp4');
      sockets.push(socket);
      socket.on('message', (message) => byPort.get(localPort)?.answer(message));
      byPort.set(localPort, (mapping = { socket, answer }));
    }
    mapping.answer = answer;
    if (++count % lose !== 0) mapping.socket.send(payload, remotePort, '127.0.0.1');
  };
}

test('udp-rr: exchanges with the host’s echo, and how long they take', async () => {
  const result = await run('udp-rr', 1_000, { udp: nat() });
  const [window] = result.windows;
  expect(window.counters).toMatchObject({ badData: 0, lost: 0 });
  expect(window.rate).toBeCloseTo(window.counters.operations / window.seconds, 9);
  expect(window.latency.response?.count).toBe(window.counters.operations);
  expect(window.counters.operations).toBeGreaterThan(0);
  expect(loadReport(result, false)).toMatch(/^udp-rr, 2 flows.*\n.*\n.*per second.*p50 µs.*p99.9 µs/);
});

test('udp-flood: the host says what arrived, and what did not is lost', async () => {
  const result = await run('udp-flood', 500, { udp: nat(4) });
  const { flood = NO_FLOOD, rate, seconds } = result.windows[0];
  expect(flood.sent).toBeGreaterThan(0);
  // Every fourth, counted from the warm-up on.
  expect(Math.abs(flood.arrived - 0.75 * flood.sent)).toBeLessThanOrEqual(1);
  expect(flood).toMatchObject({ bytes: 500 * flood.arrived, wrong: 0 });
  expect(rate).toBeCloseTo(flood.arrived / seconds, 9);
  const report = loadReport(result, false);
  expect(report).toMatch(/sent Mpps.*arrived Mpps.*lost %.*Gbit\/s/);
  expect(report).toMatch(/│ +25\.0 │/);
  expect(report).not.toContain('arrived wrong');
});

test('udp-flood: what arrives with other bytes is said to', async () => {
  const forward = nat();
  const result = await run('udp-flood', 500, {
    udp: (datagram, answer) => forward({ ...datagram, payload: Buffer.from(datagram.payload).fill(0, 499) }, answer),
  });
  const { wrong, arrived } = result.windows[0].flood ?? NO_FLOOD;
  // One byte in 256 is zero anyway.
  expect(wrong).toBeGreaterThan(0.9 * arrived);
  expect(arrived).toBeGreaterThan(0);
  expect(loadReport(result, false)).toContain('arrived wrong');
});

test('udp-flood-rx: the host says what it sent, and what did not arrive is lost', async () => {
  const result = await run('udp-flood-rx', 500, { udp: nat() });
  const { flood = NO_FLOOD, counters } = result.windows[0];
  expect(flood.arrived).toBeGreaterThan(0);
  expect(flood).toMatchObject({ arrived: counters.datagramsReceived, bytes: 500 * flood.arrived, wrong: 0 });
  // The source floods a network that moves once in a while.
  expect(flood.sent).toBeGreaterThan(flood.arrived);
});

test.each([
  ['udp-rr', /no echo came back to any of [1-9]\d* datagrams/],
  ['udp-flood', /no datagram arrived, [1-9]\d* were sent/],
  ['udp-flood-rx', /no datagram arrived, 0 were sent/],
] as const)('%s: a network without UDP is an error, not a rate of 0', async (mode, complaint) => {
  await expect(run(mode, 1, {})).rejects.toThrow(complaint);
});
