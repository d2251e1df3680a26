import { InvalidArgumentError } from 'commander';
import { describe, expect, it } from 'vitest';
import { addPeer, flowsList, integer } from '../../../bench/crr/arguments.js';

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

  it('takes peers, with one queue pair unless said otherwise', () => {
    const one = addPeer('vhost=/run/a.sock', []);
    expect(addPeer('b=c.sock,queues=4', one)).toEqual([
      { name: 'vhost', path: '/run/a.sock', queues: 1 },
      { name: 'b', path: 'c.sock', queues: 4 },
    ]);
  });

  it('refuses peers without a socket, with odd queue counts, and with a name that is taken', () => {
    for (const wrong of ['a', 'a=', '=b', 'a=b,queues=0', 'a=b,queues=', 'a=b,workers=2', 'slipway=b', 'passt=b'])
      expect(() => addPeer(wrong, [])).toThrow(InvalidArgumentError);
    expect(() => addPeer('a=y', addPeer('a=x', []))).toThrow(/taken/);
  });
});
