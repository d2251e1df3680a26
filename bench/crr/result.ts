/** What the CRR benchmark measures, and the JSON document it writes: the schema is its documentation. */
import type { infer as Infer } from 'zod';
import { z } from '../../src/schema.js';
import type { ServerSummary } from '../guests/guestServer.js';
import { kernelCounters, parseClientRun, sumQueuePackets } from '../guests/result.js';
import type { Cell, ClientExit, GuestsReport, RoundSettings } from '../guests/result.js';
import { isSettled, summarize } from '../report/statistics.js';
import type { Summary } from '../report/statistics.js';

const quantiles = z
  .object({ min: z.number(), p50: z.number(), p90: z.number(), p99: z.number(), p999: z.number(), max: z.number() })
  .describe('nearest-rank quantiles over all completed CRRs of the run, µs; 0 if none completed');

/** The line that the client prints (bench/guest/crr.c). */
export const crrRunSchema = z.object({
  tool: z.literal('crr'),
  closes: z.enum(['client', 'server']).describe('which side sends its FIN first'),
  target: z.string().describe('address and port of the server as the client names them'),
  source: z.string().describe("the client's address on that route"),
  interface: z.string().describe("the client's network interface on that route: proof of the way the packets went"),
  flows: z.number().describe('concurrent flows, M'),
  cpus: z.number().describe('CPUs that the client may use; flow i is pinned to CPU i mod cpus'),
  count: z.number().describe('CRRs wanted, N, over all flows'),
  completed: z.number().describe('CRRs completed; the quantiles and the rate are over these'),
  seconds: z.number().positive().describe('from the start of all flows to the end of the last'),
  rate: z.number().describe('completed CRRs per second'),
  quantile: z.literal('nearest-rank'),
  latencyUs: quantiles,
  connectUs: quantiles,
  responseUs: quantiles,
  completedPerFlow: z.array(z.number()),
  errors: z
    .record(z.string(), z.number())
    .describe('failed CRRs by errno; END_WITHOUT_ANSWER: closed by the server too early'),
  failed: z.number().describe('sum of errors'),
  ...kernelCounters,
});

export type ClosingSide = CrrRun['closes'];

export type CrrRun = Infer<typeof crrRunSchema>;

/** Reads the client's report. @throws {ClientError} if it failed or printed anything else */
export function parseCrrRun(exit: ClientExit): CrrRun {
  return parseClientRun('crr', crrRunSchema, exit);
}

export interface CrrLoad {
  /** Concurrent flows, M. */
  readonly flows: number;
}

/** All rounds of one back end with one number of flows. */
export type CrrCell = Cell<CrrLoad, CrrRun>;

/** A cell's figures over its rounds: medians of the rounds' quantiles, never a quantile over all rounds. */
export interface CellSummary {
  readonly backEnd: string;
  readonly flows: number;
  readonly p50: Summary;
  readonly p99: Summary;
  readonly p999: Summary;
  readonly rate: Summary;
  /** Sums over all rounds. */
  readonly completed: number;
  readonly failed: number;
  readonly errors: Readonly<Record<string, number>>;
  readonly retransmits: number;
  /** Packets in both directions per queue pair, over all rounds. */
  readonly queuePackets: readonly number[];
}

/** What `--json` writes. Times are µs, rates CRRs per second. */
export interface CrrReport extends GuestsReport {
  readonly benchmark: 'crr';
  readonly schemaVersion: 1;
  readonly settings: CrrSettings;
  /** What the server adds to a CRR, measured before the rounds by one flow on the host. */
  readonly serverSelfTest: ServerSummary['serviceUs'];
  /** The server during the rounds, under the load of all flows. */
  readonly server: ServerSummary;
  readonly summaries: readonly CellSummary[];
  readonly cells: readonly CrrCell[];
}

export interface CrrSettings extends RoundSettings {
  /** vCPUs of each guest. */
  readonly cpus: number;
  readonly flows: readonly number[];
  /** CRRs of each run, N. */
  readonly count: number;
  /** Which side sends its FIN first. */
  readonly closes: ClosingSide;
  /** CRRs before each run that are not recorded. */
  readonly warmup: number;
}

/** Whether the p50 of these rounds varies little. */
export function areSettled(rounds: readonly CrrRun[]): boolean {
  return isSettled(summarize(rounds.map((run) => run.latencyUs.p50)));
}

/** @throws {RangeError} for a cell without rounds */
export function summarizeCell(cell: CrrCell): CellSummary {
  const over = (figure: (run: CrrRun) => number): Summary => summarize(cell.rounds.map(figure));
  const sum = (figure: (run: CrrRun) => number): number => cell.rounds.reduce((total, run) => total + figure(run), 0);
  const errorNames = [...new Set(cell.rounds.flatMap((run) => Object.keys(run.errors)))];
  return {
    backEnd: cell.backEnd,
    flows: cell.flows,
    p50: over((run) => run.latencyUs.p50),
    p99: over((run) => run.latencyUs.p99),
    p999: over((run) => run.latencyUs.p999),
    rate: over((run) => run.rate),
    completed: sum((run) => run.completed),
    failed: sum((run) => run.failed),
    errors: Object.fromEntries(errorNames.map((name) => [name, sum((run) => run.errors[name] ?? 0)])),
    retransmits: sum((run) => run.retransmits),
    queuePackets: sumQueuePackets(cell.rounds),
  };
}

/** What the server may add to a CRR at most, µs at p50: above that it would be part of what is measured. */
export const SERVER_LIMIT_US = 50;
