import { describe, expect, it } from 'vitest';
import type { BackEnd } from '../../../bench/guests/backEnds.js';
import type { Measurement } from '../../../bench/guests/rounds.js';
import { listCandidates, measureGuests } from '../../../bench/guests/session.js';
import type { Candidate, GuestsOptions } from '../../../bench/guests/session.js';
import { UsageError } from '../../../src/errors.js';

const options: GuestsOptions = {
  cpus: 2,
  workers: 2,
  mtu: 1_500,
  installedPeers: false,
  passt: [{ name: 'passt', command: ['/opt/passt'] }],
  peers: [{ name: 'mine', path: '/tmp/mine.sock', queues: 1, mtu: 1_500 }],
  rounds: 1,
  maxRounds: 1,
};
const silent = (): void => {};
const never = new AbortController().signal;
const measurement: Measurement<{ flows: number }, string> = {
  loads: [{ flows: 1 }],
  measure: async (backEnd) => (await backEnd.run([])).stdout,
  isSettled: () => true,
  describe: (backEnd) => backEnd,
};

/** Records in `log` when it is opened, run and closed. */
function fakeCandidate(name: string, log: string[], run: () => void = () => {}): Candidate {
  const say = (what: string): void => void log.push(`${name} ${what}`);
  const backEnd: BackEnd = {
    name,
    description: `how ${name} is`,
    host: '10.0.2.2',
    run: async () => {
      say('run');
      run();
      return { exitCode: 0, stdout: name, stderr: '' };
    },
    close: async () => say('closed'),
  };
  return {
    name,
    open: async () => {
      say('opened');
      return backEnd;
    },
  };
}

describe('listCandidates', () => {
  it('has the host, ours, the passts named and the peers; QEMU too, unless installed peers are left out', () => {
    const names = (changes: Partial<GuestsOptions>): readonly string[] =>
      listCandidates('/bin/true', { ...options, ...changes })
        .candidates.map(({ name }) => name)
        .filter((name) => name !== 'slipway-vmm');
    expect(names({})).toEqual(['host-direct', 'slipway', 'passt', 'mine']);
    expect(names({ installedPeers: true })).toEqual(['host-direct', 'slipway', 'qemu-user', 'passt', 'mine']);
    expect(names({ passt: undefined })).toEqual(['host-direct', 'slipway', 'mine']);
  });

  it('refuses two of the same name', () => {
    const peers = [{ ...options.peers[0]!, name: 'slipway' }];
    expect(() => listCandidates('/bin/true', { ...options, peers })).toThrow(UsageError);
  });
});

describe('measureGuests', () => {
  it('opens all before it measures, closes all after, and says how each was set up', async () => {
    const log: string[] = [];
    const candidates = ['a', 'b'].map((name) => fakeCandidate(name, log));
    const report = await measureGuests(
      { candidates, notInstalled: ['passt'] },
      measurement,
      { rounds: 1, maxRounds: 1 },
      silent,
      never,
    );
    expect(log).toEqual(['a opened', 'b opened', 'a run', 'b run', 'a closed', 'b closed']);
    expect(report).toMatchObject({
      backEnds: { a: 'how a is', b: 'how b is' },
      notInstalled: ['passt'],
      failures: [],
      cells: [
        { backEnd: 'a', flows: 1, rounds: ['a'] },
        { backEnd: 'b', flows: 1, rounds: ['b'] },
      ],
    });
  });

  it('names one that does not start, and measures the others', async () => {
    const log: string[] = [];
    const broken: Candidate = { name: 'broken', open: () => Promise.reject(new Error('no guest')) };
    const candidates = [broken, fakeCandidate('a', log)];
    const report = await measureGuests({ candidates, notInstalled: [] }, measurement, options, silent, never);
    expect(report.failures).toEqual([{ backEnd: 'broken', message: 'no guest' }]);
    expect(report.cells.map(({ backEnd }) => backEnd)).toEqual(['a']);
    expect(log.at(-1)).toBe('a closed');
  });

  it('closes all when its signal comes, and rejects with the reason', async () => {
    const log: string[] = [];
    const abort = new AbortController();
    const candidates = [fakeCandidate('a', log, () => abort.abort(new Error('enough'))), fakeCandidate('b', log)];
    const ended = measureGuests({ candidates, notInstalled: [] }, measurement, options, silent, abort.signal);
    await expect(ended).rejects.toThrow('enough');
    expect(log).toContain('a closed');
    expect(log).toContain('b closed');
    expect(log).not.toContain('b run');
  });
});
