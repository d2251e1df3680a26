/** `slipway bench compare`: options, progress and output. */
import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { Option } from 'commander';
import type { Command } from 'commander';
import { UsageError } from '../../src/errors.js';
import { integer, number } from '../arguments.js';
import { congestionOption } from '../load/arguments.js';
import { addPasst, installedPasst, passtMode } from '../peers/passt.js';
import type { Passt } from '../peers/passt.js';
import { addPeer, requireDistinct } from '../peers/peer.js';
import type { Peer } from '../peers/peer.js';
import { checkWritable, endedBySignal } from '../report/session.js';
import { terminalTable } from '../report/table.js';
import { defaultWorkers, engineList, workersList } from './arguments.js';
import { NAMED_ENGINES, listContenders } from './contenders.js';
import type { Contender, Engine } from './contenders.js';
import { DEFAULT_LOADS, loadList } from './loads.js';
import type { Load } from './loads.js';
import { compareTables } from './report.js';
import { readCompareReport } from './result.js';
import type { CompareReport, CompareSettings } from './result.js';

interface Flags {
  readonly loads: readonly Load[];
  readonly engines: readonly Engine[];
  readonly workers: readonly number[];
  readonly mtu: number;
  readonly passt?: readonly Passt[];
  readonly peer: readonly Peer[];
  readonly peers: boolean;
  readonly direct: boolean;
  readonly rounds: number;
  readonly maxRounds?: number;
  readonly seconds: number;
  readonly warmup: number;
  readonly port: number;
  readonly congestion?: string;
  readonly for: number;
  readonly json?: string;
  readonly html?: string;
  readonly resume?: true;
}

/** Adds `compare` to the command `bench`. */
export function registerCompare(bench: Command): void {
  const command = bench
    .command('compare')
    .description('ours beside every peer, on the load driver: tables, JSON, and a page with charts')
    .option('--loads <list>', 'what to measure, as MODE-N', loadList, DEFAULT_LOADS)
    .option('--rounds <n>', 'rounds, interleaved', integer(1, 1_000), 5)
    .option('--max-rounds <n>', 'add rounds to a load while a rate is not settled (default: none)', integer(1, 1_000))
    .option('--seconds <s>', 'measured time of a run', number(0.1, 3_600), 2)
    .option('--warmup <s>', 'time before that', number(0, 600), 1)
    .option('-p, --port <n>', "the servers' first port", integer(1, 65_500), 18_000)
    .addOption(congestionOption())
    .option('--for <s>', 'begin no further run after so many seconds, but one', number(0, 1e6), Infinity)
    .option('--resume', 'go on with the report of --json')
    .option('--json <file>', 'write the report as JSON, after each run')
    .option('--html <file>', 'write it as one page with charts');
  addContenderOptions(command);
  command.action(async (flags: Flags) => run(flags));
}

function addContenderOptions(command: Command): void {
  command
    .addOption(
      new Option('--engines <list>', 'our I/O engines')
        .argParser(engineList)
        .default(NAMED_ENGINES, NAMED_ENGINES.join(',')),
    )
    .addOption(
      new Option('--workers <list>', 'our numbers of workers, each with as many queue pairs')
        .argParser(workersList)
        .default(defaultWorkers(), defaultWorkers().join(',')),
    )
    .option('--mtu <bytes>', 'our MTU', integer(576, 65_521), 1_500)
    .option(
      '--passt <command>',
      'a passt, [NAME=]COMMAND; may be repeated (default: the one on PATH, if it has vhost-user)',
      addPasst,
    )
    .option(
      '--peer <name=socket>',
      'a running vhost-user back end, NAME=SOCKET[,queues=N][,mtu=BYTES][,pid=PID]; may be repeated',
      addPeer,
      [],
    )
    .option('--no-peers', 'leave out the passt on PATH')
    .option('--no-direct', 'leave out plain sockets on the loopback');
}

async function run(flags: Flags): Promise<void> {
  const { json, html } = flags;
  checkWritable(json, html);
  const settings: CompareSettings = {
    rounds: flags.rounds,
    maxRounds: Math.max(flags.rounds, flags.maxRounds ?? 0),
    seconds: flags.seconds,
    warmup: flags.warmup,
    ...(flags.congestion !== undefined && { congestion: flags.congestion }),
  };
  const passt = flags.passt ?? (flags.peers ? usablePasst() : []);
  const contenders = listContenders({ ...flags, passt, peers: flags.peer });
  requireDistinct(contenders.map(({ info }) => info.name));
  const signal = endedBySignal();
  const { benchCompare } = await import('./bench.js');
  const report = await benchCompare(
    {
      settings,
      contenders,
      loads: flags.loads,
      portBase: flags.port,
      earlier: flags.resume ? earlierRuns(json, contenders, flags.loads, settings) : [],
      forSeconds: flags.for,
      command: `slipway ${process.argv.slice(2).join(' ')}`,
    },
    {
      progress: (line) => process.stderr.write(`compare: ${line}\n`),
      save: (soFar) => json !== undefined && save(json, soFar),
    },
    signal,
  );
  for (const table of compareTables(report)) process.stdout.write(`${terminalTable(table, process.stdout.isTTY)}\n\n`);
  if (json !== undefined) save(json, report);
  if (html !== undefined) {
    const { comparePage } = await import('./page.js');
    writeFileSync(html, comparePage(report));
  }
  signal.throwIfAborted();
  if (report.failures.length > 0) process.exitCode = 1;
}

/** The passt on PATH, if it knows vhost-user: one that is too old takes no part. */
function usablePasst(): readonly Passt[] {
  return installedPasst().filter((each) => passtMode(each) === 'vhost-user');
}

/** Replaces the file at once: one that is cut off would lose the runs of hours. */
function save(path: string, report: CompareReport): void {
  writeFileSync(`${path}.part`, `${JSON.stringify(report)}\n`);
  renameSync(`${path}.part`, path);
}

/** @throws {UsageError} if the report is of other contenders, loads or times */
function earlierRuns(
  path: string | undefined,
  contenders: readonly Contender[],
  loads: readonly Load[],
  { seconds, warmup, congestion }: CompareSettings,
): CompareReport['runs'] {
  if (path === undefined) throw new UsageError('--resume goes on with the report of --json; name it');
  if (!existsSync(path)) return [];
  const earlier = readCompareReport(path);
  const same =
    earlier.settings.seconds === seconds &&
    earlier.settings.warmup === warmup &&
    earlier.settings.congestion === congestion &&
    sameNames(
      earlier.contenders,
      contenders.map(({ info }) => info),
    ) &&
    sameNames(earlier.loads, loads);
  if (!same) throw new UsageError(`${path} is of other contenders, loads or times; name another file`);
  return earlier.runs;
}

function sameNames(one: readonly { name: string }[], other: readonly { name: string }[]): boolean {
  return one.map(({ name }) => name).join() === other.map(({ name }) => name).join();
}
