/** `slipway bench`: the benchmarks. */
import type { Command } from 'commander';
import { registerBulk } from './bulk/command.js';
import { registerCompare } from './compare/command.js';
import { registerCrr } from './crr/command.js';
import { registerLoad } from './load/command.js';

/** Adds `bench` and its benchmarks to the program. */
export function registerBench(program: Command): void {
  const bench = program.command('bench').description('measure Slipway, and what else is installed beside it');
  registerCrr(bench);
  registerBulk(bench);
  registerLoad(bench);
  registerCompare(bench);
}
