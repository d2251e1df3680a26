/** The JSON document that `slipway bench compare` writes: the schema is its documentation. Reading one checks it. */
import { readFileSync } from 'node:fs';
import type { infer as Infer } from 'zod';
import { z } from '../../src/schema.js';
import { UsageError, describeError } from '../../src/errors.js';
import { CURVE_QUANTILES } from '../driver/histogram.js';
import { LOAD_MODES } from './loads.js';

/**
 * Per second (bulk: bit/s); latencies in µs; `cpu`, of the back end, `serverCpu` and `driverCpu` in µs per operation
 * (bulk: ms per GB); bytes resident; `packets`, `kicks` and `interrupts` per operation (bulk: per MB); retransmitted
 * segments of a window; `unfairness`: standard deviation of the streams over their mean; `change` of the rate beside
 * idle connections or stalled connects, as a share of the rate alone; bytes resident per idle connection.
 */
export const FIGURE_NAMES = [
  'rate',
  'p50',
  'p99',
  'p999',
  'cpu',
  'serverCpu',
  'driverCpu',
  'resident',
  'packets',
  'kicks',
  'interrupts',
  'retransmits',
  'unfairness',
  'change',
  'bytesPerFlow',
] as const;
export type FigureName = (typeof FIGURE_NAMES)[number];

const count = z.number().int().nonnegative();

const summarySchema = z.object({
  n: count.describe('rounds'),
  median: z.number(),
  min: z.number(),
  max: z.number(),
  cov: z.number().describe('coefficient of variation'),
  outliers: z.array(count).readonly().describe('indices of the rounds that are outliers'),
});

const contenderSchema = z.object({
  name: z.string(),
  label: z.string().describe('the name for people'),
  product: z.enum(['slipway', 'passt', 'peer', 'direct']),
  engine: z.string().optional(),
  workers: count.optional(),
  queues: count.describe('queue pairs'),
  mtu: count.describe('bytes'),
  version: z.string(),
  command: z.string().describe('how it was started'),
});

const loadSchema = z.object({
  name: z.string(),
  mode: z.enum(LOAD_MODES),
  flows: count,
  idle: count.describe('idle connections beside'),
  stalled: count.describe('connects beside that get no answer'),
});

const latencySchema = z
  .object({
    count,
    mean: z.number(),
    p50: z.number(),
    p90: z.number(),
    p99: z.number(),
    p999: z.number(),
    max: z.number(),
    curve: z
      .array(z.number())
      .length(CURVE_QUANTILES.length)
      .readonly()
      .describe('at the quantiles 1 - 10^(-n/10), n = 0 … 40'),
  })
  .describe('nearest-rank quantiles, µs');

const cpuSchema = z.object({ user: z.number(), system: z.number() }).describe('CPU time of the window, s');

const windowSchema = z.object({
  name: z.string(),
  seconds: z.number().positive(),
  operations: count,
  bytes: count.describe('payload in the direction measured'),
  latency: latencySchema.optional().describe('CRR: the whole connection; RR, UDP-RR: request to answer'),
  cpu: z.object({ backEnd: cpuSchema.optional(), server: cpuSchema.optional(), driver: cpuSchema.optional() }),
  resident: count.optional().describe('memory of the back end at the end, bytes'),
  packets: count.describe('sent and received by the guest'),
  kicks: count.describe("the guest's notifications"),
  interrupts: count.describe("the back end's"),
  retransmits: count.describe('segments sent again by the guest'),
  errors: z.record(z.string(), count).describe('what went wrong, by name; only what is not 0'),
  streams: z.array(z.number()).readonly().describe('bytes of each flow, both directions'),
});

const runSchema = z.object({
  contender: z.string(),
  load: z.string(),
  round: count.describe('from 0'),
  startedAt: z.string().describe('ISO 8601'),
  windows: z.array(windowSchema).min(1).describe('idle and stall have two: alone, and beside'),
  offered: z.array(z.string()).readonly().describe('virtio features that the back end offers'),
  taken: z.array(z.string()).readonly().describe('those that the driver took'),
  idle: z.object({ open: count, failed: count, answered: count, seconds: z.number() }).optional(),
});

const cellSchema = z.object({
  contender: z.string(),
  load: z.string(),
  figures: z.partialRecord(z.enum(FIGURE_NAMES), summarySchema),
  settled: z.boolean().describe('whether the rates of the rounds vary by at most 15 % (CoV)'),
  errors: z.record(z.string(), count).describe('sums over all rounds'),
  curve: z
    .object({ low: z.array(z.number()), median: z.array(z.number()), high: z.array(z.number()) })
    .optional()
    .describe("over the rounds, at the curve's quantiles, µs"),
  streams: z.array(z.array(z.number())).describe('bulk: by round, the rate of each stream, bit/s'),
});

const settingsSchema = z.object({
  rounds: count,
  maxRounds: count.describe('rounds are added to a load up to so many while a rate is not settled'),
  seconds: z.number().describe('of a window'),
  warmup: z.number().describe('before each window, s'),
  congestion: z.string().optional().describe("the servers' congestion control; the host's if left out"),
});

export const compareReportSchema = z.object({
  benchmark: z.literal('compare'),
  schemaVersion: z.literal(1),
  date: z.string().describe('of the last run, ISO 8601'),
  complete: z.boolean().describe('whether all rounds have been run'),
  command: z.string(),
  machine: z.object({
    cpu: z.string(),
    cores: count,
    memoryGiB: z.number(),
    kernel: z.string(),
    congestion: z.string().describe("TCP's congestion control, unless sockets choose another"),
    node: z.string(),
    hardwareKvm: z.boolean(),
    qemu: z.string().nullable(),
    passt: z.string().nullable(),
  }),
  settings: settingsSchema,
  contenders: z.array(contenderSchema).min(1),
  loads: z.array(loadSchema).min(1),
  failures: z.array(z.object({ contender: z.string(), load: z.string(), round: count, message: z.string() })),
  cells: z.array(cellSchema).describe('the figures over the rounds'),
  runs: z.array(runSchema).describe('in the order they were run'),
});

export type CompareReport = Infer<typeof compareReportSchema>;
export type CompareSettings = Infer<typeof settingsSchema>;
export type ContenderInfo = Infer<typeof contenderSchema>;
export type CompareRun = Infer<typeof runSchema>;
export type RunWindow = Infer<typeof windowSchema>;
export type CompareCell = Infer<typeof cellSchema>;
export type Failure = CompareReport['failures'][number];

/** Reads a report. @throws {UsageError} if the file isn't one */
export function readCompareReport(path: string): CompareReport {
  try {
    return compareReportSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (error) {
    const reason = error instanceof z.ZodError ? z.prettifyError(error).split('\n', 1)[0] : describeError(error);
    throw new UsageError(`${path} is no report of slipway bench compare: ${reason}`);
  }
}

/** How one contender failed under one load; undefined if it didn't. */
export function findFailure(report: CompareReport, contender: string, load: string): Failure | undefined {
  return report.failures.find((failure) => failure.contender === contender && failure.load === load);
}

/** The figures of one contender under one load; undefined if it finished no run. */
export function findCell(report: CompareReport, contender: string, load: string): CompareCell | undefined {
  return report.cells.find((cell) => cell.contender === contender && cell.load === load);
}
