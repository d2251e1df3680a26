/** How many and how much of something a caller may ask for. */
import { availableParallelism } from 'node:os';
import { UsageError } from './errors.js';

/** Queue pairs, vCPUs and workers at most. */
export const MAX_CPUS = 64;
/** Guest memory, MiB. */
export const LEAST_MEMORY_MIB = 64;
export const MOST_MEMORY_MIB = 65_536;

/**
 * Poll workers, unless somebody says how many: one per queue pair, on half of the CPUs at most, since vCPUs need the others.
 * With 2 vCPUs on 2 CPUs a second worker was measured to cost a quarter of the connections.
 */
export function defaultWorkers(queues: number, cpus = availableParallelism()): number {
  return Math.max(1, Math.min(queues, Math.floor(cpus / 2)));
}

/** @throws {UsageError} naming the option, if its value is no whole number within the bounds */
export function wholeNumber(name: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new UsageError(`${name} must be a whole number from ${least} to ${most}, not ${value}`);
}
