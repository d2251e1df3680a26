import { InvalidArgumentError } from 'commander';
import { describe, expect, it } from 'vitest';
import { flowsList, integer } from '../../../bench/crr/arguments.js';

describe('arguments', () => {
  it('takes whole numbers within their range', () => {
    expect(integer(1, 64)('64')).toBe(64);
    for (const wrong of ['0', '65', '', ' 1', '1.5', '1e1', '-1', 'x', '0x10'])
      expect(() => integer(1, 64)(wrong)).toThrow(InvalidArgumentError);
  });

  it('takes numbers of flows, each once', () => {
    expect(flowsList('1,2,4,8')).toEqual([1, 2, 4, 8]);
    for (const wrong of ['', '1,', '0', '1,1', '1;2']) expect(() => flowsList(wrong)).toThrow(InvalidArgumentError);
  });
});
