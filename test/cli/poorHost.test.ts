/** `slipway serve` on hosts that lack something: a reader of its output, room on the disk, descriptors. Guests keep their network. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { listens } from '../../bench/peers/listens.js';
import { packageRoot } from '../../src/packageRoot.js';
import * as fe from '../device/vhostUser/frontEnd.js';
import { bringUp } from '../device/vhostUser/harness.js';

const folder = mkdtempSync(join(tmpdir(), 'slipway-poor-'));
const path = join(folder, 'socket');
const guest = new fe.Guest();
afterAll(() => {
  guest.close();
  rmSync(folder, { recursive: true, force: true });
});

const COMMAND = `exec "${process.execPath}" "${join(packageRoot(), 'dist/src/cli/main.js')}" serve --vhost-user "${path}" --queues 2`;

/** Runs the command in a shell that prepares its host, and while it serves, `meanwhile`. Returns exit code and signal. */
async function serving(prepare: string, redirect: string, meanwhile: () => Promise<void>): Promise<unknown[]> {
  const child = spawn('bash', ['-c', `${prepare} ${COMMAND} --log-level info ${redirect}`]);
  const exited = once(child, 'exit');
  child.stdout.resume();
  child.stderr.resume();
  try {
    while (!listens(path)) {
      if (child.exitCode !== null) throw new Error(`ended with ${child.exitCode}`);
      await delay(20);
    }
    await meanwhile();
    child.kill('SIGTERM');
    return await exited;
  } finally {
    child.kill('SIGKILL');
    rmSync(path, { force: true });
  }
}

/** Front ends that make it write to its log, the last of which is served. */
async function frontEnds(): Promise<void> {
  for (let n = 0; n < 3; n++) {
    const broken = fe.FrontEnd.connect(path);
    broken.send(1000 + n);
    await broken.ended();
    broken.close();
    const frontEnd = fe.FrontEnd.connect(path);
    await bringUp(frontEnd, guest);
    frontEnd.close();
  }
}

describe('slipway serve goes on', () => {
  it.each([
    ['when the disk that it logs to is full', '2>/dev/full'],
    ['when the disk that its output goes to is full', '>/dev/full'],
    ['when nobody reads its log any more', '2> >(exec true)'],
    ['when nobody reads its output any more', '> >(exec true)'],
    ['with its standard streams closed', '<&- >&- 2>&-'],
    ['when its log is read by somebody who sleeps', '2> >(exec sleep 10)'],
  ])('%s', async (_name, redirect) => {
    expect(await serving('', redirect, frontEnds)).toEqual([0, null]);
  });

  it('with 64 descriptors', async () => {
    expect(await serving('ulimit -n 64;', '', frontEnds)).toEqual([0, null]);
  });
});

it('says what to do if there are too few descriptors to start', async () => {
  const child = spawn('bash', ['-c', `ulimit -n 30; ${COMMAND}`]);
  const [said] = await Promise.all([text(child.stderr), once(child, 'exit')]);
  expect(said).toMatch(/^slipway: EMFILE.*raise the limit of open files \(ulimit -n\)\n$/);
});
