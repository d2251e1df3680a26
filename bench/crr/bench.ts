/** One run of the CRR benchmark, from the self-test of its server to the report. */
import { hostDirect } from '../guests/backEnds.js';
import type { BackEnd } from '../guests/backEnds.js';
import { GuestServer } from '../guests/guestServer.js';
import type { ServerSummary } from '../guests/guestServer.js';
import type { Measurement, Progress } from '../guests/rounds.js';
import { listCandidates, measureGuests } from '../guests/session.js';
import type { GuestsOptions } from '../guests/session.js';
import { compileTool } from '../native/tools.js';
import { areSettled, parseCrrRun, summarizeCell } from './result.js';
import type { CrrLoad, CrrReport, CrrRun, CrrSettings } from './result.js';

export interface CrrOptions extends CrrSettings, GuestsOptions {}

const SELF_TEST = { count: 1_000, warmup: 100, closes: 'server' } as const;

/**
 * Boots one guest per back end, measures them in interleaved rounds, and closes everything again.
 * @param signal ends it early, everything closed
 * @throws {CompileError} without a C compiler
 * @throws {UsageError} if two back ends have the same name
 * @throws the signal's reason
 */
export async function benchCrr(options: CrrOptions, progress: Progress, signal: AbortSignal): Promise<CrrReport> {
  const { cpus, flows, count, closes, warmup, rounds, maxRounds } = options;
  const client = compileTool('guest/crr.c');
  const candidates = listCandidates(client, options);
  progress('testing the server on the host');
  const serverSelfTest = await testServer(client);
  await using server = await GuestServer.start();
  const measurement = crrMeasurement(server.crrPort, options);
  const { cells, ...session } = await measureGuests(candidates, measurement, options, progress, signal);
  return {
    benchmark: 'crr',
    schemaVersion: 1,
    ...session,
    settings: { cpus, flows, count, closes, warmup, rounds, maxRounds },
    serverSelfTest,
    server: await server.stop(),
    summaries: cells.map(summarizeCell),
    cells,
  };
}

/** @param port of the server on the host's 127.0.0.1 */
function crrMeasurement(port: number, settings: CrrSettings): Measurement<CrrLoad, CrrRun> {
  return {
    loads: settings.flows.map((flows) => ({ flows })),
    measure: (backEnd, { flows }) => runClient(backEnd, port, flows, settings),
    isSettled: areSettled,
    describe: (backEnd, { flows }, { latencyUs, rate, failed }) =>
      `M = ${flows}, ${backEnd}: p50 ${latencyUs.p50.toFixed(0)} µs, ${rate.toFixed(0)} CRR/s${failed > 0 ? `, ${failed} failed` : ''}`,
  };
}

async function runClient(
  backEnd: BackEnd,
  port: number,
  flows: number,
  { count, warmup, closes }: Pick<CrrSettings, 'count' | 'warmup' | 'closes'>,
): Promise<CrrRun> {
  return parseCrrRun(await backEnd.run([backEnd.host, port, flows, count, warmup, closes]));
}

/** What the server adds to a CRR, by one flow on the host itself: nothing else is in its way there. */
async function testServer(client: string): Promise<ServerSummary['serviceUs']> {
  await using server = await GuestServer.start();
  await runClient(hostDirect(client), server.crrPort, 1, SELF_TEST);
  return (await server.stop()).serviceUs;
}
