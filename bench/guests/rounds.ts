/** Measurements from inside guests, in interleaved rounds. */
import { describeError } from '../../src/errors.js';
import { roundOrder } from '../report/rounds.js';
import type { BackEnd } from './backEnds.js';
import type { Cell, Failure, RoundSettings } from './result.js';

export interface Progress {
  (line: string): void;
}

/** What is measured behind each back end. */
export interface Measurement<Load extends object, Run> {
  readonly loads: readonly Load[];
  /** Rejects if the client fails. */
  measure(backEnd: BackEnd, load: Load): Promise<Run>;
  /** Whether these rounds of one cell are enough. */
  isSettled(rounds: readonly Run[]): boolean;
  /** A run in a few words: `M = 4, slipway: 900 CRR/s`. */
  describe(backEnd: string, load: Load, run: Run): string;
}

export interface Measured<Load, Run> {
  /** By back end in the order given, then by load. Back ends without a finished run have none. */
  readonly cells: readonly Cell<Load, Run>[];
  readonly failures: readonly Failure[];
}

/**
 * Measures every back end under every load, `rounds` times, and more, up to `maxRounds`, while a cell is not settled. Within a
 * round all back ends are measured under one load before the next load comes, and each round starts with another back
 * end. A back end whose client fails is left out from then on.
 * @throws the signal's reason, before the next run, once it is aborted
 */
export async function measureRounds<Load extends object, Run>(
  backEnds: readonly BackEnd[],
  measurement: Measurement<Load, Run>,
  settings: RoundSettings,
  progress: Progress,
  signal?: AbortSignal,
): Promise<Measured<Load, Run>> {
  const rows = backEnds.flatMap((backEnd) => measurement.loads.map((load) => ({ backEnd, load, runs: [] as Run[] })));
  const failures: Failure[] = [];
  const alive = new Set(backEnds);
  const isWanted = (round: number): boolean =>
    round < settings.rounds ||
    (round < settings.maxRounds && rows.some(({ runs }) => runs.length > 0 && !measurement.isSettled(runs)));
  for (let round = 0; alive.size > 0 && isWanted(round); round++) {
    for (const [load, backEnd] of roundOrder(measurement.loads, backEnds, round)) {
      if (!alive.has(backEnd)) continue;
      signal?.throwIfAborted();
      try {
        const run = await measurement.measure(backEnd, load);
        rows.find((row) => row.backEnd === backEnd && row.load === load)?.runs.push(run);
        const turn = `round ${round + 1}/${Math.max(settings.rounds, round + 1)}`;
        progress(`${turn}, ${measurement.describe(backEnd.name, load, run)}`);
      } catch (error) {
        signal?.throwIfAborted();
        const message = describeError(error);
        failures.push({ backEnd: backEnd.name, message });
        alive.delete(backEnd);
        progress(`round ${round + 1}: ${backEnd.name} failed: ${message}`);
      }
    }
  }
  const cells = rows
    .filter(({ runs }) => runs.length > 0)
    .map(({ backEnd, load, runs }) => ({ backEnd: backEnd.name, ...load, rounds: runs }));
  return { cells, failures };
}
