/** Short real runs: the loopback, and `slipway bench compare` against our own `serve`, as its users run it. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { measureDirect } from '../../../bench/compare/direct.js';
import { loadList } from '../../../bench/compare/loads.js';
import { readCompareReport } from '../../../bench/compare/result.js';
import { packageRoot } from '../../../src/packageRoot.js';

/** Below the ports that the kernel gives out, and apart from those of other test processes. */
const PORT_BASE = 20_000 + ((process.pid * 20) % 12_000);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'slipway-compare-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('the loopback', () => {
  it.each(loadList('crr-4,rr-2,udp-rr-1,udp-rr-200'))('$name', async (load) => {
    const window = await measureDirect(load, { rounds: 1, maxRounds: 1, seconds: 0.2, warmup: 0.05 }, PORT_BASE);
    expect(window).toMatchObject({ errors: {}, latency: { count: window.operations } });
    expect(window.operations).toBeGreaterThan(0);
    expect(window.seconds).toBeGreaterThanOrEqual(0.2);
  });

  it.each(loadList('bulk-tx-2,bulk-rx-2'))('$name', async (load) => {
    const window = await measureDirect(load, { rounds: 1, maxRounds: 1, seconds: 0.2, warmup: 0.05 }, PORT_BASE);
    expect(window.errors).toEqual({});
    expect(window.streams).toHaveLength(2);
    expect(window.streams.reduce((sum, bytes) => sum + bytes, 0)).toBe(window.bytes);
    expect(Math.min(...window.streams)).toBeGreaterThan(0);
  });
});

async function compare(...args: readonly string[]): Promise<{ stdout: string; stderr: string }> {
  const times = ['--seconds', '0.3', '--warmup', '0.1', '--port', String(PORT_BASE)];
  const program = join(packageRoot(), 'dist/src/cli/main.js');
  return promisify(execFile)(process.execPath, [program, 'bench', 'compare', ...times, '--no-peers', ...args]);
}

it('compares our own with the loopback in two pieces, and writes table, JSON and page', async () => {
  const json = join(folder, 'report.json');
  const page = join(folder, 'report.html');
  const what = ['--loads', 'crr-2,bulk-tx-2,idle-20', '--workers', '1,2', '--engines', 'epoll', '--rounds', '1'];
  const files = ['--json', json, '--html', page, '--resume'];
  const first = await compare(...what, ...files, '--for', '0.01');
  expect(first.stderr.match(/^compare: round/gm)).toHaveLength(1);
  expect(readCompareReport(json)).toMatchObject({
    complete: false,
    runs: [{ contender: 'slipway-epoll-1', load: 'crr-2' }],
  });

  const { stdout } = await compare(...what, ...files);
  const report = readCompareReport(json);
  expect(report.complete).toBe(true);
  expect(report.failures).toEqual([]);
  expect(report.cells).toHaveLength(8);
  for (const { figures, errors } of report.cells) {
    expect(errors).toEqual({});
    expect(figures.rate?.median).toBeGreaterThan(0);
  }
  const ours = report.cells.filter(({ contender }) => contender.startsWith('slipway'));
  expect(ours).toHaveLength(6);
  for (const { figures } of ours)
    expect(Object.keys(figures)).toEqual(expect.arrayContaining(['cpu', 'resident', 'kicks', 'interrupts']));
  expect(report.runs.find(({ load }) => load === 'idle-20')?.idle).toMatchObject({ open: 20, failed: 0, answered: 20 });
  expect(stdout).toContain('Slipway epoll, 2 workers');
  expect(readFileSync(page, 'utf8')).toContain('id="latency-crr-2"');

  const other = compare(...what, ...files, '--workers', '1');
  await expect(other).rejects.toMatchObject({
    code: 2,
    stderr: expect.stringContaining('of other contenders') as string,
  });
});

it('names what does not start, and ends with 1', async () => {
  const running = compare(
    '--loads',
    'rr-1',
    '--workers',
    '1',
    '--no-direct',
    '--rounds',
    '1',
    '--passt',
    'broken=/bin/false',
  );
  await expect(running).rejects.toMatchObject({
    code: 1,
    stdout: expect.stringContaining('broken FAILED in rr-1, round 1: /bin/false did not start') as string,
  });
});
