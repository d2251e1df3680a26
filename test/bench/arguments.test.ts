import { InvalidArgumentError } from 'commander';
import { describe, expect, it } from 'vitest';
import { integer, integerList, nameList, number } from '../../bench/arguments.js';

describe('arguments', () => {
  it('takes whole numbers within their range', () => {
    expect(integer(1, 64)('64')).toBe(64);
    for (const wrong of ['0', '65', '', ' 1', '1.5', '1e1', '-1', 'x', '0x10'])
      expect(() => integer(1, 64)(wrong)).toThrow(InvalidArgumentError);
  });

  it('takes decimal numbers within their range', () => {
    expect(number(0, 64)('0.25')).toBe(0.25);
    for (const wrong of ['64.1', '', '.5', '1.', '1e1', '-1', 'x'])
      expect(() => number(0, 64)(wrong)).toThrow(InvalidArgumentError);
  });

  it('takes lists of whole numbers, each once', () => {
    expect(integerList(1, 8)('1,2,4,8')).toEqual([1, 2, 4, 8]);
    for (const wrong of ['', '1,', '0', '9', '1,1', '1;2'])
      expect(() => integerList(1, 8)(wrong)).toThrow(InvalidArgumentError);
  });

  it('takes lists of names, each once', () => {
    expect(nameList(['up', 'down'])('down,up')).toEqual(['down', 'up']);
    for (const wrong of ['', 'up,', 'left', 'up,up', 'Up'])
      expect(() => nameList(['up', 'down'])(wrong)).toThrow(InvalidArgumentError);
  });
});
