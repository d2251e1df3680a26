/** The addon's io_uring: what it lets through, and when it goes. */
import { readdirSync, readlinkSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { addon } from '../../src/native/addon.js';
import { probeUring } from '../../workers/engine/chooseEngine.js';
import { EINVAL, exitOf, startWorker } from './support.js';
import { until } from '../until.js';

const [ENTRIES, COMPLETIONS] = [8, 16];
const COMPLETIONS_AT = ENTRIES * 16;
const CALLS_AT = COMPLETIONS_AT + COMPLETIONS * 4;
const BYTES = 4 * (CALLS_AT + 1);

const [READV, POLL_ADD, CONNECT, OPENAT, CLOSE, SEND, RECV, URING_CMD] = [1, 6, 16, 18, 19, 26, 27, 46];
const EPOLLIN = 1;

/** Rings that this process has open. */
function rings(): number {
  const link = (name: string): string => {
    try {
      return readlinkSync(`/proc/self/fd/${name}`);
    } catch {
      return ''; // the descriptor that listed the folder
    }
  };
  return readdirSync('/proc/self/fd').filter((name) => link(name) === 'anon_inode:[io_uring]').length;
}

describe.skipIf(probeUring() !== undefined)('uring', () => {
  const undo: (() => void)[] = [];
  afterEach(() => {
    addon.uringClose();
    for (const step of undo.splice(0)) step();
  });

  const exchange = (): { region: number; words: Int32Array } => {
    const { region, buffer } = addon.createRegion(BYTES);
    undo.push(() => addon.unmapRegion(region));
    addon.uringCreate(region, ENTRIES, COMPLETIONS);
    return { region, words: new Int32Array(buffer, 0, CALLS_AT + 1) };
  };
  const eventfd = (): number => {
    const fd = addon.eventfdCreate();
    undo.push(() => addon.close(fd));
    return fd;
  };
  const pollEntry = (fd: number, userData: number): number[] => {
    return [POLL_ADD, fd, 0, 0, 0, 0, 0, EPOLLIN, userData, 0, 0, 0, 0, 0, 0, 0];
  };

  it('brings completions to the exchange, with their user data', () => {
    const { words } = exchange();
    const fd = eventfd();
    words.set(pollEntry(fd, 77));
    expect(addon.uringEnter(1, 0, 0)).toBe(0);
    addon.eventfdSignal(fd);
    expect(addon.uringEnter(0, 1, 1_000)).toBe(1);
    const [low, high, result, flags] = words.subarray(COMPLETIONS_AT);
    expect([low, high, result! & EPOLLIN, flags! & 2]).toEqual([77, 0, EPOLLIN, 2]);
  });

  it('makes no system call where there is nothing to submit, wait for or fetch', () => {
    const { words } = exchange();
    const fd = eventfd();
    words.set(pollEntry(fd, 1));
    addon.uringEnter(1, 0, 0);
    expect(words[CALLS_AT]).toBe(1);
    for (let n = 0; n < 10; n++) expect(addon.uringEnter(0, 0, 0)).toBe(0);
    expect(words[CALLS_AT]).toBe(1);
    addon.eventfdSignal(fd);
    expect(addon.uringEnter(0, 0, 0)).toBe(1);
    expect(words[CALLS_AT]).toBe(2);
  });

  it('lets no other operation through, and takes no entry of such a batch', () => {
    const { words } = exchange();
    const fd = eventfd();
    addon.eventfdSignal(fd);
    for (const opcode of [READV, CONNECT, OPENAT, CLOSE, SEND, RECV, URING_CMD, 255]) {
      words.set(pollEntry(fd, 1));
      words.set([opcode, fd], 16);
      expect(addon.uringEnter(2, 0, 0)).toBe(-EINVAL);
      expect(addon.uringSubmit(2)).toBe(-EINVAL);
    }
    expect(addon.uringEnter(0, 0, 0)).toBe(0);
    expect(words[CALLS_AT]).toBe(0);
  });

  it('takes no more entries than there are', () => {
    exchange();
    expect(addon.uringEnter(ENTRIES + 1, 0, 0)).toBeLessThan(0);
    expect(addon.uringEnter(-1, 0, 0)).toBeLessThan(0);
  });

  it('refuses without a ring, or without its region', () => {
    expect(addon.uringEnter(0, 0, 0)).toBe(-EINVAL);
    expect(addon.uringSubmit(0)).toBe(-EINVAL);
    const { region } = addon.createRegion(BYTES);
    addon.uringCreate(region, ENTRIES, COMPLETIONS);
    addon.unmapRegion(region);
    expect(addon.uringEnter(0, 0, 0)).toBe(-EINVAL);
  });

  it('refuses an exchange that does not fit', () => {
    const { region } = addon.createRegion(4096);
    undo.push(() => addon.unmapRegion(region));
    for (const [entries, completions] of [
      [7, 16],
      [0, 16],
      [8, 0],
      [64, 16],
      [8, 4096],
    ] as const) {
      expect(() => addon.uringCreate(region, entries, completions)).toThrow(/io_uring_setup/);
    }
    expect(() => addon.uringCreate(region + 1_000, 8, 16)).toThrow(/io_uring_setup/);
  });

  it('goes with its thread, however that ends, and with its successor in the same thread', async () => {
    const before = rings();
    const code = `
      const { region } = addon.createRegion(${BYTES});
      addon.uringCreate(region, ${ENTRIES}, ${COMPLETIONS});
      addon.uringCreate(region, ${ENTRIES}, ${COMPLETIONS});
      parentPort.postMessage('made');
      Atomics.wait(workerData.gate, 0, 0);
      if (workerData.way === 'throw') throw new Error('on purpose');
      if (workerData.way === 'exit') process.exit(0);`;
    for (const way of ['return', 'throw', 'exit', 'terminate']) {
      const gate = new Int32Array(new SharedArrayBuffer(4));
      const worker = startWorker(code, { way, gate });
      const ended = exitOf(worker).catch(() => -1);
      await new Promise((resolve) => worker.once('message', resolve));
      expect(rings()).toBe(before + 1);
      if (way === 'terminate') await worker.terminate();
      Atomics.store(gate, 0, 1);
      Atomics.notify(gate, 0);
      await ended;
      await until(() => rings() === before);
    }
  });
});
