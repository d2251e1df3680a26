/** A client's report with every figure derived from two numbers. */
import type { CrrRun } from '../../../bench/crr/result.js';

export function fakeRun(flows: number, p50: number, changes: Partial<CrrRun> = {}): CrrRun {
  const quantiles = { min: p50 / 2, p50, p90: p50 * 2, p99: p50 * 3, p999: p50 * 4, max: p50 * 5 };
  return {
    tool: 'crr',
    closes: 'client',
    target: '10.0.2.2:7',
    source: '10.0.2.15',
    interface: 'eth0',
    flows,
    cpus: 2,
    count: 100,
    completed: 100,
    seconds: 1,
    rate: 1e6 / p50,
    quantile: 'nearest-rank',
    latencyUs: quantiles,
    connectUs: quantiles,
    responseUs: quantiles,
    completedPerFlow: Array.from({ length: flows }, () => 100 / flows),
    errors: {},
    failed: 0,
    retransmits: 0,
    queues: [
      { rx: 10, tx: 11 },
      { rx: 20, tx: 21 },
    ],
    ...changes,
  };
}
