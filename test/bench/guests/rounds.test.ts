import { describe, expect, it } from 'vitest';
import type { BackEnd } from '../../../bench/guests/backEnds.js';
import { ClientError } from '../../../bench/guests/result.js';
import { measureRounds } from '../../../bench/guests/rounds.js';
import type { Measurement } from '../../../bench/guests/rounds.js';

interface Load {
  readonly flows: number;
}

const settings = { rounds: 3, maxRounds: 3 };
const silent = (): void => {};

/** A back end whose client prints what `rate` says of its n-th run, counted from 0; records its runs in `log`. */
function fakeBackEnd(name: string, log: string[], rate: (run: number) => number = () => 100): BackEnd {
  let runs = 0;
  return {
    name,
    description: name,
    host: '10.0.2.2',
    run: async (args) => {
      log.push([name, ...args].join('/'));
      return { exitCode: 0, stdout: String(rate(runs++)), stderr: '' };
    },
    close: async () => {},
  };
}

/** A run is a rate; a cell is settled if its rates are equal. */
function measuring(...flows: readonly number[]): Measurement<Load, number> {
  return {
    loads: flows.map((each) => ({ flows: each })),
    measure: async (backEnd, load) => Number((await backEnd.run([load.flows])).stdout),
    isSettled: (runs) => new Set(runs).size === 1,
    describe: (backEnd, load, run) => `${backEnd} with ${load.flows}: ${run}`,
  };
}

describe('measureRounds', () => {
  it('interleaves the back ends, each round beginning with another', async () => {
    const log: string[] = [];
    const lines: string[] = [];
    const backEnds = ['a', 'b'].map((name) => fakeBackEnd(name, log));
    const rounds = { rounds: 2, maxRounds: 2 };
    const { cells, failures } = await measureRounds(backEnds, measuring(1, 4), rounds, (line) => lines.push(line));
    expect(log).toEqual('a/1 b/1 a/4 b/4 b/1 a/1 b/4 a/4'.split(' '));
    expect(cells).toEqual([
      { backEnd: 'a', flows: 1, rounds: [100, 100] },
      { backEnd: 'a', flows: 4, rounds: [100, 100] },
      { backEnd: 'b', flows: 1, rounds: [100, 100] },
      { backEnd: 'b', flows: 4, rounds: [100, 100] },
    ]);
    expect(failures).toEqual([]);
    expect(lines).toHaveLength(8);
    expect(lines[0]).toBe('round 1/2, a with 1: 100');
    expect(lines[4]).toBe('round 2/2, b with 1: 100');
  });

  it('leaves a back end out once its client fails, says so, and goes on with the others', async () => {
    const log: string[] = [];
    const broken = fakeBackEnd('broken', log, (run) => {
      if (run === 3) throw new ClientError('exit code 2');
      return 100;
    });
    const lines: string[] = [];
    const backEnds = [fakeBackEnd('ours', log), broken];
    const { cells, failures } = await measureRounds(backEnds, measuring(1, 4), settings, (line) => lines.push(line));
    expect(failures).toEqual([{ backEnd: 'broken', message: 'exit code 2' }]);
    expect(cells.map((cell) => cell.rounds.length)).toEqual([3, 3, 2, 1]);
    expect(lines.some((line) => line.includes('broken failed: exit code 2'))).toBe(true);
    expect(log.filter((entry) => entry.startsWith('broken'))).toHaveLength(4);
  });

  it('has no cell for a back end that never finished a run', async () => {
    const never = fakeBackEnd('never', [], () => {
      throw new ClientError('gone');
    });
    const { cells, failures } = await measureRounds([never], measuring(1, 4), settings, silent);
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
    const ended = measureRounds([aborting], measuring(1, 4), settings, (line) => lines.push(line), abort.signal);
    await expect(ended).rejects.toThrow('enough');
    expect(log).toHaveLength(2);
    expect(lines.filter((line) => line.includes('failed'))).toEqual([]);
  });

  it('adds rounds while a cell is not settled, and no more than allowed', async () => {
    const rounds = { rounds: 3, maxRounds: 6 };
    const restless = await measureRounds([fakeBackEnd('a', [], (run) => run)], measuring(1), rounds, silent);
    expect(restless.cells[0]?.rounds).toHaveLength(6);
    const calm = await measureRounds([fakeBackEnd('a', [])], measuring(1), rounds, silent);
    expect(calm.cells[0]?.rounds).toHaveLength(3);
  });
});
