/** What the bulk client prints (bench/guest/bulk.c). */
import { z } from 'zod';

export const bulkRunSchema = z.object({
  tool: z.literal('bulk'),
  direction: z.enum(['send', 'receive']).describe('as the client sees it'),
  bytes: z.number().describe('moved by all streams together'),
  seconds: z.number(),
  mbitPerSecond: z.number(),
  cpus: z.number(),
  hops: z.number().describe('how often all streams were moved to their next CPU; 0 without hopping'),
  equal: z.boolean().describe('whether every stream ended, every byte as expected and both checksums equal'),
  streams: z.array(
    z.object({
      bytes: z.number(),
      checksum: z.string().describe('64 bits, hexadecimal'),
      peerBytes: z.number(),
      peerChecksum: z.string(),
      equal: z.boolean(),
      firstWrongOffset: z.number().optional().describe('of the first 8-byte word that is not what was sent'),
      error: z.string().optional().describe('errno; ENODATA: the stream ended too early'),
    }),
  ),
});

export type BulkRun = z.infer<typeof bulkRunSchema>;
