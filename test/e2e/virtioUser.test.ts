/**
 * DPDK's virtio-user as a front end: testpmd forwards what a capture file holds to the device. Skipped where dpdk-testpmd isn't installed (Debian's dpdk-dev and librte-net-virtio23).
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { createLogger } from '../../src/log.js';
import { Network } from '../../src/network.js';
import { ENGINE } from '../engineUnderTest.js';
import { arpRequest, dhcpDiscover, tcpSyn } from './guestFrames.js';

const HANG = 60_000;
const ANSWER_MS = 20_000;
const installed = spawnSync('dpdk-testpmd', ['--version']).error === undefined;
const folder = mkdtempSync(join(tmpdir(), 'slipway-virtio-user-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A capture file (libpcap's format, version 2.4, Ethernet). */
function capture(frames: readonly Uint8Array[]): Buffer {
  const head = Buffer.alloc(24);
  [0xa1b2c3d4, 0x00040002, 0, 0, 65_535, 1].forEach((word, n) => head.writeUInt32LE(word, 4 * n));
  const records = frames.flatMap((frame) => {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(frame.length, 8);
    record.writeUInt32LE(frame.length, 12);
    return [record, frame];
  });
  return Buffer.concat([head, ...records]);
}

/** Three frames for the device: it answers each. */
const QUESTIONS = [arpRequest(), dhcpDiscover(), tcpSyn(9)];

/**
 * Runs testpmd, which sends them again and again, until the device has answered each kind, then ends it by `signal`.
 * Returns how many frames it says it has received; it says nothing when it is killed.
 */
async function converse(network: Network, options: string, signal: NodeJS.Signals): Promise<number> {
  const input = join(folder, 'in.pcap');
  writeFileSync(input, capture(QUESTIONS));
  const before = network.stats().counters;
  const testpmd = spawn(
    'dpdk-testpmd',
    [
      ['--no-huge', '-m', '256', '--no-pci', '--no-telemetry', '--no-shconf', '-l', '0,1'],
      [`--vdev=net_virtio_user0,mac=52:54:00:12:34:56,${options}`],
      [`--vdev=net_pcap0,rx_pcap=${input},infinite_rx=1`],
      ['--', '--total-num-mbufs=4096', '--forward-mode=io', '--auto-start', '--stats-period=1'],
    ].flat(),
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const exited = once(testpmd, 'close');
  let said = '';
  for (const stream of [testpmd.stdout, testpmd.stderr])
    stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
  try {
    const deadline = performance.now() + ANSWER_MS;
    for (let done = false; !done; await delay(20)) {
      const { resetsSent, framesToGuest } = network.stats().counters;
      const resets = resetsSent - before.resetsSent;
      // Policy refuses the host's loopback by a RST; ARP and DHCP are answered as often.
      done = resets > 0 && framesToGuest - before.framesToGuest > 0;
      if (testpmd.exitCode !== null || performance.now() > deadline) throw new Error(`testpmd: ${said}`);
    }
    testpmd.kill(signal);
    await exited;
  } finally {
    testpmd.kill('SIGKILL');
  }
  return Number(/statistics for port 0[^]*?RX-total: (\d+)/.exec(said)?.[1] ?? 0);
}

describe.skipIf(!installed)('DPDK virtio-user (skipped without dpdk-testpmd)', () => {
  it.each([
    ['one pair', 'queues=1,queue_size=256'],
    ['two pairs of 1024', 'queues=2,queue_size=1024'],
    ['no mergeable buffers', 'queues=1,queue_size=64,mrg_rxbuf=0'],
    ['packed rings, asked for in vain', 'queues=2,queue_size=256,in_order=0,packed_vq=1'],
  ])(
    '%s: is answered, is killed, and is answered again',
    async (_name, options) => {
      await using network = await Network.create({
        engine: ENGINE,
        workers: 1,
        queues: 2,
        log: createLogger('silent'),
      });
      const path = join(folder, 'socket');
      await network.serve({ path });
      await converse(network, `path=${path},${options}`, 'SIGKILL');
      expect(await converse(network, `path=${path},${options}`, 'SIGINT')).toBeGreaterThan(0);
    },
    HANG,
  );

  it(
    'as the listening end, twice',
    async () => {
      await using network = await Network.create({
        engine: ENGINE,
        workers: 1,
        queues: 1,
        log: createLogger('silent'),
      });
      const path = join(folder, 'listening');
      await network.serve({ path, mode: 'client' });
      await converse(network, `path=${path},queue_size=256,server=1`, 'SIGKILL');
      // Killed, it leaves its socket, and would not replace it.
      rmSync(path, { force: true });
      expect(await converse(network, `path=${path},queue_size=256,server=1`, 'SIGINT')).toBeGreaterThan(0);
    },
    HANG,
  );
});
