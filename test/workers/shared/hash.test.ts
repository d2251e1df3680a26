import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hashTuple } from '../../../workers/shared/hash.js';

type Tuple = [seed: number, source: number, destination: number, ports: number, device: number];

describe('hashTuple', () => {
  it('is a small integer, the same each time', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer(), fc.integer(), fc.integer(), fc.nat(4095), (...tuple) => {
        const hash = hashTuple(...tuple);
        expect(hash).toBe(hash & 0x7fffffff);
        expect(hashTuple(...tuple)).toBe(hash);
      }),
    );
  });

  it('flips about half of its bits for each bit of each input', () => {
    for (let input = 0; input < 5; input++) {
      for (let bit = 0; bit < (input === 4 ? 12 : 32); bit++) {
        let flipped = 0;
        const samples = 200;
        for (let sample = 0; sample < samples; sample++) {
          const tuple: Tuple = [12345, 0x0a000000 + sample, -sample * 77, (sample << 16) | 80, sample & 3];
          const other: Tuple = [...tuple];
          other[input] = other[input]! ^ (1 << bit);
          for (let rest = hashTuple(...tuple) ^ hashTuple(...other); rest !== 0; rest &= rest - 1) {
            flipped++;
          }
        }
        // 200 samples of 31 bits: the mean is 15.5, its standard deviation 0.2.
        expect(flipped / samples).toBeGreaterThan(13.5);
        expect(flipped / samples).toBeLessThan(17.5);
      }
    }
  });

  it('spreads consecutive ports evenly over few buckets', () => {
    const buckets = Array.from({ length: 64 }, () => 0);
    for (let port = 0; port < 6400; port++) {
      buckets[hashTuple(99, 0x0a000001, 0x0a000002, (port << 16) | 443, 0) & 63]!++;
    }
    expect(Math.max(...buckets)).toBeLessThan(160);
    expect(Math.min(...buckets)).toBeGreaterThan(50);
  });
});
