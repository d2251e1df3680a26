/** `slipway bench bulk`: its options, and how it is run. */
import type { Command } from 'commander';
import { integerList, nameList, number } from '../arguments.js';
import { addGuestsOptions, guestsOptions, runBenchmark } from '../guests/command.js';
import type { GuestsFlags } from '../guests/command.js';
import { bulkTable, hasFailed } from './report.js';
import { DIRECTIONS } from './result.js';
import type { BulkReport, Direction } from './result.js';

interface Flags extends GuestsFlags {
  readonly directions: readonly Direction[];
  readonly streams: readonly number[];
  readonly seconds: number;
  readonly warmup: number;
}

/** Adds `bulk` to the command `bench`. */
export function registerBulk(bench: Command): void {
  const bulk = bench
    .command('bulk')
    .description(
      'bulk data between a guest and the host, every byte compared: ours, the peers installed, and the host itself',
    )
    .option('--streams <list>', 'numbers of concurrent TCP streams', integerList(1, 1_024), [1, 8])
    .option('--directions <list>', 'send (guest to host), receive', nameList(DIRECTIONS), DIRECTIONS)
    .option('--seconds <n>', 'for how long each run sends', number(0.001, 3_600), 1)
    .option('--warmup <n>', 'seconds before each run that are not recorded', number(0, 3_600), 0.3);
  addGuestsOptions(bulk).action(run);
}

async function run(flags: Flags): Promise<void> {
  const { benchBulk } = await import('./bench.js');
  const { directions, streams, seconds, warmup } = flags;
  await runBenchmark<BulkReport>(flags, {
    name: 'bulk',
    run: (progress, signal) =>
      benchBulk({ ...guestsOptions(flags), directions, streams, seconds, warmup }, progress, signal),
    table: bulkTable,
    hasFailed,
  });
}
