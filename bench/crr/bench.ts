/** One run of the CRR benchmark, from the self-test of its server to the report. */
import { hostArch } from '../../arch/host.js';
import { describeError } from '../../src/errors.js';
import { installedPasst } from '../peers/passt.js';
import type { Passt } from '../peers/passt.js';
import { requireDistinct } from '../peers/peer.js';
import type { Peer } from '../peers/peer.js';
import { describeMachine } from '../report/machine.js';
import { compileTool } from '../native/tools.js';
import { hostDirect, passtBackEnd, qemuUser, slipway, vhostUserPeer } from './backEnds.js';
import type { GuestSettings } from './backEnds.js';
import { GuestServer } from './guestServer.js';
import type { ServerSummary } from './guestServer.js';
import { summarizeCell } from './result.js';
import type { CrrReport, CrrSettings } from './result.js';
import { measureRounds } from './rounds.js';
import type { BackEnd, Progress } from './rounds.js';

export interface CrrOptions extends CrrSettings {
  /** Poll workers of our own network. */
  readonly workers: number;
  /** Bytes, of our own network. */
  readonly mtu: number;
  /** Whether QEMU's user network is measured, and passt where it is installed. */
  readonly installedPeers: boolean;
  /** These instead of the one installed. */
  readonly passt?: readonly Passt[];
  readonly peers: readonly Peer[];
}

const SELF_TEST_COUNT = 1_000;
const SELF_TEST_WARMUP = 100;

/** Names that no peer may have. */
const OWN_NAMES = ['host-direct', 'slipway', 'slipway-vmm', 'qemu-user'];

/** A back end that can take part, not yet started. */
interface Candidate {
  readonly name: string;
  open(): Promise<BackEnd>;
}

/**
 * Boots one guest per back end, measures them in interleaved rounds, and closes everything again. A back end that can't
 * be started is reported as a failure beside the others' results.
 * @param signal ends it early, everything closed
 * @throws {CompileError} without a C compiler
 * @throws the signal's reason
 */
export async function benchCrr(options: CrrOptions, progress: Progress, signal: AbortSignal): Promise<CrrReport> {
  const passt = options.passt ?? (options.installedPeers ? installedPasst() : []);
  requireDistinct([...OWN_NAMES, ...passt.map(({ name }) => name), ...options.peers.map(({ name }) => name)]);
  const client = compileTool('guest/crr.c');
  progress('testing the server on the host');
  const serverSelfTest = await testServer(client);
  await using server = await GuestServer.start();
  const candidates = listBackEnds(
    { client, cpus: options.cpus, port: server.crrPort, closes: options.closes },
    options,
    passt,
  );
  const backEnds: BackEnd[] = [];
  const closeAll = async (): Promise<void> => void (await Promise.all(backEnds.map((backEnd) => backEnd.close())));
  signal.addEventListener('abort', () => void closeAll());
  try {
    const failures = await openAll(candidates, backEnds, progress, signal);
    const measured = await measureRounds(backEnds, options, progress, signal);
    return {
      benchmark: 'crr',
      schemaVersion: 1,
      date: new Date().toISOString(),
      machine: describeMachine(),
      settings: {
        cpus: options.cpus,
        flows: options.flows,
        count: options.count,
        closes: options.closes,
        warmup: options.warmup,
        rounds: options.rounds,
        maxRounds: options.maxRounds,
      },
      backEnds: Object.fromEntries(backEnds.map((backEnd) => [backEnd.name, backEnd.description])),
      notInstalled: options.installedPeers && passt.length === 0 ? ['passt'] : [],
      failures: [...failures, ...measured.failures],
      serverSelfTest,
      server: await server.stop(),
      summaries: measured.cells.map(summarizeCell),
      cells: measured.cells,
    };
  } finally {
    await closeAll();
  }
}

/** What the server adds to a CRR, by one flow on the host itself: nothing else is in its way there. */
async function testServer(client: string): Promise<ServerSummary['serviceUs']> {
  await using server = await GuestServer.start();
  const settings: GuestSettings = { client, cpus: 1, port: server.crrPort, closes: 'server' };
  await hostDirect(settings).run(1, SELF_TEST_COUNT, SELF_TEST_WARMUP);
  return (await server.stop()).serviceUs;
}

/** QEMU, and so its user network, is there for all; our own VMM where it can run a Linux. */
function listBackEnds(settings: GuestSettings, options: CrrOptions, passt: readonly Passt[]): readonly Candidate[] {
  const ours = hostArch().canUseKvm() ? (['slipway', 'slipway-vmm'] as const) : (['slipway'] as const);
  return [
    { name: 'host-direct', open: async () => hostDirect(settings) },
    ...ours.map((name) => ({ name, open: () => slipway(name, settings, options.workers, options.mtu) })),
    ...(options.installedPeers ? [{ name: 'qemu-user', open: () => qemuUser(settings) }] : []),
    ...passt.map((each) => ({ name: each.name, open: () => passtBackEnd(settings, each) })),
    ...options.peers.map((peer) => ({ name: peer.name, open: () => vhostUserPeer(settings, peer) })),
  ];
}

/** Starts the candidates one after the other and adds them to `opened`. Returns those that can't be started. */
async function openAll(
  candidates: readonly Candidate[],
  opened: BackEnd[],
  progress: Progress,
  signal: AbortSignal,
): Promise<CrrReport['failures']> {
  const failures: CrrReport['failures'][number][] = [];
  for (const candidate of candidates) {
    progress(`starting ${candidate.name}`);
    try {
      opened.push(await candidate.open());
    } catch (error) {
      const message = describeError(error);
      failures.push({ backEnd: candidate.name, message });
      progress(`${candidate.name} failed: ${message}`);
    }
    signal.throwIfAborted();
  }
  return failures;
}
