/** How figures are shown: unit, digits, and which end is good. */
import type { FigureName } from './result.js';

export interface Measure {
  readonly figure: FigureName;
  readonly unit: string;
  /** From the report's unit to this. */
  readonly factor: number;
  /** Digits behind the point. */
  readonly digits: number;
  readonly better: 'more' | 'less' | 'near zero';
}

const LATENCY = { unit: 'µs', factor: 1, digits: 0, better: 'less' } as const;
const PER_OPERATION = { unit: 'each', factor: 1, digits: 2, better: 'less' } as const;

export const MEASURES = {
  rate: { figure: 'rate', unit: 'per second', factor: 1, digits: 0, better: 'more' },
  gigabits: { figure: 'rate', unit: 'Gbit/s', factor: 1e-9, digits: 1, better: 'more' },
  p50: { figure: 'p50', ...LATENCY },
  p99: { figure: 'p99', ...LATENCY },
  p999: { figure: 'p999', ...LATENCY },
  cpu: { figure: 'cpu', unit: 'µs', factor: 1, digits: 1, better: 'less' },
  cpuPerGB: { figure: 'cpu', unit: 'ms', factor: 1, digits: 0, better: 'less' },
  kicks: { figure: 'kicks', ...PER_OPERATION },
  interrupts: { figure: 'interrupts', ...PER_OPERATION },
  memory: { figure: 'resident', unit: 'MiB resident', factor: 1 / 2 ** 20, digits: 0, better: 'less' },
  bytesPerFlow: { figure: 'bytesPerFlow', unit: 'bytes resident', factor: 1, digits: 0, better: 'less' },
  unfairness: { figure: 'unfairness', unit: '%', factor: 100, digits: 1, better: 'less' },
  change: { figure: 'change', unit: '%', factor: 100, digits: 1, better: 'near zero' },
} as const satisfies Readonly<Record<string, Measure>>;
