/**
 * DPDK's virtio-user as a front end: testpmd forwards what a capture file holds to the device, and what the device answers
 * to another. Skipped where dpdk-testpmd isn't installed (Debian's dpdk-dev and librte-net-virtio23).
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { createLogger } from '../../src/log.js';
import { Network } from '../../src/network.js';
import { arpRequest, dhcpDiscover, tcpSyn } from './guestFrames.js';

const HANG = 60_000;
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

/** The frames of a capture file, as far as it is written. */
function captured(path: string): Buffer[] {
  const bytes = existsSync(path) ? readFileSync(path) : Buffer.alloc(0);
  const frames: Buffer[] = [];
  for (let at = 24; at + 16 <= bytes.length; at += 16 + bytes.readUInt32LE(at + 8)) {
    frames.push(bytes.subarray(at + 16, at + 16 + bytes.readUInt32LE(at + 8)));
  }
  return frames;
}

const etherType = (frame: Buffer): number => frame.readUInt16BE(12);
const protocol = (frame: Buffer): number => (etherType(frame) === 0x0800 ? frame[23]! : 0);
const ARP = 0x0806;
const TCP = 6;
const UDP = 17;

/** Runs testpmd until the device has answered a DISCOVER, an ARP request and a SYN to a closed port; kills it then. */
async function expectAnswers(path: string, device: string, queues: number): Promise<void> {
  const input = join(folder, 'in.pcap');
  const output = join(folder, 'out.pcap');
  rmSync(output, { force: true });
  writeFileSync(input, capture([arpRequest(), dhcpDiscover(), tcpSyn(9)]));
  const testpmd = spawn(
    'dpdk-testpmd',
    [
      ['--no-huge', '-m', '256', '--no-pci', '--no-telemetry', '--no-shconf', '--lcores', '(0,1)@(0-1)'],
      [`--vdev=net_virtio_user0,mac=52:54:00:12:34:56,path=${path},queues=${queues},${device}`],
      [`--vdev=net_pcap0,rx_pcap=${input},tx_pcap=${output}`],
      ['--', '--total-num-mbufs=4096', '--forward-mode=io', '--auto-start', `--stats-period=1`],
    ].flat(),
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const exited = once(testpmd, 'exit');
  let said = '';
  for (const stream of [testpmd.stdout, testpmd.stderr])
    stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
  for (let frames: Buffer[] = []; frames.length < 3; frames = captured(output)) {
    if (testpmd.exitCode !== null) throw new Error(`testpmd ended: ${said}`);
    await delay(20);
  }
  testpmd.kill('SIGKILL');
  await exited;
  const frames = captured(output);
  expect(frames.some((frame) => etherType(frame) === ARP)).toBe(true);
  expect(frames.some((frame) => protocol(frame) === UDP && frame.readUInt16BE(34) === 67)).toBe(true);
  // Policy refuses the host's loopback: RST.
  expect(frames.some((frame) => protocol(frame) === TCP && (frame[47]! & 4) !== 0)).toBe(true);
}

describe.skipIf(!installed)('DPDK virtio-user (skipped without dpdk-testpmd)', () => {
  it.each([
    ['one pair', 1, 'queue_size=256'],
    ['two pairs of 1024', 2, 'queue_size=1024'],
    ['no mergeable buffers', 1, 'queue_size=64,mrg_rxbuf=0'],
    ['no in-order ring, packed rings asked for in vain', 2, 'queue_size=256,in_order=0,packed_vq=1'],
  ])(
    '%s: connects, is answered, is killed, three times',
    async (_name, queues, device) => {
      await using network = await Network.create({ workers: 1, queues: 2, log: createLogger('silent') });
      const path = join(folder, 'socket');
      await network.serve({ path });
      for (let n = 0; n < 3; n++) await expectAnswers(path, device, queues);
    },
    HANG,
  );

  it(
    'as the listening end',
    async () => {
      await using network = await Network.create({ workers: 1, queues: 1, log: createLogger('silent') });
      const path = join(folder, 'listening');
      await network.serve({ path, mode: 'client' });
      for (let n = 0; n < 2; n++) {
        // Killed, it leaves its socket, and would not replace it.
        rmSync(path, { force: true });
        await expectAnswers(path, 'queue_size=256,server=1', 1);
      }
    },
    HANG,
  );
});
