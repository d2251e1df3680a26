import { describe, expect, it } from 'vitest';
import { areSettled, parseCrrRun, summarizeCell } from '../../../bench/crr/result.js';
import { ClientError } from '../../../bench/guests/result.js';
import { fakeRun } from './fakes.js';

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
  const said = { exitCode: 0, stdout: '', stderr: '' };

  it('reads what the client prints', () => {
    expect(parseCrrRun({ ...said, stdout: `${JSON.stringify(fakeRun(1, 50))}\n` })).toEqual(fakeRun(1, 50));
  });

  it('says what a failed client said', () => {
    expect(() =>
      parseCrrRun({ ...said, exitCode: 2, stderr: 'crr: thread: Resource temporarily unavailable\n' }),
    ).toThrow('the client crr ended with exit code 2; it said: crr: thread: Resource temporarily unavailable');
    expect(() => parseCrrRun({ ...said, stdout: 'Segmentation fault' })).toThrow(ClientError);
    expect(() => parseCrrRun({ ...said, stdout: '{"tool":"crr"}' })).toThrow(ClientError);
  });
});

it('is settled while the p50 of its rounds is', () => {
  expect(areSettled([fakeRun(1, 100), fakeRun(1, 110)])).toBe(true);
  expect(areSettled([fakeRun(1, 100), fakeRun(1, 1_000)])).toBe(false);
});
