/** Front ends that come and go, and change their device, while bytes move. */
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { GuestProcess } from './children.js';
import type { Load } from './loadedNetwork.js';
import { mappingsOf, openDescriptors } from '../native/support.js';
import { LoadedNetwork, eventually } from './loadedNetwork.js';

const MIB = 2 ** 20;
const SHAPES = [
  { workers: 1, queues: 2 },
  { workers: 2, queues: 2 },
] as const;

describe.each(SHAPES)('$workers workers, $queues queue pairs', ({ workers, queues }) => {
  it('20 front ends that leave in mid-transfer leave nothing behind', async () => {
    await using host = await LoadedNetwork.start({ workers, queues });
    const before = { descriptors: openDescriptors(), mappings: mappingsOf('') };
    for (let n = 0; n < 20; n++) {
      const kind = n % 2 === 0 ? 'upload' : 'download';
      await using load = await host.load({ workload: { kind, flows: 4, hopMs: 3 } });
      await load.moreBytes(MIB);
    }
    await eventually(() => host.flows === 0 && !connected(host), 'flows end');
    await eventually(() => openDescriptors() <= before.descriptors, 'descriptors are closed');
    expect(mappingsOf('')).toBe(before.mappings);
    expect(host.deaths).toBe(0);
  });

  it.each([
    ['killed in mid-transfer', 'go on'],
    ['killed after they truncated their memory in mid-transfer', 'truncate'],
  ] as const)('front ends that are %s leave nothing behind', async (_, act) => {
    await using host = await LoadedNetwork.start({ workers, queues });
    const before = { descriptors: openDescriptors(), mappings: mappingsOf('') };
    for (let n = 0; n < 4; n++) {
      await using guest = await GuestProcess.start(host.path, queues, act);
      if (act === 'truncate') await guest.line();
      await delay(20);
      await guest.kill();
    }
    await eventually(() => host.flows === 0 && !connected(host), 'flows end');
    await eventually(() => openDescriptors() <= before.descriptors, 'descriptors are closed');
    expect(mappingsOf('')).toBe(before.mappings);
    await using load = await host.load();
    await load.more(500);
    load.expectClean();
    expect(host.deaths).toBe(0);
  });

  describe.each(['check', 'fetch'] as const)('transfers (%s)', (kind) => {
    const workload = { kind, flows: 8, bytes: 64 * MIB, hopMs: 5 } as const;

    it('go on while memory is told anew (SET_MEM_TABLE)', async () => {
      await using host = await LoadedNetwork.start({ workers, queues });
      await using load = await host.load({ workload });
      const { frontEnd, description } = load.driver.device;
      for (let n = 0; n < 10; n++) {
        await moreOrAll(load);
        await frontEnd.setMemory(description.memory);
      }
      await expectFinish(load);
    });

    it('go on while rings stop and start (GET_VRING_BASE)', async () => {
      await using host = await LoadedNetwork.start({ workers, queues });
      await using load = await host.load({ workload });
      for (let n = 0; n < 10; n++) {
        await moreOrAll(load);
        await restartQueue(load, n % (2 * queues));
      }
      await expectFinish(load);
    });

    it('go on while rings are disabled and enabled', async () => {
      await using host = await LoadedNetwork.start({ workers, queues });
      await using load = await host.load({ workload });
      const { frontEnd } = load.driver.device;
      for (let n = 0; n < 6; n++) {
        // Never all receive rings at once; a disabled transmit ring drops what comes.
        const ring = 2 + (n % 2);
        await frontEnd.enableQueue(ring, false);
        await delay(20);
        await frontEnd.enableQueue(ring, true);
        await moreOrAll(load);
      }
      await expectFinish(load);
    });
  });

  it('what pair 1 would get goes to pair 0 while its receive ring is off, and comes back', async () => {
    await using host = await LoadedNetwork.start({ workers, queues });
    await using load = await host.load({ workload: { kind: 'rr', flows: 8 } });
    const { frontEnd } = load.driver.device;
    const received = (pair: number): number => load.counts.pairs[pair]!.rxPackets;
    await load.until(() => received(1) > 100, 'pair 1 receives');
    await frontEnd.enableQueue(2, false);
    // What was in the used ring before is received first.
    await load.more(500);
    const before = { off: received(1), bytes: load.counts.flowBytes };
    await load.more(2_000);
    expect(received(1)).toBe(before.off);
    expect(load.counts.flowBytes.every((bytes, flow) => bytes > before.bytes[flow]!)).toBe(true);
    await frontEnd.enableQueue(2, true);
    await load.until(() => received(1) > before.off + 100, 'pair 1 receives again');
    load.expectClean();
  });
});

function connected(host: LoadedNetwork): boolean {
  return host.network.stats().devices.some((device) => device.connected);
}

/** A MiB more, or the end of all transfers: what the test does to the device may take longer than they. */
async function moreOrAll(load: Load): Promise<void> {
  const goal = load.bytes + MIB;
  await load.until(() => load.bytes >= goal || load.transfersDone === 8, 'a MiB more');
}

async function expectFinish(load: Load): Promise<void> {
  await load.until(() => load.transfersDone === 8, 'all transfers end');
  load.expectClean();
}

async function restartQueue(load: Load, index: number): Promise<void> {
  const { frontEnd, description } = load.driver.device;
  const pair = description.pairs[index >> 1]!;
  const transmit = index % 2 === 1;
  const base = await frontEnd.stopQueue(index);
  const [layout, kick, call] = transmit ? [pair.tx, pair.txKick, pair.txCall] : [pair.rx, pair.rxKick, pair.rxCall];
  await frontEnd.startQueue(index, layout, kick, call, base, description.memory);
  await frontEnd.enableQueue(index, true);
}
