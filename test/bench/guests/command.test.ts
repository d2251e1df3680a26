import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { addGuestsOptions, guestsOptions, runBenchmark } from '../../../bench/guests/command.js';
import type { Benchmark, GuestsFlags } from '../../../bench/guests/command.js';
import type { GuestsOptions } from '../../../bench/guests/session.js';

function parse(...args: readonly string[]): GuestsOptions {
  const command = addGuestsOptions(new Command());
  return guestsOptions(command.parse(args, { from: 'user' }).opts<GuestsFlags>());
}

describe('the options', () => {
  it('leave passt to what is on PATH unless one is named', () => {
    expect(parse().passt).toBeUndefined();
    expect(parse('--passt', 'new=/opt/passt', '--passt', '/old/passt').passt).toEqual([
      { name: 'new', command: ['/opt/passt'] },
      { name: 'passt', command: ['/old/passt'] },
    ]);
    expect(parse().installedPeers).toBe(true);
    expect(parse('--no-peers').installedPeers).toBe(false);
  });

  it('never have fewer rounds at most than at least', () => {
    expect(parse('--rounds', '7')).toMatchObject({ rounds: 7, maxRounds: 7 });
    expect(parse('--rounds', '7', '--max-rounds', '9')).toMatchObject({ rounds: 7, maxRounds: 9 });
  });
});

const fake = (failed: boolean): Benchmark<{ rate: number }> => ({
  name: 'fake',
  run: async (progress) => {
    progress('under way');
    return { rate: 7 };
  },
  table: ({ rate }) => ({
    title: 'Fake',
    columns: [{ name: 'rate', align: 'right' }],
    rows: [[{ value: String(rate) }]],
    notes: [],
  }),
  hasFailed: () => failed,
});

describe('runBenchmark', () => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-command-'));
  const json = join(folder, 'report.json');
  const markdown = join(folder, 'report.md');

  afterEach(() => {
    vi.restoreAllMocks();
    process.exitCode = undefined;
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('writes table and files, and its exit code says whether anything failed', async () => {
    const stdout = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
    const stderr = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    await runBenchmark({ json, markdown }, fake(false));
    expect(process.exitCode).toBeUndefined();
    expect(stderr).toHaveBeenCalledWith('fake: under way\n');
    expect(String(stdout.mock.calls[0]?.[0])).toContain('Fake');
    expect(JSON.parse(readFileSync(json, 'utf8'))).toEqual({ rate: 7 });
    expect(readFileSync(markdown, 'utf8')).toContain('## Fake');
    await runBenchmark({}, fake(true));
    expect(process.exitCode).toBe(1);
  });

  it('refuses a file that cannot be written before it measures', async () => {
    const benchmark = { ...fake(false), run: vi.fn<Benchmark<{ rate: number }>['run']>() };
    await expect(runBenchmark({ json: '/nonexistent/report.json' }, benchmark)).rejects.toThrow('cannot write');
    expect(benchmark.run).not.toHaveBeenCalled();
  });
});
