import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startSlipway } from './slipway.js';
import type { Invocation } from './slipway.js';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'slipway-serve-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function startServing(path: string, ...more: readonly string[]): Promise<Invocation> {
  const invocation = startSlipway(['serve', '--vhost-user', path, '--queues', '2', '--workers', '1', ...more]);
  const { stdout } = invocation.child;
  if (stdout === null) throw new Error('no standard output');
  await once(stdout, 'readable');
  return invocation;
}

describe('slipway serve', () => {
  it.for([
    ['info', /a front end connected[^]*dropped the front end/],
    ['silent', /^$/],
  ] as const)("its log level is the network's: %s", async ([level, says]) => {
    const path = join(folder, `${level}.socket`);
    const { child, outcome } = await startServing(path, '--log-level', level);
    const frontEnd = connect(path);
    // No vhost-user message has version 0: the connection ends, with a warning.
    frontEnd.resume().write(new Uint8Array(12));
    await once(frontEnd, 'close');
    child.kill('SIGTERM');
    expect((await outcome).stderr).toMatch(says);
  });

  it.for(['SIGINT', 'SIGTERM'] as const)('says in one line that it listens, and ends with 0 on %s', async (signal) => {
    const path = join(folder, `${signal}.socket`);
    const { child, outcome } = await startServing(path);
    expect(existsSync(path)).toBe(true);
    child.kill(signal);
    const { exitCode, stdout, stderr } = await outcome;
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    expect(stdout).toBe(`listening on ${path}: 2 queue pairs, 1 worker\n`);
    expect(existsSync(path)).toBe(false);
  });

  it('writes its state to standard error on SIGUSR1 and goes on', async () => {
    const { child, outcome } = await startServing(join(folder, 'dump.socket'));
    if (child.stderr === null) throw new Error('no standard error');
    child.kill('SIGUSR1');
    await once(child.stderr, 'readable');
    child.kill('SIGTERM');
    const { exitCode, stderr } = await outcome;
    expect(exitCode).toBe(0);
    expect(JSON.parse(stderr)).toBeTypeOf('object');
  });

  it('says once which engine it uses, and why', async () => {
    const path = join(folder, 'engine.socket');
    const { child, outcome } = await startServing(path, '--engine', 'epoll', '--log-level', 'info');
    child.kill('SIGTERM');
    const lines = (await outcome).stderr.trim().split('\n');
    const entries = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(entries.filter(({ msg }) => msg === 'I/O engine')).toMatchObject([{ engine: 'epoll', reason: 'asked for' }]);
  });
});
