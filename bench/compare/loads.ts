/** What is measured: the load driver's modes with so many flows, named `MODE-N`. */
import { InvalidArgumentError } from 'commander';

export const LOAD_MODES = ['crr', 'rr', 'udp-rr', 'bulk-tx', 'bulk-rx', 'idle', 'stall'] as const;
export type LoadMode = (typeof LOAD_MODES)[number];

export interface Load {
  /** `MODE-N`; N counts the flows, for `idle` and `stall` the connections beside. */
  readonly name: string;
  readonly mode: LoadMode;
  /** Flows that are measured. */
  readonly flows: number;
  /** Connections beside them that are open and idle, and connects beside them that get no answer. */
  readonly idle: number;
  readonly stalled: number;
}

/** Flows beside idle connections and pending connects. */
const FLOWS_BESIDE = 4;
const LIMITS: Readonly<Record<LoadMode, number>> = {
  crr: 4_096,
  rr: 4_096,
  'udp-rr': 4_096,
  'bulk-tx': 256,
  'bulk-rx': 256,
  idle: 40_000,
  stall: 10_000,
};

/** UDP is left to who asks for it: not every back end has it. */
export const DEFAULT_LOADS = loadList(
  'crr-1,crr-2,crr-4,crr-8,crr-32,rr-1,rr-8,bulk-tx-1,bulk-tx-8,bulk-rx-1,bulk-rx-8,idle-8000,stall-100',
);

/** `crr-8,bulk-tx-1`: each load once. @throws {InvalidArgumentError} saying what is expected */
export function loadList(text: string): readonly Load[] {
  const loads = text.split(',').map(parseLoad);
  const names = new Set(loads.map(({ name }) => name));
  if (names.size < loads.length) throw new InvalidArgumentError('It names a load twice.');
  return loads;
}

function parseLoad(name: string): Load {
  const [, modeName, digits] = /^([a-z-]+)-([1-9]\d*)$/.exec(name) ?? [];
  const mode = LOAD_MODES.find((each) => each === modeName);
  const n = Number(digits);
  if (mode === undefined || n > LIMITS[mode]) {
    const limits = LOAD_MODES.map((each) => `${each}-1…${LIMITS[each]}`).join(', ');
    throw new InvalidArgumentError(`${name} is none of ${limits}.`);
  }
  const beside = mode === 'idle' || mode === 'stall';
  return {
    name,
    mode,
    flows: beside ? FLOWS_BESIDE : n,
    idle: mode === 'idle' ? n : 0,
    stalled: mode === 'stall' ? n : 0,
  };
}
