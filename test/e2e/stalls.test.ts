/** Slow and silent peers beside quick ones: only their own flow waits. */
import { describe, expect, it } from 'vitest';
import { Command } from '../../bench/driver/control.js';
import { parseIpv4Address } from '../../workers/wire/ipv4.js';
import { LoadedNetwork, REFUSED_PORT, eventually } from './loadedNetwork.js';

describe.each([1, 2])('%i workers', (workers) => {
  it('CRRs go on beside 1,000 connects that nobody answers; those end by RST after connectTimeoutMs', async () => {
    await using host = await LoadedNetwork.start({ workers, queues: workers, connectTimeoutMs: 2_000 });
    const stalled = 1_000;
    await using load = await host.load({ device: { threads: workers }, workload: { stalled } });
    await load.more(500);
    load.driver.begin(Command.STALL);
    await eventually(() => host.flows >= stalled, 'the connects wait');
    expect(host.network.stats().counters.connectTimedOut).toBe(0);
    await load.more(2_000);
    // A stalled flow that was refused opens anew at the next tick: the first round is what counts.
    await load.until(() => load.counts.counters.refused >= stalled, 'a RST for each');
    const { refused, resets, timeouts, badData, badFrames } = load.counts.counters;
    expect({ resets, timeouts, badData, badFrames }).toEqual({ resets: 0, timeouts: 0, badData: 0, badFrames: 0 });
    expect(host.network.stats().counters.connectTimedOut).toBeGreaterThanOrEqual(Math.min(refused, stalled));
    expect(host.deaths).toBe(0);
  });
});

it('a refused port is refused at once, whatever else waits', async () => {
  await using host = await LoadedNetwork.start({ workers: 1, queues: 1, connectTimeoutMs: 600_000 });
  await using load = await host.load({ workload: { kind: 'download', flows: 4, portBase: REFUSED_PORT - 11 } });
  await load.until(() => load.counts.counters.refused >= 100, 'RSTs');
  expect(host.network.stats().counters.connectFailed).toBeGreaterThanOrEqual(100);
  expect(load.counts.counters.connects).toBe(0);
});

describe('secure by default', () => {
  it.each([
    ["the host's loopback as 10.0.2.2", '10.0.2.2', false],
    ['127.0.0.1', '127.0.0.1', true],
    ['127.255.0.1', '127.255.0.1', true],
    ['0.0.0.0', '0.0.0.0', true],
    ["the clouds' metadata service, 169.254.169.254", '169.254.169.254', true],
    ['broadcast', '255.255.255.255', true],
  ])('%s is refused', async (_, address, allowHostLoopback) => {
    await using host = await LoadedNetwork.start({ workers: 1, queues: 1, allowHostLoopback });
    await using load = await host.load({ workload: { address: parseIpv4Address(address) } });
    await load.until(() => load.counts.counters.refused >= 20, 'RSTs');
    expect(load.counts.counters.connects).toBe(0);
    const { counters } = host.network.stats();
    expect(counters.deniedByPolicy).toBeGreaterThanOrEqual(20);
    expect(counters.flowsOpened).toBe(0);
  });
});

it('a full shard refuses what is too much, keeps what it has, and recovers', async () => {
  await using host = await LoadedNetwork.start({ workers: 1, queues: 1, maxFlows: 16 });
  await using load = await host.load({ workload: { kind: 'rr', flows: 8, idle: 32 } });
  await load.more(100);
  load.driver.begin(Command.IDLE);
  await load.until(() => load.counts.counters.refused >= 24, 'RSTs for those beyond 16');
  expect(host.network.stats().counters.shardFull).toBeGreaterThanOrEqual(24);
  await load.more(1_000);
  expect(load.counts.counters.resets).toBe(0);
  await load.driver.close();
  await eventually(() => host.flows === 0, 'all flows end');
  await using next = await host.load({ workload: { kind: 'rr', flows: 8 } });
  await next.more(1_000);
  next.expectClean();
});
