/** The loads over plain sockets on the host's loopback (bench/native/direct.c): what the kernel itself can do. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { infer as Infer } from 'zod';
import { z } from '../../src/schema.js';
import { HISTOGRAM_BUCKETS, summarizeHistogram } from '../driver/histogram.js';
import type { Latency } from '../driver/histogram.js';
import { cpuUse } from '../load/result.js';
import { processUsage } from '../load/processUsage.js';
import { LoadServers } from '../load/servers.js';
import { compileTool } from '../native/tools.js';
import type { Load, LoadMode } from './loads.js';
import type { CompareSettings, RunWindow } from './result.js';

const histogramSchema = z.array(z.tuple([z.number().int().min(0).max(HISTOGRAM_BUCKETS), z.number().int()]));

const resultSchema = z.object({
  seconds: z.number(),
  operations: z.number(),
  refused: z.number(),
  resets: z.number(),
  lost: z.number(),
  bytesSent: z.number(),
  bytesReceived: z.number(),
  user: z.number(),
  system: z.number(),
  response: histogramSchema,
  total: histogramSchema,
  flowBytes: z.array(z.number()),
});

const MODES: ReadonlySet<LoadMode> = new Set(['crr', 'rr', 'udp-rr', 'bulk-tx', 'bulk-rx']);

/** Whether there is such a load without a network between: nothing there would be disturbed by what is idle. */
export function hasDirect(load: Load): boolean {
  return MODES.has(load.mode);
}

export async function measureDirect(load: Load, settings: CompareSettings, portBase: number): Promise<RunWindow> {
  const { seconds, warmup, congestion } = settings;
  await using servers = await LoadServers.start(portBase, 1, congestion);
  const before = processUsage(servers.pid);
  const args = [portBase, load.mode, load.flows, 1000 * warmup, 1000 * seconds].map(String);
  const { stdout } = await promisify(execFile)(compileTool('native/direct.c'), args);
  // The server's CPU is known for warm-up and window together: its share of the window is by time.
  const share = seconds / (seconds + warmup);
  const server = cpuUse(before, processUsage(servers.pid), 1, 1);
  const { user, system, ...result } = resultSchema.parse(JSON.parse(stdout));
  const latency = latencyOf(result.total) ?? latencyOf(result.response);
  const { refused, resets, lost } = result;
  const errors = Object.entries({ refused, resets, lost }).filter(([, times]) => times > 0);
  return {
    name: load.mode,
    seconds: result.seconds,
    operations: result.operations,
    bytes: load.mode === 'bulk-tx' ? result.bytesSent : result.bytesReceived,
    ...(latency && { latency }),
    cpu: {
      driver: { user, system },
      ...(server && { server: { user: server.user * share, system: server.system * share } }),
    },
    packets: 0,
    kicks: 0,
    interrupts: 0,
    retransmits: 0,
    errors: Object.fromEntries(errors),
    streams: result.flowBytes,
  };
}

function latencyOf(histogram: Infer<typeof histogramSchema>): Latency | undefined {
  const counts = new Float64Array(HISTOGRAM_BUCKETS);
  for (const [bucket, times] of histogram) counts[bucket] = times;
  return summarizeHistogram(counts);
}
