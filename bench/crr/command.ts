/** `slipway bench crr`: its options, and how it is run. */
import { Option } from 'commander';
import type { Command } from 'commander';
import { integer, integerList } from '../arguments.js';
import { addGuestsOptions, guestsOptions, runBenchmark } from '../guests/command.js';
import type { GuestsFlags } from '../guests/command.js';
import { crrTable } from './report.js';
import type { ClosingSide, CrrReport } from './result.js';

interface Flags extends GuestsFlags {
  readonly flows: readonly number[];
  readonly count: number;
  readonly warmup: number;
  readonly close: ClosingSide;
  readonly short?: true;
}

/** What `--short` changes: about a minute with emulated guests. */
const SHORT = { flows: [1, 4], count: 300, rounds: 3 } as const;

/** Adds `crr` to the command `bench`. */
export function registerCrr(bench: Command): void {
  const crr = bench
    .command('crr')
    .description(
      'concurrent connect/request/response/close from inside a guest: ours, the peers installed, and the host itself',
    )
    .option('--flows <list>', 'numbers of concurrent flows', integerList(1, 4_096), [1, 2, 4, 8])
    .option('--count <n>', 'CRRs of each run', integer(1, 10_000_000), 2_000)
    .option('--warmup <n>', 'CRRs before each run that are not recorded', integer(0, 1_000_000), 50)
    .addOption(new Option('--close <side>', 'which side closes first').choices(['client', 'server']).default('client'))
    .option(
      '--short',
      `${SHORT.rounds} rounds of ${SHORT.count} CRRs with ${SHORT.flows.join(' and ')} flows, unless said otherwise`,
    );
  addGuestsOptions(crr).action(async (_flags: Flags, command: Command) => run(shortened(command)));
}

/** The flags, `--short` applied where the user gave no value. */
function shortened(command: Command): Flags {
  const flags = command.opts<Flags>();
  if (!flags.short) return flags;
  const given = (name: string): boolean => command.getOptionValueSource(name) === 'cli';
  return {
    ...flags,
    flows: given('flows') ? flags.flows : SHORT.flows,
    count: given('count') ? flags.count : SHORT.count,
    rounds: given('rounds') ? flags.rounds : SHORT.rounds,
  };
}

async function run(flags: Flags): Promise<void> {
  const { benchCrr } = await import('./bench.js');
  const { flows, count, warmup, close: closes } = flags;
  await runBenchmark<CrrReport>(flags, {
    name: 'crr',
    run: (progress, signal) => benchCrr({ ...guestsOptions(flags), flows, count, warmup, closes }, progress, signal),
    table: crrTable,
    hasFailed: (report) => report.failures.length > 0,
  });
}
