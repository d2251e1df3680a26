import { InvalidArgumentError } from 'commander';
import { expect, it } from 'vitest';
import { defaultWorkers, engineList, workersList } from '../../../bench/compare/arguments.js';
import { NAMED_ENGINES, listContenders } from '../../../bench/compare/contenders.js';
import { DEFAULT_LOADS, loadList } from '../../../bench/compare/loads.js';
import { ENGINE_CHOICES } from '../../../workers/engine/engine.js';

it('reads a mode and its number, which counts what is beside for idle and stall', () => {
  expect(loadList('bulk-rx-8,udp-rr-3,idle-500,stall-20')).toEqual([
    { name: 'bulk-rx-8', mode: 'bulk-rx', flows: 8, idle: 0, stalled: 0 },
    { name: 'udp-rr-3', mode: 'udp-rr', flows: 3, idle: 0, stalled: 0 },
    { name: 'idle-500', mode: 'idle', flows: 4, idle: 500, stalled: 0 },
    { name: 'stall-20', mode: 'stall', flows: 4, idle: 0, stalled: 20 },
  ]);
  expect(DEFAULT_LOADS).toHaveLength(13);
});

it.each(['', 'crr', 'crr-0', 'crr-5000', 'udp-1', 'udp-rr', 'crr-1,', 'crr-1,crr-1', 'crr-1.5'])(
  'refuses "%s"',
  (wrong) => {
    expect(() => loadList(wrong)).toThrow(InvalidArgumentError);
  },
);

it('takes the engines from the configuration, but for auto', () => {
  expect(NAMED_ENGINES).toEqual(ENGINE_CHOICES.filter((engine) => engine !== 'auto'));
  expect(engineList('epoll,epoll')).toEqual(['epoll']);
  expect(() => engineList('auto')).toThrow(InvalidArgumentError);
});

it('doubles workers up to the CPUs', () => {
  expect([1, 2, 3, 8, 64].map(defaultWorkers)).toEqual([[1], [1, 2], [1, 2, 3], [1, 2, 4, 8], [1, 2, 4, 8, 16, 31]]);
  expect(workersList('2,1,2')).toEqual([2, 1]);
});

it('lists ours with every engine and number of workers, then the peers, then the loopback', () => {
  const contenders = listContenders({
    engines: ['epoll'],
    workers: [1, 2],
    mtu: 9_000,
    passt: [{ name: 'passt', command: ['/nowhere/passt', '--quiet'] }],
    peers: [{ name: 'other', path: '/run/s', queues: 3, mtu: 4_000, pid: 5 }],
    direct: true,
  });
  expect(contenders.map(({ info }) => [info.name, info.queues, info.mtu])).toEqual([
    ['slipway-epoll-1', 1, 9_000],
    ['slipway-epoll-2', 2, 9_000],
    ['passt', 1, 65_520],
    ['other', 3, 4_000],
    ['direct', 0, 65_536],
  ]);
  expect(contenders[1]?.info.command).toContain(
    'serve --vhost-user SOCKET --queues 2 --workers 2 --engine epoll --mtu 9000',
  );
  expect(contenders[2]?.info.command).toMatch(/^\/nowhere\/passt --quiet --vhost-user .*--mtu 65520$/);
  expect(contenders[4]?.open).toBeUndefined();
});
