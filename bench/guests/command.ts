/** The options of the benchmarks from inside guests, and how such a benchmark is run: progress, table, files, exit code. */
import { writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import { integer } from '../arguments.js';
import { defaultWorkers } from '../../src/limits.js';
import { addPasst } from '../peers/passt.js';
import type { Passt } from '../peers/passt.js';
import { addPeer } from '../peers/peer.js';
import type { Peer } from '../peers/peer.js';
import { checkWritable, endedBySignal } from '../report/session.js';
import { markdownTable, terminalTable } from '../report/table.js';
import type { ResultTable } from '../report/table.js';
import type { Progress } from './rounds.js';
import type { GuestsOptions } from './session.js';

export interface GuestsFlags {
  readonly cpus: number;
  readonly rounds: number;
  readonly maxRounds?: number;
  readonly workers?: number;
  readonly mtu: number;
  readonly passt?: readonly Passt[];
  readonly peer: readonly Peer[];
  readonly peers: boolean;
  readonly json?: string;
  readonly markdown?: string;
}

/** Adds the options of `GuestsFlags`. */
export function addGuestsOptions(command: Command): Command {
  return command
    .option('--cpus <n>', 'vCPUs of each guest, and our queue pairs', integer(1, 64), 2)
    .option('--rounds <n>', 'runs of each back end under each load', integer(1, 1_000), 5)
    .option(
      '--max-rounds <n>',
      'add rounds up to this many while a median is not settled (default: none added)',
      integer(1, 1_000),
    )
    .option(
      '--workers <n>',
      'our poll workers (default: one per queue pair, on half of the CPUs at most)',
      integer(1, 64),
    )
    .option('--mtu <bytes>', 'our MTU', integer(1_280, 65_535), 1_500)
    .option(
      '--passt <command>',
      'a passt to measure, [NAME=]COMMAND; may be repeated (default: the one on PATH)',
      addPasst,
    )
    .option(
      '--peer <name=socket>',
      'a running vhost-user back end, NAME=SOCKET[,queues=N]; may be repeated',
      addPeer,
      [],
    )
    .option('--no-peers', 'leave out the peers installed on this machine')
    .option('--json <file>', 'write the report as JSON too')
    .option('--markdown <file>', 'write the table as Markdown too');
}

export function guestsOptions(flags: GuestsFlags): GuestsOptions {
  return {
    cpus: flags.cpus,
    rounds: flags.rounds,
    maxRounds: Math.max(flags.rounds, flags.maxRounds ?? 0),
    workers: flags.workers ?? defaultWorkers(flags.cpus),
    mtu: flags.mtu,
    installedPeers: flags.peers,
    passt: flags.passt,
    peers: flags.peer,
  };
}

/** A benchmark that ends with a report. */
export interface Benchmark<Report> {
  readonly name: string;
  run(progress: Progress, signal: AbortSignal): Promise<Report>;
  table(report: Report): ResultTable;
  /** Whether anything failed, which makes the exit code 1. */
  hasFailed(report: Report): boolean;
}

/** Runs a benchmark: progress on standard error, the table on standard output, the report in the files asked for. */
export async function runBenchmark<Report>(
  { json, markdown }: Pick<GuestsFlags, 'json' | 'markdown'>,
  benchmark: Benchmark<Report>,
): Promise<void> {
  checkWritable(json, markdown);
  const report = await benchmark.run((line) => process.stderr.write(`${benchmark.name}: ${line}\n`), endedBySignal());
  const table = benchmark.table(report);
  process.stdout.write(`${terminalTable(table, process.stdout.isTTY)}\n`);
  if (json !== undefined) writeFileSync(json, `${JSON.stringify(report, null, 2)}\n`);
  if (markdown !== undefined) writeFileSync(markdown, markdownTable(table));
  if (benchmark.hasFailed(report)) process.exitCode = 1;
}
