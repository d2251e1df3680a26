/** What the bulk benchmark measures, and the JSON document it writes: the schema is its documentation. */
import type { infer as Infer } from 'zod';
import { z } from '../../src/schema.js';
import type { ServerSummary } from '../guests/guestServer.js';
import { kernelCounters, parseClientRun, sumQueuePackets } from '../guests/result.js';
import type { Cell, ClientExit, GuestsReport, RoundSettings } from '../guests/result.js';
import { coefficientOfVariation, isSettled, summarize } from '../report/statistics.js';
import type { Summary } from '../report/statistics.js';

/** `send` is from the guest to the host. */
export const DIRECTIONS = ['send', 'receive'] as const;
export type Direction = (typeof DIRECTIONS)[number];

/** The line that the client prints (bench/guest/bulk.c). */
export const bulkRunSchema = z.object({
  tool: z.literal('bulk'),
  direction: z.enum(DIRECTIONS).describe('as the client sees it'),
  interface: z.string().describe("the client's network interface on the route to the server"),
  bytes: z.number().describe('moved by all streams together'),
  seconds: z.number().positive().describe('from before the first connects until the last has compared its sums'),
  mbitPerSecond: z.number(),
  cpus: z.number(),
  hops: z.number().describe('how often all streams were moved to their next CPU; 0 without hopping'),
  equal: z.boolean().describe('whether every stream ended, every byte as expected and both checksums equal'),
  streams: z.array(
    z.object({
      bytes: z.number(),
      checksum: z.string().describe('64 bits, hexadecimal'),
      peerBytes: z.number(),
      peerChecksum: z.string(),
      equal: z.boolean(),
      firstWrongOffset: z.number().optional().describe('of the first 8-byte word that is not what was sent'),
      error: z.string().optional().describe('errno; ENODATA: the stream ended too early'),
    }),
  ),
  ...kernelCounters,
});

export type BulkRun = Infer<typeof bulkRunSchema>;

/** With 1 it says that a stream failed or that its bytes are wrong. */
const REPORTING_EXIT_CODES = [0, 1];

/** Reads the client's report. @throws {ClientError} if it failed or printed anything else */
export function parseBulkRun(exit: ClientExit): BulkRun {
  return parseClientRun('bulk', bulkRunSchema, exit, REPORTING_EXIT_CODES);
}

export interface BulkLoad {
  readonly direction: Direction;
  readonly streams: number;
}

/** All rounds of one back end under one load. */
export type BulkCell = Cell<BulkLoad, BulkRun>;

/** A cell's figures over its rounds. */
export interface BulkSummary extends BulkLoad {
  readonly backEnd: string;
  /** Mbit/s of all streams together. */
  readonly rate: Summary;
  /** Standard deviation of the streams' bytes as a share of their mean; 0 for a single stream. */
  readonly unfairness: Summary;
  /** Payload bytes for each packet in the data's direction, by the guest's counters; absent where there are none. */
  readonly bytesPerPacket?: Summary;
  /** Streams of all rounds that failed or whose bytes are wrong. */
  readonly failed: number;
  /** These by errno, or as WRONG_DATA. */
  readonly errors: Readonly<Record<string, number>>;
  /** Sum over all rounds. */
  readonly retransmits: number;
  /** Packets in both directions per queue pair, over all rounds. */
  readonly queuePackets: readonly number[];
}

/** What `--json` writes. */
export interface BulkReport extends GuestsReport {
  readonly benchmark: 'bulk';
  readonly schemaVersion: 1;
  readonly settings: BulkSettings;
  readonly server: ServerSummary;
  readonly summaries: readonly BulkSummary[];
  readonly cells: readonly BulkCell[];
}

export interface BulkSettings extends RoundSettings {
  /** vCPUs of each guest. */
  readonly cpus: number;
  readonly directions: readonly Direction[];
  readonly streams: readonly number[];
  /** For how long the senders of a run send, s. */
  readonly seconds: number;
  /** The same before each run, not recorded, s. */
  readonly warmup: number;
}

/** Whether the rate of these rounds varies little. */
export function areSettled(rounds: readonly BulkRun[]): boolean {
  return isSettled(summarize(rounds.map((run) => run.mbitPerSecond)));
}

/** @throws {RangeError} for a cell without rounds */
export function summarizeCell({ backEnd, direction, streams, rounds }: BulkCell): BulkSummary {
  const failures = rounds.flatMap((run) => run.streams.filter(({ equal }) => !equal)).map(nameFailure);
  const bytesPerPacket = rounds.map(payloadPerPacket).filter((bytes) => bytes !== undefined);
  return {
    backEnd,
    direction,
    streams,
    rate: summarize(rounds.map((run) => run.mbitPerSecond)),
    unfairness: summarize(rounds.map((run) => coefficientOfVariation(run.streams.map(({ bytes }) => bytes)))),
    ...(bytesPerPacket.length > 0 && { bytesPerPacket: summarize(bytesPerPacket) }),
    failed: failures.length,
    errors: Object.fromEntries(
      [...new Set(failures)].map((name) => [name, failures.filter((each) => each === name).length]),
    ),
    retransmits: rounds.reduce((sum, run) => sum + run.retransmits, 0),
    queuePackets: sumQueuePackets(rounds),
  };
}

/** Wrong bytes before all else: what else happened to the stream may be their consequence. */
function nameFailure({ firstWrongOffset, error }: BulkRun['streams'][number]): string {
  return firstWrongOffset === undefined && error !== undefined ? error : 'WRONG_DATA';
}

function payloadPerPacket({ direction, bytes, queues }: BulkRun): number | undefined {
  const packets = queues.reduce((sum, { rx, tx }) => sum + (direction === 'send' ? tx : rx), 0);
  return packets === 0 ? undefined : bytes / packets;
}
