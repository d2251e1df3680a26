/** `slipway bench crr`: options, progress and output. */
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { Option } from 'commander';
import type { Command } from 'commander';
import { checkWritable, endedBySignal } from '../report/session.js';
import { markdownTable, terminalTable } from '../report/table.js';
import { addPasst } from '../peers/passt.js';
import type { Passt } from '../peers/passt.js';
import { addPeer } from '../peers/peer.js';
import type { Peer } from '../peers/peer.js';
import { flowsList, integer } from './arguments.js';
import { crrTable } from './report.js';
import type { ClosingSide } from './result.js';

interface Flags {
  readonly cpus: number;
  readonly flows: readonly number[];
  readonly count: number;
  readonly warmup: number;
  readonly close: ClosingSide;
  readonly rounds: number;
  readonly maxRounds?: number;
  readonly workers?: number;
  readonly mtu: number;
  readonly passt?: readonly Passt[];
  readonly peer: readonly Peer[];
  readonly peers: boolean;
  readonly short?: true;
  readonly json?: string;
  readonly markdown?: string;
}

/** What `--short` changes: about a minute with emulated guests. */
const SHORT = { flows: [1, 4], count: 300, rounds: 3 } as const;

/** Adds `crr` to the command `bench`. */
export function registerCrr(bench: Command): void {
  bench
    .command('crr')
    .description(
      'concurrent connect/request/response/close from inside a guest: ours, the peers installed, and the host itself',
    )
    .option('--cpus <n>', 'vCPUs of each guest, and our queue pairs', integer(1, 64), 2)
    .option('--flows <list>', 'numbers of concurrent flows', flowsList, [1, 2, 4, 8])
    .option('--count <n>', 'CRRs of each run', integer(1, 10_000_000), 2_000)
    .option('--warmup <n>', 'CRRs before each run that are not recorded', integer(0, 1_000_000), 50)
    .option('--rounds <n>', 'runs of each back end with each number of flows', integer(1, 1_000), 5)
    .option(
      '--max-rounds <n>',
      'add rounds up to this many while a median is not settled (default: none added)',
      integer(1, 1_000),
    )
    .addOption(new Option('--close <side>', 'which side closes first').choices(['client', 'server']).default('client'))
    .option('--workers <n>', 'our poll workers (default: one per queue pair, at most one per CPU)', integer(1, 64))
    .option('--mtu <bytes>', 'our MTU', integer(1_280, 65_535), 1_500)
    .option(
      '--passt <command>',
      'a passt to measure, [NAME=]COMMAND; may be repeated (default: the one on PATH)',
      addPasst,
      [],
    )
    .option(
      '--peer <name=socket>',
      'a running vhost-user back end, NAME=SOCKET[,queues=N]; may be repeated',
      addPeer,
      [],
    )
    .option('--no-peers', 'leave out the peers installed on this machine')
    .option(
      '--short',
      `${SHORT.rounds} rounds of ${SHORT.count} CRRs with ${SHORT.flows.join(' and ')} flows, unless said otherwise`,
    )
    .option('--json <file>', 'write the report as JSON too')
    .option('--markdown <file>', 'write the table as Markdown too')
    .action(async (_flags: Flags, command: Command) => run(shortened(command)));
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
  checkWritable(flags.json, flags.markdown);
  const { benchCrr } = await import('./bench.js');
  const report = await benchCrr(
    {
      ...flags,
      closes: flags.close,
      maxRounds: Math.max(flags.rounds, flags.maxRounds ?? 0),
      workers: flags.workers ?? Math.min(flags.cpus, availableParallelism()),
      peers: flags.peer,
      installedPeers: flags.peers,
    },
    (line) => process.stderr.write(`crr: ${line}\n`),
    endedBySignal(),
  );
  const table = crrTable(report);
  process.stdout.write(`${terminalTable(table, process.stdout.isTTY)}\n`);
  if (flags.json !== undefined) writeFileSync(flags.json, `${JSON.stringify(report, null, 2)}\n`);
  if (flags.markdown !== undefined) writeFileSync(flags.markdown, markdownTable(table));
  if (report.failures.length > 0) process.exitCode = 1;
}
