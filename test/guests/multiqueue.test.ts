/** A real Linux guest with several vCPUs on a Slipway network: queue pairs, connections that move between them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GuestServer } from '../../bench/guests/guestServer.js';
import { parseCrrRun } from '../../bench/crr/result.js';
import { bulkRunSchema } from '../../bench/bulk/result.js';
import type { BulkRun } from '../../bench/bulk/result.js';
import { compileTool } from '../../bench/native/tools.js';
import { Network } from '../../src/network.js';
import { ENGINE } from '../engineUnderTest.js';
import { Sandbox } from '../../src/sandbox/sandbox.js';

const MIB = 1 << 20;
/** For hangs: the guests are emulated. */
const HANG = 240_000;

describe.each([2, 4])(
  'a guest with %i vCPUs',
  (cpus) => {
    let server: GuestServer;
    let network: Network;
    let sandbox: Sandbox;

    beforeAll(async () => {
      server = await GuestServer.start();
      network = await Network.create({ engine: ENGINE, workers: 2, queues: cpus, allowHostLoopback: true });
      const files = {
        '/bin/crr': compileTool('guest/crr.c'),
        '/bin/bulk': compileTool('guest/bulk.c'),
        '/usr/sbin/ethtool': '/usr/sbin/ethtool',
      };
      sandbox = await Sandbox.start({ network, cpus, memoryMiB: 256, files });
    }, HANG);

    afterAll(async () => {
      await sandbox?.close();
      await network?.close();
      await server?.stop();
    }, HANG);

    const combined = async (): Promise<number> => {
      const { stdout } = await sandbox.run(['ethtool', '-l', 'eth0']);
      return Number(/Current hardware settings:[^]*Combined:\s+(\d+)/.exec(stdout)?.[1]);
    };

    const setCombined = async (pairs: number): Promise<void> => {
      const { exitCode, stderr } = await sandbox.run(['ethtool', '-L', 'eth0', 'combined', String(pairs)]);
      expect(stderr).toBe('');
      expect(exitCode).toBe(0);
    };

    const bulk = async (
      direction: 'send' | 'receive',
      bytes: number,
      streams: number,
      hopMs: number,
    ): Promise<BulkRun> => {
      const command = ['bulk', direction, '10.0.2.2', server.bulkPort, bytes, streams, hopMs].map(String);
      const { stdout, stderr } = await sandbox.run(command);
      expect(stderr).toBe('');
      return bulkRunSchema.parse(JSON.parse(stdout));
    };

    it('has its lease', () => {
      expect(sandbox.networkComplaint).toBe('');
    });

    it('uses one queue pair per vCPU, and every one carries packets (B5)', async () => {
      expect(await combined()).toBe(cpus);
      const run = parseCrrRun(await sandbox.run(['crr', '10.0.2.2', server.crrPort, 2 * cpus, 400].map(String)));
      expect(run.errors).toEqual({});
      const [device] = network.stats().devices;
      expect(device?.transmitChains.every((chains) => chains > 0)).toBe(true);
      expect(device?.receiveChains.every((chains) => chains > 0)).toBe(true);
      // The control queue is QEMU's own with vhost-user.
      expect(device?.interrupts.slice(0, -1).every((count) => count > 0)).toBe(true);
      expect(device?.kicks.every((count, queue) => count > 0 || queue % 2 === 0)).toBe(true);
    });

    it.each([
      ['send', 1],
      ['send', 8],
      ['receive', 1],
      ['receive', 8],
    ] as const)(
      '%s, %i streams: loses nothing while the process hops between vCPUs (D3)',
      async (direction, streams) => {
        const run = await bulk(direction, 64 * MIB, streams, 10);
        expect(run.equal).toBe(true);
        expect(run.hops).toBeGreaterThan(0);
      },
    );

    it('followed the process: packets were handed over, and flows moved', async () => {
      const { handoffsOut, handoffsDropped, rehomedOut } = network.stats().counters;
      expect(handoffsOut).toBeGreaterThan(0);
      expect(handoffsDropped).toBe(0);
      expect(rehomedOut).toBeGreaterThan(0);
      const underWay = (): number[] => {
        const { counters } = network.stats();
        return [counters.handoffsOut - counters.handoffsIn, counters.rehomedOut - counters.rehomedIn];
      };
      await expect.poll(underWay, { timeout: HANG }).toEqual([0, 0]);
    });

    it('connections survive `ethtool -L` to 1 and back under load', async () => {
      const transfers = Promise.all([bulk('send', 48 * MIB, 2, 0), bulk('receive', 48 * MIB, 2, 0)]);
      for (let n = 0; n < 3; n++) {
        await setCombined(1);
        expect(await combined()).toBe(1);
        await setCombined(cpus);
        expect(await combined()).toBe(cpus);
      }
      for (const run of await transfers) expect(run.equal).toBe(true);
    });
  },
  HANG,
);
