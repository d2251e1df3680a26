/** Runs passt, the peer (https://passt.top), as the network of one guest. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SlipwayError } from '../../src/errors.js';

const START_TIMEOUT_MS = 10_000;
const POLL_MS = 20;

/** passt did not start. */
export class PasstError extends SlipwayError {
  override readonly name = 'PasstError';
}

export class Passt {
  private constructor(
    private readonly child: ChildProcess,
    private readonly folder: string,
    /** UNIX stream socket for QEMU's `-netdev stream`. */
    readonly socket: string,
  ) {}

  /**
   * Starts passt with the addresses that the other back ends give their guests, 10.0.2.2 leading to the host's 127.0.0.1
   * (passt(1): --address, --netmask, --gateway, --map-host-loopback).
   * @param program its path
   * @throws {PasstError} if it ends or has no socket within 10 s
   */
  static async start(program: string): Promise<Passt> {
    const folder = await mkdtemp(join(tmpdir(), 'slipway-passt-'));
    // Started as root, passt becomes nobody before it makes its socket.
    await chmod(folder, 0o777);
    const socket = join(folder, 'passt.socket');
    // With --one-off it ends with QEMU, should this process die before it can end it.
    const options = ['--foreground', '--socket', socket, '--ipv4-only', '--one-off'];
    const addresses = [
      '--address',
      '10.0.2.15',
      '--netmask',
      '24',
      '--gateway',
      '10.0.2.2',
      '--map-host-loopback',
      '10.0.2.2',
    ];
    const child = spawn(program, [...options, ...addresses], { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-2048)));
    child.on('error', (error) => (said += error.message));
    const passt = new Passt(child, folder, socket);
    for (let waited = 0; !existsSync(socket); waited += POLL_MS) {
      if (waited >= START_TIMEOUT_MS || child.exitCode !== null || child.pid === undefined) {
        await passt.close();
        throw new PasstError(`passt did not start: ${said.trim().split('\n').at(-1) ?? 'it said nothing'}`);
      }
      await sleep(POLL_MS);
    }
    return passt;
  }

  /** Ends passt and removes its socket. */
  async close(): Promise<void> {
    if (this.child.pid !== undefined && this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill('SIGKILL');
      await once(this.child, 'exit');
    }
    await rm(this.folder, { recursive: true, force: true });
  }
}
