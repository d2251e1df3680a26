/** Runs the host's end of the guest's clients (bench/native/guestServer.c). */
import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { infer as Infer } from 'zod';
import { z } from '../../src/schema.js';
import { SlipwayError } from '../../src/errors.js';
import { compileTool } from '../native/tools.js';

const portsSchema = z.object({ crrPort: z.number(), bulkPort: z.number() });

const summarySchema = z.object({
  accepted: z.number(),
  answered: z.number(),
  broken: z.number().describe('connections that failed'),
  serviceUs: z
    .object({ p50: z.number(), p99: z.number(), max: z.number() })
    .describe('what the server adds to a CRR, µs'),
  bulkStreams: z.number(),
  bulkWrong: z.number().describe('bulk streams whose checksums differ or that broke off'),
});

/** What the server did in its life, and what it added to each CRR. */
export type ServerSummary = Infer<typeof summarySchema>;

/** The server did not start, or did not end as it should. */
export class GuestServerError extends SlipwayError {
  override readonly name = 'GuestServerError';
}

export class GuestServer implements AsyncDisposable {
  readonly crrPort: number;
  readonly bulkPort: number;

  private constructor(
    private readonly child: ChildProcessByStdio<Writable, Readable, null>,
    private readonly lines: AsyncIterator<string>,
    ports: Infer<typeof portsSchema>,
  ) {
    this.crrPort = ports.crrPort;
    this.bulkPort = ports.bulkPort;
  }

  /**
   * Listens on two free ports of 127.0.0.1.
   * @throws {CompileError} if it can't be compiled
   * @throws {GuestServerError} if it doesn't start
   */
  static async start(): Promise<GuestServer> {
    const child = spawn(compileTool('native/guestServer.c'), { stdio: ['pipe', 'pipe', 'inherit'] });
    // Writing to a server that has died is no error of its own: `stop` tells.
    child.stdin.on('error', () => {});
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const first = await lines.next();
    if (first.done) throw new GuestServerError('the CRR server ended before it listened');
    return new GuestServer(child, lines, portsSchema.parse(JSON.parse(first.value)));
  }

  /** Ends the server. @throws {GuestServerError} if it had died before */
  async stop(): Promise<ServerSummary> {
    await this[Symbol.asyncDispose]();
    const last = await this.lines.next();
    if (last.done || this.child.exitCode !== 0)
      throw new GuestServerError(
        `the CRR server died (${this.child.signalCode ?? `exit code ${String(this.child.exitCode)}`})`,
      );
    return summarySchema.parse(JSON.parse(last.value));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.stdin.end();
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'exit');
  }
}
