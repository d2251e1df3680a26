/** One run: a contender started anew, under one load. */
import { DEVICE_DEFAULTS } from '../driver/device.js';
import { LOOP_DEFAULTS } from '../driver/eventLoop.js';
import { GUEST_DEFAULTS } from '../driver/loadDriver.js';
import { runLoad, timeoutOf, workloadOf } from '../load/load.js';
import type { LoadOptions } from '../load/load.js';
import type { CpuUse, LoadResult, LoadWindow } from '../load/result.js';
import type { Contender } from './contenders.js';
import { measureDirect } from './direct.js';
import type { Load } from './loads.js';
import type { CompareRun, CompareSettings, RunWindow } from './result.js';

export type Measurement = Pick<CompareRun, 'windows' | 'offered' | 'taken' | 'idle'>;

/** Counters of the driver that should stay 0. */
const ERRORS = [
  'refused',
  'resets',
  'timeouts',
  'lost',
  'badChecksums',
  'badFrames',
  'badData',
  'ringErrors',
  'handoverDrops',
] as const;
/** The most connections that are opened beside a load need longer than a connection's own limit. */
const TIMEOUT_MS = 10_000;

/** @throws what the back end, the driver or the servers throw */
export async function measure(
  contender: Contender,
  load: Load,
  settings: CompareSettings,
  portBase: number,
): Promise<Measurement> {
  const { seconds, warmup, congestion } = settings;
  if (contender.open === undefined)
    return { windows: [await measureDirect(load, settings, portBase)], offered: [], taken: [] };
  await using backEnd = await contender.open();
  const { queues: pairs, mtu } = contender.info;
  const options: LoadOptions = {
    mode: load.mode,
    socket: backEnd.socket,
    listen: false,
    seconds,
    warmup,
    serverThreads: 1,
    ...(congestion !== undefined && { congestion }),
    ...(backEnd.pid !== undefined && { pid: backEnd.pid }),
    driver: {
      device: { ...DEVICE_DEFAULTS, pairs, threads: pairs, mtu },
      loop: { ...LOOP_DEFAULTS, timeoutMs: load.mode === 'udp-rr' ? timeoutOf(load.mode) : TIMEOUT_MS },
      workload: {
        kind: workloadOf(load.mode),
        flows: load.flows,
        bytes: 1,
        verify: false,
        stalled: load.stalled,
        idle: load.idle,
        address: GUEST_DEFAULTS.gateway,
        portBase,
        hopMs: 0,
      },
      guest: GUEST_DEFAULTS,
    },
  };
  const result = await runLoad(options, () => {});
  return measurementOf(load, result);
}

function measurementOf(load: Load, result: LoadResult): Measurement {
  return {
    windows: result.windows.map((window) => windowOf(load, window)),
    offered: result.offered,
    taken: result.taken,
    ...(result.idle && { idle: result.idle }),
  };
}

function windowOf(load: Load, window: LoadWindow): RunWindow {
  const { counters, pairs, backEnd, server, driver } = window;
  const latency = window.latency.total ?? window.latency.response;
  const sum = (name: keyof LoadWindow['pairs'][number]): number => pairs.reduce((total, pair) => total + pair[name], 0);
  const errors = ERRORS.map((name) => [name, counters[name]] as const).filter(([, times]) => times > 0);
  return {
    name: window.name,
    seconds: window.seconds,
    operations: counters.operations,
    bytes: load.mode === 'bulk-tx' ? counters.bytesSent : counters.bytesReceived,
    ...(latency && { latency }),
    cpu: {
      ...(backEnd && { backEnd: cpuTime(backEnd) }),
      ...(server && { server: cpuTime(server) }),
      ...(driver && { driver: cpuTime(driver) }),
    },
    ...(backEnd && { resident: backEnd.resident }),
    packets: sum('txPackets') + sum('rxPackets'),
    kicks: sum('kicks'),
    interrupts: sum('interrupts'),
    retransmits: counters.retransmittedSegments,
    errors: Object.fromEntries(errors),
    streams: window.flowBytes,
  };
}

function cpuTime({ user, system }: CpuUse): { user: number; system: number } {
  return { user, system };
}
