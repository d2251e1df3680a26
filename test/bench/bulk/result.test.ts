import { describe, expect, it } from 'vitest';
import { areSettled, parseBulkRun, summarizeCell } from '../../../bench/bulk/result.js';
import { ClientError } from '../../../bench/guests/result.js';
import { fakeRun, fakeStream } from './fakes.js';

describe('summarizeCell', () => {
  it('takes medians of the rounds, and payload for each packet in the direction of the data', () => {
    const rounds = [300, 100, 200].map((rate) => fakeRun('send', 2, rate, { retransmits: 3 }));
    const summary = summarizeCell({ backEnd: 'a', direction: 'send', streams: 2, rounds });
    expect(summary.rate).toMatchObject({ n: 3, median: 200, min: 100, max: 300 });
    expect(summary.bytesPerPacket?.median).toBe(25e6 / 5_000);
    expect(summary).toMatchObject({ failed: 0, errors: {}, retransmits: 9, queuePackets: [12_000, 6_000] });
    const received = rounds.map((round) => ({ ...round, direction: 'receive' as const }));
    const receiving = summarizeCell({ backEnd: 'a', direction: 'receive', streams: 2, rounds: received });
    expect(receiving.bytesPerPacket?.median).toBe(25e6 / 1_000);
  });

  it('knows no payload for each packet where packets are not counted', () => {
    const cell = {
      backEnd: 'a',
      direction: 'send',
      streams: 1,
      rounds: [fakeRun('send', 1, 100, { queues: [] })],
    } as const;
    expect(summarizeCell(cell)).not.toHaveProperty('bytesPerPacket');
  });

  it("takes the streams' sample standard deviation as a share of their mean", () => {
    const unequal = fakeRun('send', 2, 100, { streams: [fakeStream(100), fakeStream(300)] });
    const summary = summarizeCell({ backEnd: 'a', direction: 'send', streams: 2, rounds: [unequal] });
    expect(summary.unfairness.median).toBeCloseTo(Math.SQRT1_2, 9);
  });

  it('counts streams that failed by errno, those with wrong bytes as such whatever else happened to them', () => {
    const streams = [
      fakeStream(1),
      fakeStream(1, { equal: false, error: 'ECONNRESET' }),
      fakeStream(1, { equal: false, firstWrongOffset: 8, error: 'ENODATA' }),
      fakeStream(1, { equal: false }),
    ];
    const run = fakeRun('receive', 4, 100, { equal: false, streams });
    const summary = summarizeCell({ backEnd: 'a', direction: 'receive', streams: 4, rounds: [run, run] });
    expect(summary).toMatchObject({ failed: 6, errors: { ECONNRESET: 2, WRONG_DATA: 4 } });
  });
});

describe('parseBulkRun', () => {
  const stdout = `${JSON.stringify(fakeRun('send', 2, 100))}\n`;

  it('reads what the client prints, also when it says with exit code 1 that bytes are wrong', () => {
    for (const exitCode of [0, 1])
      expect(parseBulkRun({ exitCode, stdout, stderr: '' })).toEqual(fakeRun('send', 2, 100));
  });

  it('says what a failed client said', () => {
    expect(() => parseBulkRun({ exitCode: 2, stdout, stderr: 'bulk: streams: out of memory\n' })).toThrow(
      'the client bulk ended with exit code 2; it said: bulk: streams: out of memory',
    );
    expect(() => parseBulkRun({ exitCode: 1, stdout: '', stderr: '' })).toThrow(ClientError);
  });
});

it('is settled while the rate of its rounds is', () => {
  expect(areSettled([fakeRun('send', 1, 100), fakeRun('send', 1, 110)])).toBe(true);
  expect(areSettled([fakeRun('send', 1, 100), fakeRun('send', 1, 1_000)])).toBe(false);
});
