/** The SIGBUS handler as a whole process sees it; what it does to a mapping is in regions.test.ts and threads.test.ts. */
import { describe, expect, it } from 'vitest';
import { runChild } from './support.js';

const loseMemory = `
  function loseMemory() {
    const fd = addon.createMemory('lost', 1 << 20);
    const { region, buffer } = addon.mapRegion(fd, 0, 1 << 20);
    const bytes = new Uint8Array(buffer).fill(1);
    require('node:fs').ftruncateSync(fd, 4096);
    return [bytes[0], bytes[5000], bytes[0], addon.regionFaulted(region)].join(' ');
  }
`;

describe('a process whose shared memory shrinks', () => {
  it('goes on, with zeroes for the whole mapping', async () => {
    const ended = await runChild(
      `${loseMemory} for (let i = 0; i < 100; i++) loseMemory(); console.log(loseMemory());`,
    );
    expect(ended).toEqual({ code: 0, signal: null, output: '1 0 0 true\n' });
  });

  it('goes on when a thread that loaded the addon first has gone', async () => {
    const ended = await runChild(`
      const code = 'require(' + JSON.stringify(addonFile) + ')';
      const map = code + '.mapRegion(' + code + '.createMemory("first", 4096), 0, 4096)';
      const worker = new (require('node:worker_threads').Worker)(map, { eval: true });
      ${loseMemory}
      worker.on('exit', () => console.log(loseMemory()));
    `);
    expect(ended).toEqual({ code: 0, signal: null, output: '1 0 0 true\n' });
  });
});

describe('a SIGBUS that has nothing to do with our mappings', () => {
  it('ends the process as it always did', async () => {
    const ended = await runChild(
      `${loseMemory} loseMemory(); process.kill(process.pid, 'SIGBUS'); setInterval(() => {}, 1000);`,
    );
    expect(ended.signal).toBe('SIGBUS');
  });

  it('ends the process even when no thread has the addon any more', async () => {
    const ended = await runChild(`
      const code = 'require(' + JSON.stringify(addonFile) + ')';
      const map = code + '.mapRegion(' + code + '.createMemory("only", 4096), 0, 4096)';
      const worker = new (require('node:worker_threads').Worker)(map, { eval: true });
      worker.on('exit', () => process.kill(process.pid, 'SIGBUS'));
      setInterval(() => {}, 1000);
    `);
    expect(ended.signal).toBe('SIGBUS');
  });

  it('reaches the handler that was there before', async () => {
    const ended = await runChild(`
      process.on('SIGBUS', () => { console.log('passed on'); process.exit(3); });
      ${loseMemory}
      console.log(loseMemory());
      process.kill(process.pid, 'SIGBUS');
      setInterval(() => {}, 1000);
    `);
    expect(ended).toEqual({ code: 3, signal: null, output: '1 0 0 true\npassed on\n' });
  });
});
