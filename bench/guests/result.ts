/** What the benchmarks from inside guests have in common: how a client is read, and what their JSON documents say. */
import type { ZodType } from 'zod';
import { z } from '../../src/schema.js';
import { SlipwayError } from '../../src/errors.js';
import type { Machine } from '../report/machine.js';

/** A client that has ended. */
export interface ClientExit {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The client's output could not be understood, or it failed. */
export class ClientError extends SlipwayError {
  override readonly name = 'ClientError';
}

/** What every client says of its kernel (bench/guest/counters.h). */
export const kernelCounters = {
  retransmits: z.number().describe("TCP segments retransmitted by the client's kernel during the run"),
  queues: z
    .array(z.object({ rx: z.number(), tx: z.number() }))
    .describe("packets per queue pair during the run, by the guest driver's own counters; empty where there are none"),
} as const;

/**
 * Reads a client's report.
 * @param reporting exit codes with which it prints one
 * @throws {ClientError} if it failed or printed anything else
 */
export function parseClientRun<Run>(
  client: string,
  schema: ZodType<Run>,
  { exitCode, stdout, stderr }: ClientExit,
  reporting: readonly number[] = [0],
): Run {
  const said = stderr.trim() === '' ? 'it said nothing' : `it said: ${stderr.trim()}`;
  if (!reporting.includes(exitCode))
    throw new ClientError(`the client ${client} ended with exit code ${exitCode}; ${said}`);
  let report: unknown;
  try {
    report = JSON.parse(stdout);
  } catch {
    throw new ClientError(`the client ${client} printed no report but "${stdout.trim().slice(0, 120)}"; ${said}`);
  }
  const parsed = schema.safeParse(report);
  if (!parsed.success)
    throw new ClientError(`the client ${client} printed an odd report: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

/** A back end that could not be started, or whose client failed. */
export interface Failure {
  readonly backEnd: string;
  readonly message: string;
}

/** All rounds of one back end under one load. */
export type Cell<Load, Run> = Load & {
  readonly backEnd: string;
  /** In the order they were run. */
  readonly rounds: readonly Run[];
};

/** How often everything is run. */
export interface RoundSettings {
  readonly rounds: number;
  /** Rounds are added up to this many while a cell is not settled. */
  readonly maxRounds: number;
}

/** What `--json` writes, whatever was measured. */
export interface GuestsReport {
  /** ISO 8601. */
  readonly date: string;
  readonly machine: Machine;
  /** By back end: how it was set up, in words. */
  readonly backEnds: Readonly<Record<string, string>>;
  /** Peers that could not take part because they are not installed. */
  readonly notInstalled: readonly string[];
  /** Back ends that failed: they have the rounds up to then, and the benchmark's exit code is 1. */
  readonly failures: readonly Failure[];
}

/** Sums over rounds, per queue pair: packets in both directions. */
export function sumQueuePackets(
  rounds: readonly { readonly queues: readonly { readonly rx: number; readonly tx: number }[] }[],
): readonly number[] {
  const pairs = Math.max(...rounds.map((run) => run.queues.length));
  return Array.from({ length: pairs }, (_, pair) =>
    rounds.reduce((sum, run) => sum + (run.queues[pair]?.rx ?? 0) + (run.queues[pair]?.tx ?? 0), 0),
  );
}
