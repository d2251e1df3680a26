/** The measurements of the CRR benchmark, in interleaved rounds. */
import { describeError } from '../../src/errors.js';
import { roundOrder } from '../report/rounds.js';
import { isCellSettled } from './result.js';
import type { CrrCell, CrrRun, CrrSettings } from './result.js';

/** Something a client can be run behind. Opened once; its guest keeps running, idle, while others are measured. */
export interface BackEnd {
  readonly name: string;
  /** How it was set up, in words, for the report. */
  readonly description: string;
  /** Runs the client once. Rejects if the client fails. */
  run(flows: number, count: number, warmup: number): Promise<CrrRun>;
  /** Ends the guest and whatever serves it; a run in progress rejects. May be called again. */
  close(): Promise<void>;
}

export interface Progress {
  (line: string): void;
}

export interface Measured {
  /** By back end in the order given, then by flows. Back ends without a finished run have none. */
  readonly cells: readonly CrrCell[];
  readonly failures: readonly { readonly backEnd: string; readonly message: string }[];
}

interface OpenCell extends CrrCell {
  readonly rounds: CrrRun[];
}

/**
 * Measures every back end with every number of flows, `rounds` times, and more, up to `maxRounds`, while a cell is not
 * settled. Within a round all back ends are measured with one number of flows before the next number comes, and each
 * round starts with another back end. A back end whose client fails is left out from then on.
 * @throws the signal's reason, before the next run, once it is aborted
 */
export async function measureRounds(
  backEnds: readonly BackEnd[],
  settings: CrrSettings,
  progress: Progress,
  signal?: AbortSignal,
): Promise<Measured> {
  const cells = backEnds.flatMap((backEnd) =>
    settings.flows.map((flows): OpenCell => ({ backEnd: backEnd.name, flows, rounds: [] })),
  );
  const failures: { backEnd: string; message: string }[] = [];
  const alive = new Set(backEnds);
  for (let round = 0; alive.size > 0 && isRoundWanted(round, cells, settings); round++) {
    for (const [flows, backEnd] of roundOrder(settings.flows, backEnds, round)) {
      if (!alive.has(backEnd)) continue;
      signal?.throwIfAborted();
      try {
        const run = await backEnd.run(flows, settings.count, settings.warmup);
        cells.find((cell) => cell.backEnd === backEnd.name && cell.flows === flows)?.rounds.push(run);
        progress(progressLine(round, settings, backEnd.name, run));
      } catch (error) {
        signal?.throwIfAborted();
        const message = describeError(error);
        failures.push({ backEnd: backEnd.name, message });
        alive.delete(backEnd);
        progress(`round ${round + 1}: ${backEnd.name} failed: ${message}`);
      }
    }
  }
  return { cells: cells.filter((cell) => cell.rounds.length > 0), failures };
}

function isRoundWanted(round: number, cells: readonly CrrCell[], settings: CrrSettings): boolean {
  if (round < settings.rounds) return true;
  return round < settings.maxRounds && cells.some((cell) => cell.rounds.length > 0 && !isCellSettled(cell));
}

function progressLine(round: number, settings: CrrSettings, backEnd: string, run: CrrRun): string {
  const failed = run.failed > 0 ? `, ${run.failed} failed` : '';
  return (
    `round ${round + 1}/${Math.max(settings.rounds, round + 1)}, M = ${run.flows}, ${backEnd}: ` +
    `p50 ${run.latencyUs.p50.toFixed(0)} µs, ${run.rate.toFixed(0)} CRR/s${failed}`
  );
}
