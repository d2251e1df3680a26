import { describe, expect, it } from 'vitest';
import { ClientError, parseCrrRun, summarizeCell } from '../../../bench/crr/result.js';
import type { CrrSettings } from '../../../bench/crr/result.js';
import { measureRounds } from '../../../bench/crr/rounds.js';
import type { BackEnd } from '../../../bench/crr/rounds.js';
import { fakeRun } from './fakes.js';

const settings: CrrSettings = {
  cpus: 2,
  flows: [1, 4],
  count: 100,
  closes: 'client',
  warmup: 5,
  rounds: 3,
  maxRounds: 3,
};
const silent = (): void => {};

/** A back end whose p50 is what `p50` says of its n-th run, counted from 0; records its runs in `log`. */
function fakeBackEnd(name: string, log: string[], p50: (run: number) => number = () => 100): BackEnd {
  let runs = 0;
  return {
    name,
    description: name,
    run: async (flows, count, warmup) => {
      log.push(`${name}/${flows}/${count}/${warmup}`);
      return fakeRun(flows, p50(runs++));
    },
    close: async () => {},
  };
}

describe('measureRounds', () => {
  it('interleaves the back ends, each round beginning with another', async () => {
    const log: string[] = [];
    const backEnds = ['a', 'b'].map((name) => fakeBackEnd(name, log));
    const { cells, failures } = await measureRounds(backEnds, { ...settings, rounds: 2, maxRounds: 2 }, silent);
    expect(log).toEqual('a/1 b/1 a/4 b/4 b/1 a/1 b/4 a/4'.split(' ').map((run) => `${run}/100/5`));
    expect(cells.map((cell) => [cell.backEnd, cell.flows, cell.rounds.length])).toEqual([
      ['a', 1, 2],
      ['a', 4, 2],
      ['b', 1, 2],
      ['b', 4, 2],
    ]);
    expect(failures).toEqual([]);
  });

  it('leaves a back end out once its client fails, says so, and goes on with the others', async () => {
    const log: string[] = [];
    const broken = fakeBackEnd('broken', log, (run) => {
      if (run === 3) throw new ClientError('exit code 2');
      return 100;
    });
    const lines: string[] = [];
    const { cells, failures } = await measureRounds([fakeBackEnd('ours', log), broken], settings, (line) =>
      lines.push(line),
    );
    expect(failures).toEqual([{ backEnd: 'broken', message: 'exit code 2' }]);
    expect(cells.map((cell) => cell.rounds.length)).toEqual([3, 3, 2, 1]);
    expect(lines.some((line) => line.includes('broken failed: exit code 2'))).toBe(true);
    expect(log.filter((entry) => entry.startsWith('broken'))).toHaveLength(4);
  });

  it('has no cell for a back end that never finished a run', async () => {
    const never = fakeBackEnd('never', [], () => {
      throw new ClientError('gone');
    });
    const { cells, failures } = await measureRounds([never], settings, silent);
    expect(cells).toEqual([]);
    expect(failures).toHaveLength(1);
  });

  it('ends with the reason of its signal, before the next run, and calls no back end failed', async () => {
    const log: string[] = [];
    const abort = new AbortController();
    const lines: string[] = [];
    const aborting = fakeBackEnd('a', log, (run) => {
      if (run === 1) abort.abort(new Error('enough'));
      return 100;
    });
    const measuring = measureRounds([aborting], settings, (line) => lines.push(line), abort.signal);
    await expect(measuring).rejects.toThrow('enough');
    expect(log).toHaveLength(2);
    expect(lines.filter((line) => line.includes('failed'))).toEqual([]);
  });

  it('adds rounds while a median is not settled, and no more than allowed', async () => {
    const restless = await measureRounds(
      [fakeBackEnd('a', [], (run) => (run % 2 === 0 ? 100 : 1_000))],
      { ...settings, flows: [1], maxRounds: 6 },
      silent,
    );
    expect(restless.cells[0]?.rounds).toHaveLength(6);
    const calm = await measureRounds([fakeBackEnd('a', [])], { ...settings, flows: [1], maxRounds: 6 }, silent);
    expect(calm.cells[0]?.rounds).toHaveLength(3);
  });
});

describe('summarizeCell', () => {
  it('takes medians of the rounds and sums errors, packets and retransmissions', () => {
    const rounds = [
      fakeRun(4, 300, { failed: 2, errors: { ETIMEDOUT: 2 }, retransmits: 1 }),
      fakeRun(4, 100),
      fakeRun(4, 200, { failed: 3, errors: { ETIMEDOUT: 1, ECONNRESET: 2 }, retransmits: 4 }),
    ];
    const summary = summarizeCell({ backEnd: 'a', flows: 4, rounds });
    expect(summary.p50).toMatchObject({ n: 3, median: 200, min: 100, max: 300 });
    expect(summary.p99.median).toBe(600);
    expect(summary.errors).toEqual({ ETIMEDOUT: 3, ECONNRESET: 2 });
    expect(summary).toMatchObject({ failed: 5, completed: 300, retransmits: 5, queuePackets: [63, 123] });
  });
});

describe('parseCrrRun', () => {
  it('reads what the client prints', () => {
    expect(parseCrrRun(0, `${JSON.stringify(fakeRun(1, 50))}\n`, '')).toEqual(fakeRun(1, 50));
  });

  it('says what a failed client said', () => {
    expect(() => parseCrrRun(2, '', 'crr: thread: Resource temporarily unavailable\n')).toThrow(
      'the client crr ended with exit code 2; it said: crr: thread: Resource temporarily unavailable',
    );
    expect(() => parseCrrRun(0, 'Segmentation fault', '')).toThrow(ClientError);
    expect(() => parseCrrRun(0, '{"tool":"crr"}', '')).toThrow(ClientError);
  });
});
