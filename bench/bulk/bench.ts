/** One run of the bulk benchmark. */
import type { BackEnd } from '../guests/backEnds.js';
import { GuestServer } from '../guests/guestServer.js';
import type { Measurement, Progress } from '../guests/rounds.js';
import { listCandidates, measureGuests } from '../guests/session.js';
import type { GuestsOptions } from '../guests/session.js';
import { compileTool } from '../native/tools.js';
import { areSettled, parseBulkRun, summarizeCell } from './result.js';
import type { BulkLoad, BulkReport, BulkRun, BulkSettings } from './result.js';

export interface BulkOptions extends BulkSettings, GuestsOptions {}

/**
 * Boots one guest per back end, measures them in interleaved rounds, and closes everything again.
 * @param signal ends it early, everything closed
 * @throws {CompileError} without a C compiler
 * @throws {UsageError} if two back ends have the same name
 * @throws the signal's reason
 */
export async function benchBulk(options: BulkOptions, progress: Progress, signal: AbortSignal): Promise<BulkReport> {
  const { cpus, directions, streams, seconds, warmup, rounds, maxRounds } = options;
  const candidates = listCandidates(compileTool('guest/bulk.c'), options);
  await using server = await GuestServer.start();
  const measurement = bulkMeasurement(server.bulkPort, options);
  const { cells, ...session } = await measureGuests(candidates, measurement, options, progress, signal);
  return {
    benchmark: 'bulk',
    schemaVersion: 1,
    ...session,
    settings: { cpus, directions, streams, seconds, warmup, rounds, maxRounds },
    server: await server.stop(),
    summaries: cells.map(summarizeCell),
    cells,
  };
}

/** @param port of the server on the host's 127.0.0.1 */
export function bulkMeasurement(port: number, settings: BulkSettings): Measurement<BulkLoad, BulkRun> {
  return {
    loads: settings.directions.flatMap((direction) => settings.streams.map((streams) => ({ direction, streams }))),
    measure: async (backEnd, load) => {
      const warmup = settings.warmup > 0 ? await runClient(backEnd, port, load, settings.warmup) : undefined;
      // Wrong bytes are wrong at any time.
      if (warmup?.equal === false) return warmup;
      return runClient(backEnd, port, load, settings.seconds);
    },
    isSettled: areSettled,
    describe: (backEnd, { direction, streams }, { mbitPerSecond, equal }) =>
      `${direction}, ${streams} streams, ${backEnd}: ${mbitPerSecond.toFixed(0)} Mbit/s${equal ? '' : ', NOT ALL RIGHT'}`,
  };
}

async function runClient(
  backEnd: BackEnd,
  port: number,
  { direction, streams }: BulkLoad,
  seconds: number,
): Promise<BulkRun> {
  return parseBulkRun(await backEnd.run([direction, backEnd.host, port, `${Math.ceil(seconds * 1_000)}ms`, streams]));
}
