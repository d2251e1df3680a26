import { ftruncateSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { addon } from '../../src/native/addon.js';
import { EFAULT, exitOf, mappingsOf, startWorker } from './support.js';

describe('affinity', () => {
  /** Cpus_allowed_list of the calling thread: "0-3,7". */
  function allowed(): number[] {
    const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync('/proc/thread-self/status', 'utf8'))?.[1] ?? '';
    return list.split(',').flatMap((range) => {
      const [first = 0, last = first] = range.split('-').map(Number);
      return Array.from({ length: last - first + 1 }, (_, i) => first + i);
    });
  }

  it('is what the kernel says', () => {
    expect(addon.getAffinity()).toEqual(allowed());
  });

  it('is set for the calling thread only', async () => {
    const before = addon.getAffinity();
    const last = before.slice(-1);
    const code = 'addon.setAffinity(workerData); parentPort.postMessage(addon.getAffinity());';
    const worker = startWorker(code, last);
    const inWorker = new Promise((resolve) => worker.once('message', resolve));
    await exitOf(worker);
    expect(await inWorker).toEqual(last);
    expect(addon.getAffinity()).toEqual(before);
    try {
      addon.setAffinity(last);
      expect(allowed()).toEqual(last);
    } finally {
      addon.setAffinity(before);
    }
    expect(allowed()).toEqual(before);
  });

  it('refuses no CPU, absent ones and nonsense', () => {
    const refusal = expect.objectContaining({ code: 'EINVAL', syscall: 'sched_setaffinity' });
    for (const cpus of [[], [8191], [8192], [-1], [0.5], ['0'], 0]) {
      expect(() => addon.setAffinity(cpus as number[])).toThrow(refusal);
    }
  });
});

describe('a worker thread', () => {
  const mapTen = `
    const held = [];
    for (let i = 0; i < 10; i++) held.push(addon.mapRegion(workerData, 0, 4096), addon.createRegion(4096));
    for (const { buffer } of held) new Uint8Array(buffer)[0] = 1;
    addon.bindScratch(new Uint32Array(held[0].buffer, 0, 3), new Int32Array(3), new Int32Array(2));
    addon.unmapRegion(held[2].region);
  `;

  it('leaves no mapping when it ends', async () => {
    const fd = addon.createMemory('slipway-worker', 4096);
    for (let i = 0; i < 3; i++) expect(await exitOf(startWorker(mapTen, fd))).toBe(0);
    expect(mappingsOf('slipway-worker')).toBe(0);
    addon.close(fd);
  });

  it('leaves none when it is terminated either', async () => {
    const fd = addon.createMemory('slipway-killed', 4096);
    const worker = startWorker(`${mapTen} parentPort.postMessage('mapped'); for (;;) ;`, fd);
    await new Promise((resolve) => worker.once('message', resolve));
    expect(mappingsOf('slipway-killed')).toBe(9);
    await worker.terminate();
    expect(mappingsOf('slipway-killed')).toBe(0);
    addon.close(fd);
  });

  it('can neither touch nor unmap the regions of another', async () => {
    const { region, buffer } = addon.createRegion(4096);
    const code = `
      let code;
      try { addon.unmapRegion(workerData); } catch (error) { code = error.code; }
      addon.bindScratch(Uint32Array.of(workerData, 0, 1), new Int32Array(3), new Int32Array(2));
      parentPort.postMessage([code, addon.checksum(0, 1, 0)]);
    `;
    const worker = startWorker(code, region);
    const answer = new Promise((resolve) => worker.once('message', resolve));
    await exitOf(worker);
    expect(await answer).toEqual(['ERANGE', -EFAULT]);
    expect(buffer.byteLength).toBe(4096);
    addon.unmapRegion(region);
  });

  it('shares memory by mapping the same file, and meets the others in Atomics', async () => {
    const fd = addon.createMemory('slipway-atomics', 4096);
    const { region, buffer } = addon.mapRegion(fd, 0, 4096);
    const code = `
      const words = new Int32Array(addon.mapRegion(workerData, 0, 4096).buffer);
      for (let i = 0; i < 100000; i++) Atomics.add(words, 0, 1);
    `;
    await Promise.all([exitOf(startWorker(code, fd)), exitOf(startWorker(code, fd))]);
    expect(new Int32Array(buffer)[0]).toBe(200_000);
    addon.unmapRegion(region);
    addon.close(fd);
  });

  it('survives memory that shrinks, without harm to the mappings of others', async () => {
    const fd = addon.createMemory('slipway-shrink', 1 << 20);
    const mine = addon.mapRegion(fd, 0, 1 << 20);
    const code = `
      const { region, buffer } = addon.mapRegion(workerData, 0, 1 << 20);
      const bytes = new Uint8Array(buffer).fill(1);
      parentPort.once('message', () => {
        const sum = bytes.reduce((a, b) => a + b, 0);
        parentPort.postMessage([sum, addon.regionFaulted(region)]);
      });
      parentPort.postMessage('ready');
    `;
    const workers = [startWorker(code, fd), startWorker(code, fd)];
    await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))));
    ftruncateSync(fd, 0);
    const answers = workers.map((worker) => new Promise((resolve) => worker.once('message', resolve)));
    for (const worker of workers) worker.postMessage('read', []);
    expect(await Promise.all(answers)).toEqual([
      [0, true],
      [0, true],
    ]);
    expect(addon.regionFaulted(mine.region)).toBe(false);
    await Promise.all(workers.map((worker) => worker.terminate()));
    addon.unmapRegion(mine.region);
    addon.close(fd);
  });
});
