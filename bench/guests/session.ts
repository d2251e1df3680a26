/** One session of a benchmark from inside guests: who takes part, from the first guest's boot to the last one's end. */
import { hostArch } from '../../arch/host.js';
import { describeError } from '../../src/errors.js';
import { installedPasst } from '../peers/passt.js';
import type { Passt } from '../peers/passt.js';
import { requireDistinct } from '../peers/peer.js';
import type { Peer } from '../peers/peer.js';
import { describeMachine } from '../report/machine.js';
import { hostDirect, passtBackEnd, qemuUser, slipway, vhostUserPeer } from './backEnds.js';
import type { BackEnd } from './backEnds.js';
import { measureRounds } from './rounds.js';
import type { Measured, Measurement, Progress } from './rounds.js';
import type { Failure, GuestsReport, RoundSettings } from './result.js';

/** Who is measured, and how often. */
export interface GuestsOptions extends RoundSettings {
  /** vCPUs of each guest, and our queue pairs. */
  readonly cpus: number;
  /** Poll workers of our own network. */
  readonly workers: number;
  /** Bytes, of our own network. */
  readonly mtu: number;
  /** Whether QEMU's user network is measured, and passt where it is installed. */
  readonly installedPeers: boolean;
  /** These instead of the one installed. */
  readonly passt?: readonly Passt[] | undefined;
  readonly peers: readonly Peer[];
}

/** Names that no peer may have. */
const OWN_NAMES = ['host-direct', 'slipway', 'slipway-vmm', 'qemu-user'];

/** A back end that can take part, not yet started. */
export interface Candidate {
  readonly name: string;
  open(): Promise<BackEnd>;
}

export interface Candidates {
  readonly candidates: readonly Candidate[];
  /** Peers that are looked for and not there. */
  readonly notInstalled: readonly string[];
}

/**
 * Who can take part. QEMU, and so its user network, is there for all; our own VMM where it can run a Linux.
 * @param client path of the static client that each is to run
 * @throws {UsageError} if two have the same name
 */
export function listCandidates(client: string, options: GuestsOptions): Candidates {
  const passt = options.passt ?? (options.installedPeers ? installedPasst() : []);
  requireDistinct([...OWN_NAMES, ...passt.map(({ name }) => name), ...options.peers.map(({ name }) => name)]);
  const settings = { client, cpus: options.cpus };
  const ours = hostArch().canUseKvm() ? (['slipway', 'slipway-vmm'] as const) : (['slipway'] as const);
  const candidates = [
    { name: 'host-direct', open: async () => hostDirect(client) },
    ...ours.map((name) => ({ name, open: () => slipway(name, settings, options.workers, options.mtu) })),
    ...(options.installedPeers ? [{ name: 'qemu-user', open: () => qemuUser(settings) }] : []),
    ...passt.map((each) => ({ name: each.name, open: () => passtBackEnd(settings, each) })),
    ...options.peers.map((peer) => ({ name: peer.name, open: () => vhostUserPeer(settings, peer) })),
  ];
  return { candidates, notInstalled: options.installedPeers && passt.length === 0 ? ['passt'] : [] };
}

/**
 * Boots one guest per back end, measures them in interleaved rounds, and closes everything again. A back end that can't
 * be started is reported as a failure beside the others' results.
 * @param signal ends it early, everything closed
 * @throws the signal's reason
 */
export async function measureGuests<Load extends object, Run>(
  { candidates, notInstalled }: Candidates,
  measurement: Measurement<Load, Run>,
  settings: RoundSettings,
  progress: Progress,
  signal: AbortSignal,
): Promise<GuestsReport & Measured<Load, Run>> {
  const backEnds: BackEnd[] = [];
  const closeAll = async (): Promise<void> => void (await Promise.all(backEnds.map((backEnd) => backEnd.close())));
  signal.addEventListener('abort', () => void closeAll());
  try {
    const notStarted = await openAll(candidates, backEnds, progress, signal);
    const { cells, failures } = await measureRounds(backEnds, measurement, settings, progress, signal);
    return {
      date: new Date().toISOString(),
      machine: describeMachine(),
      backEnds: Object.fromEntries(backEnds.map((backEnd) => [backEnd.name, backEnd.description])),
      notInstalled,
      failures: [...notStarted, ...failures],
      cells,
    };
  } finally {
    await closeAll();
  }
}

/** Starts the candidates one after the other and adds them to `opened`. Returns those that can't be started. */
async function openAll(
  candidates: readonly Candidate[],
  opened: BackEnd[],
  progress: Progress,
  signal: AbortSignal,
): Promise<readonly Failure[]> {
  const failures: Failure[] = [];
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
