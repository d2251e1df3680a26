import { InvalidArgumentError } from 'commander';
import { expect, it } from 'vitest';
import { addPeer, requireDistinct } from '../../../bench/peers/peer.js';
import { UsageError } from '../../../src/errors.js';

it('takes peers, with one queue pair and an MTU of 1500 unless said otherwise', () => {
  const one = addPeer('vhost=/run/a.sock', []);
  expect(addPeer('b=c.sock,queues=4,pid=17,mtu=9000', one)).toEqual([
    { name: 'vhost', path: '/run/a.sock', queues: 1, mtu: 1_500 },
    { name: 'b', path: 'c.sock', queues: 4, mtu: 9_000, pid: 17 },
  ]);
});

it.each(['a', 'a=', '=b', 'a=b,queues=0', 'a=b,queues=65', 'a=b,queues=', 'a=b,workers=2', 'a=b,mtu=575', 'a=b,pid=0'])(
  'refuses %s',
  (wrong) => {
    expect(() => addPeer(wrong, [])).toThrow(InvalidArgumentError);
  },
);

it('refuses a name that is taken', () => {
  expect(() => addPeer('a=y', addPeer('a=x', []))).toThrow(/taken/);
  expect(() => requireDistinct(['a', 'b', 'a'])).toThrow(UsageError);
  expect(() => requireDistinct(['a', 'b'])).not.toThrow();
});
