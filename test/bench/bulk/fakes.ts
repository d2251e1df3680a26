/** A client's report with every figure derived from a rate. */
import type { BulkRun, Direction } from '../../../bench/bulk/result.js';

export function fakeRun(
  direction: Direction,
  streams: number,
  mbitPerSecond: number,
  changes: Partial<BulkRun> = {},
): BulkRun {
  const bytes = (mbitPerSecond * 1e6) / 8;
  return {
    tool: 'bulk',
    direction,
    interface: 'eth0',
    bytes,
    seconds: 1,
    mbitPerSecond,
    cpus: 2,
    hops: 0,
    equal: true,
    streams: Array.from({ length: streams }, () => fakeStream(bytes / streams)),
    retransmits: 0,
    queues: [
      { rx: 1_000, tx: 3_000 },
      { rx: 0, tx: 2_000 },
    ],
    ...changes,
  };
}

export function fakeStream(
  bytes: number,
  changes: Partial<BulkRun['streams'][number]> = {},
): BulkRun['streams'][number] {
  return { bytes, checksum: '0', peerBytes: bytes, peerChecksum: '0', equal: true, ...changes };
}
