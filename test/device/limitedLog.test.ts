import { expect, test } from 'vitest';
import { LimitedLog } from '../../device/limitedLog.js';

test('100 warnings in 10 s, then how many were left out, then 100 more', () => {
  const lines: string[] = [];
  const target = { info: (text: string) => lines.push(text), warn: (text: string) => lines.push(text) };
  let now = 0;
  const log = new LimitedLog(target, 'vhost-user', () => now);
  for (let n = 0; n < 500; n++) log.warn(`line ${n}`);
  expect(lines.splice(0)).toEqual([
    ...Array.from({ length: 100 }, (_, n) => `line ${n}`),
    'vhost-user: more warnings than 100 in 10 s are left out',
  ]);
  now = 10_000;
  log.warn('again');
  expect(lines).toEqual(['vhost-user: 400 warnings were left out', 'again']);
});
