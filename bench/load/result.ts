/** What a load measured: the shape of its JSON. */
import type { ProcessUsage } from './processUsage.js';
import type { Snapshot } from '../driver/statistics.js';

export const MODES = [
  'crr',
  'rr',
  'bulk-tx',
  'bulk-rx',
  'udp-rr',
  'udp-flood',
  'udp-flood-rx',
  'stall',
  'idle',
  'dhcp',
] as const;
export type Mode = (typeof MODES)[number];

/** Whether a mode moves as many bytes as it can, instead of operations. */
export function isBulk(mode: Mode): boolean {
  return mode === 'bulk-tx' || mode === 'bulk-rx';
}

export function isFlood(mode: Mode): boolean {
  return mode === 'udp-flood' || mode === 'udp-flood-rx';
}

/** What came of a flood of datagrams. */
export interface Flood {
  /** Datagrams that the guest sent and those of them that came to the host's server; of `udp-flood-rx` the other way round. */
  readonly sent: number;
  readonly arrived: number;
  /** Payload of those that arrived. */
  readonly bytes: number;
  /** Those that arrived with other bytes than were sent. */
  readonly wrong: number;
}

/** CPU that a process used during a window. */
export interface CpuUse {
  /** Percent of one CPU. */
  readonly percent: number;
  /** Seconds in user and in kernel mode. */
  readonly user: number;
  readonly system: number;
  /** Microseconds per operation, of a flood per datagram that arrived; for bulk loads per 10^6 bytes, which is milliseconds per GB. */
  readonly perUnit: number;
  /** Bytes resident at the window's end. */
  readonly resident: number;
}

/** One measured stretch of time. */
export interface LoadWindow extends Snapshot {
  readonly name: string;
  readonly seconds: number;
  /** Operations per second, of a flood the datagrams that arrived; for bulk loads bits per second. */
  readonly rate: number;
  /** Of `udp-flood` and `udp-flood-rx`. */
  readonly flood?: Flood;
  readonly backEnd?: CpuUse;
  readonly server?: CpuUse;
  readonly driver?: CpuUse;
}

export interface LoadResult {
  readonly mode: Mode;
  readonly flows: number;
  readonly pairs: number;
  readonly threads: number;
  readonly mtu: number;
  readonly offered: readonly string[];
  readonly taken: readonly string[];
  readonly windows: readonly LoadWindow[];
  /** Of `idle`. */
  readonly idle?: {
    readonly open: number;
    readonly failed: number;
    readonly answered: number;
    readonly seconds: number;
  };
  /** Of `dhcp`. */
  readonly lease?: Readonly<Record<string, string | number>>;
}

export function cpuUse(
  before: ProcessUsage | undefined,
  after: ProcessUsage | undefined,
  seconds: number,
  units: number,
): CpuUse | undefined {
  if (before === undefined || after === undefined) return undefined;
  const user = after.user - before.user;
  const system = after.system - before.system;
  return {
    user,
    system,
    percent: (100 * (user + system)) / seconds,
    perUnit: units > 0 ? (1e6 * (user + system)) / units : 0,
    resident: after.resident,
  };
}
