/** Contenders, loads and measurements without a back end, for tests of what is made of them. */
import { CURVE_QUANTILES } from '../../../bench/driver/histogram.js';
import { benchCompare } from '../../../bench/compare/bench.js';
import type { CompareOptions } from '../../../bench/compare/bench.js';
import type { Contender } from '../../../bench/compare/contenders.js';
import { loadList } from '../../../bench/compare/loads.js';
import type { Load } from '../../../bench/compare/loads.js';
import type { Measurement } from '../../../bench/compare/measure.js';
import type { CompareReport, ContenderInfo, RunWindow } from '../../../bench/compare/result.js';

export function fakeContender(name: string, changes: Partial<ContenderInfo> = {}): Contender {
  const info = { name, label: name, product: 'passt', queues: 1, mtu: 1_500, version: '1', command: name } as const;
  return { info: { ...info, ...changes }, open: () => Promise.reject(new Error('nothing to open')) };
}

export const CONTENDERS: readonly Contender[] = [
  fakeContender('slipway-epoll-1', { product: 'slipway', engine: 'epoll', workers: 1, label: 'Slipway epoll' }),
  fakeContender('slipway-epoll-2', {
    product: 'slipway',
    engine: 'epoll',
    workers: 2,
    label: 'Slipway epoll, 2 workers',
  }),
  fakeContender('passt <old> & "odd"', { workers: 1 }),
  fakeContender('direct', { product: 'direct', queues: 0 }),
];

export const LOADS: readonly Load[] = loadList('crr-1,crr-8,rr-1,udp-rr-1,bulk-tx-2,bulk-rx-2,idle-10,stall-10');

/** A second in which every figure derives from one number of operations. */
export function fakeWindow(operations: number, changes: Partial<RunWindow> = {}): RunWindow {
  const us = 1e6 / operations;
  return {
    name: 'crr',
    seconds: 1,
    operations,
    bytes: 1e6 * operations,
    latency: {
      count: operations,
      mean: us,
      p50: us,
      p90: 2 * us,
      p99: 3 * us,
      p999: 4 * us,
      max: 5 * us,
      curve: CURVE_QUANTILES.map((q) => us * (1 + q)),
    },
    cpu: { backEnd: { user: 0.1, system: 0.4 }, server: { user: 0, system: 0.1 }, driver: { user: 0.2, system: 0 } },
    resident: 2 ** 20,
    packets: 10 * operations,
    kicks: 3 * operations,
    interrupts: 2 * operations,
    retransmits: 0,
    errors: {},
    streams: [3e8, 1e8],
    ...changes,
  };
}

export function fakeMeasurement(load: Load, operations = 1_000): Measurement {
  const beside = load.mode === 'idle' || load.mode === 'stall';
  return {
    windows: [
      fakeWindow(operations),
      ...(beside ? [fakeWindow(Math.floor(operations / 2), { resident: 2 ** 20 + 5_000 })] : []),
    ],
    offered: ['VERSION_1', 'MQ'],
    taken: ['VERSION_1'],
    ...(load.mode === 'idle' && { idle: { open: 10, failed: 0, answered: 9, seconds: 0.1 } }),
  };
}

export function fakeOptions(changes: Partial<CompareOptions> = {}): CompareOptions {
  return {
    settings: { rounds: 2, maxRounds: 2, seconds: 1, warmup: 0 },
    contenders: CONTENDERS,
    loads: LOADS,
    portBase: 1,
    earlier: [],
    forSeconds: Infinity,
    command: 'slipway bench compare --passt "<odd>"',
    ...changes,
  };
}

/** Two rounds of every load and contender; rates differ by contender and by round. */
export function fakeReport(changes: Partial<CompareOptions> = {}): Promise<CompareReport> {
  let runs = 0;
  return benchCompare(fakeOptions(changes), {}, undefined, async (contender, load) =>
    fakeMeasurement(load, 1_000 * (1 + CONTENDERS.indexOf(contender)) + runs++),
  );
}
