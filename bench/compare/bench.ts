/** The comparison: interleaved rounds, which may be run in pieces. */
import { describeError } from '../../src/errors.js';
import { describeMachine } from '../report/machine.js';
import { roundOrder } from '../report/rounds.js';
import type { Contender } from './contenders.js';
import { hasDirect } from './direct.js';
import { summarizeRuns } from './figures.js';
import type { Load } from './loads.js';
import { measure } from './measure.js';
import type { Measurement } from './measure.js';
import type { CompareReport, CompareRun, CompareSettings, ContenderInfo, Failure } from './result.js';

export interface CompareOptions {
  readonly settings: CompareSettings;
  readonly contenders: readonly Contender[];
  readonly loads: readonly Load[];
  /** First port of the servers. */
  readonly portBase: number;
  /** Runs of an earlier call, which are not run again. */
  readonly earlier: readonly CompareRun[];
  /** After the first, no further run is begun after so many seconds. */
  readonly forSeconds: number;
  /** How this was called, for the report. */
  readonly command: string;
}

/** Told about each run as it ends; both may be left out. */
export interface Watcher {
  progress?(line: string): void;
  /** Given the report so far. */
  save?(report: CompareReport): void;
}

type Measure = (contender: Contender, load: Load) => Promise<Measurement>;

/**
 * Runs each load with each contender, load by load, in rounds that each begin with another contender. A contender that
 * fails under a load is left out of that load from then on, and named in the report.
 * @param signal ends it early, after the run under way
 * @param measureOne measures one contender under one load
 */
export async function benchCompare(
  options: CompareOptions,
  watcher: Watcher,
  signal?: AbortSignal,
  measureOne: Measure = (contender, load) => measure(contender, load, options.settings, options.portBase),
): Promise<CompareReport> {
  const comparison = new Comparison(options);
  const deadline = performance.now() + 1000 * options.forSeconds;
  for (let wanted = comparison.next(), begun = 0; wanted !== undefined; wanted = comparison.next(), begun++) {
    const late = begun > 0 && performance.now() >= deadline;
    if (signal?.aborted || late) return comparison.report(false);
    const { contender, load, round } = wanted;
    const startedAt = new Date().toISOString();
    let said: string;
    try {
      const run = { contender: contender.info.name, load: load.name, round, startedAt };
      said = comparison.add({ ...run, ...(await measureOne(contender, load)) });
      watcher.save?.(comparison.report(false));
    } catch (error) {
      // What the signal ended is no failure of the contender's.
      if (signal?.aborted) return comparison.report(false);
      said = comparison.fail({ contender: contender.info.name, load: load.name, round, message: describeError(error) });
    }
    watcher.progress?.(`round ${round + 1}/${Math.max(options.settings.rounds, round + 1)}, ${load.name}, ${said}`);
  }
  return comparison.report(true);
}

/** What has been run, and what comes next. */
class Comparison {
  private readonly runs: CompareRun[];
  private readonly failures: Failure[] = [];
  private readonly machine = describeMachine();

  constructor(private readonly options: CompareOptions) {
    this.runs = [...options.earlier];
  }

  /** The next run that is wanted; undefined once all have been run. */
  next(): { contender: Contender; load: Load; round: number } | undefined {
    const { settings, contenders, loads } = this.options;
    for (let round = 0; round < settings.maxRounds; round++) {
      const wanted = round < settings.rounds ? loads : loads.filter((load) => !this.isLoadSettled(load, round));
      const next = roundOrder(wanted, contenders, round).find(([load, { info }]) => this.isWanted(load, info, round));
      if (next !== undefined) return { load: next[0], contender: next[1], round };
    }
    return undefined;
  }

  /** Returns a line about it. */
  add(run: CompareRun): string {
    this.runs.push(run);
    const { figures } = this.cell(run.contender, this.load(run.load), [run]);
    const rate = figures.rate?.median ?? 0;
    return `${run.contender}: ${rate > 1e8 ? `${(rate / 1e9).toFixed(2)} Gbit/s` : `${rate.toFixed(0)}/s`}`;
  }

  /** Returns a line about it. */
  fail(failure: Failure): string {
    this.failures.push(failure);
    return `${failure.contender} failed: ${failure.message}`;
  }

  report(complete: boolean): CompareReport {
    const { settings, contenders, loads, command } = this.options;
    const cells = loads.flatMap((load) =>
      contenders.flatMap(({ info }) => {
        const runs = this.runsOf(load, info);
        return runs.length === 0 ? [] : [this.cell(info.name, load, runs)];
      }),
    );
    return {
      benchmark: 'compare',
      schemaVersion: 1,
      date: this.runs.at(-1)?.startedAt ?? new Date().toISOString(),
      complete,
      command,
      machine: this.machine,
      settings,
      contenders: contenders.map(({ info }) => info),
      loads: [...loads],
      failures: this.failures,
      cells,
      runs: this.runs,
    };
  }

  private cell(contender: string, load: Load, runs: readonly CompareRun[]): CompareReport['cells'][number] {
    return { ...summarizeRuns(load, runs), contender };
  }

  private load(name: string): Load {
    const found = this.options.loads.find((load) => load.name === name);
    if (found === undefined) throw new RangeError(`no load ${name}`);
    return found;
  }

  private runsOf(load: Load, { name }: ContenderInfo): readonly CompareRun[] {
    return this.runs.filter((run) => run.load === load.name && run.contender === name);
  }

  private isWanted(load: Load, info: ContenderInfo, round: number): boolean {
    if (info.product === 'direct' && !hasDirect(load)) return false;
    if (this.failures.some((failure) => failure.load === load.name && failure.contender === info.name)) return false;
    return !this.runsOf(load, info).some((run) => run.round === round);
  }

  /** Whether, before this round, every contender's rate under a load varies little. */
  private isLoadSettled(load: Load, round: number): boolean {
    return this.options.contenders.every(({ info }) => {
      const runs = this.runsOf(load, info).filter((run) => run.round < round);
      return runs.length === 0 || this.cell(info.name, load, runs).settled;
    });
  }
}
