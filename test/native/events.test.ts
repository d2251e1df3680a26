import { writeSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { addon } from '../../src/native/addon.js';
import {
  bindScratch,
  EAGAIN,
  EINVAL,
  EPOLLET,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  exitOf,
  fillAndBlock,
  startWorker,
} from './support.js';
import { until } from '../until.js';

const EEXIST = 17;
const ENOENT = 2;
const ESRCH = 3;
const EINTR = 4;

let fds: number[] = [];
let epoll = -1;
let events: Int32Array;
let clock: Int32Array;

beforeEach(() => {
  ({ events, clock } = bindScratch());
  epoll = addon.epollCreate();
  fds = [epoll];
});

afterEach(() => {
  for (const fd of fds) addon.close(fd);
});

function eventfd(): number {
  const fd = addon.eventfdCreate();
  fds.push(fd);
  return fd;
}

describe('eventfd', () => {
  it('is clear, signalled, drained', () => {
    const fd = eventfd();
    expect(addon.eventfdDrain(fd)).toBe(-EAGAIN);
    expect(addon.eventfdSignal(fd)).toBe(0);
    expect(addon.eventfdSignal(fd)).toBe(0);
    expect(addon.eventfdDrain(fd)).toBe(0);
    expect(addon.eventfdDrain(fd)).toBe(-EAGAIN);
  });
});

describe('an eventfd that is full', () => {
  it('takes no more: EAGAIN', () => {
    const fd = eventfd();
    writeSync(fd, new Uint8Array(BigUint64Array.of(2n ** 64n - 2n).buffer));
    expect(addon.eventfdSignal(fd)).toBe(-EAGAIN);
    expect(addon.eventfdSignalForeign(fd)).toBe(-EAGAIN);
  });

  it('and was made blocking keeps a careful writer for a moment only: EINTR', () => {
    const fd = eventfd();
    fillAndBlock(fd);
    expect(addon.eventfdSignalForeign(fd)).toBe(-EINTR);
    expect(addon.eventfdDrain(fd)).toBe(0);
    expect(addon.eventfdSignalForeign(fd)).toBe(0);
  });

  it('and was made blocking keeps a thread until that is interrupted: EINTR', async () => {
    const fd = eventfd();
    fillAndBlock(fd);
    const code = 'parentPort.postMessage(addon.threadId()); parentPort.postMessage(addon.eventfdSignal(workerData));';
    const worker = startWorker(code, fd);
    const exited = exitOf(worker);
    const said: number[] = [];
    worker.on('message', (value: number) => said.push(value));
    await until(() => {
      if (said[0] !== undefined) addon.interruptThread(said[0]);
      return said[1];
    });
    expect(said[1]).toBe(-EINTR);
    await exited;
    expect(addon.interruptThread(said[0]!)).toBe(-ESRCH);
  });
});

describe('epoll', () => {
  it('gives token, generation and event bits, whatever their sign', () => {
    const fd = eventfd();
    addon.eventfdSignal(fd);
    expect(addon.epollAdd(epoll, fd, EPOLLIN | EPOLLOUT, 0xfffffffe, -7)).toBe(0);
    expect(addon.epollWait(epoll, 0)).toBe(1);
    expect([...events.subarray(0, 3)]).toEqual([-2, -7, EPOLLIN | EPOLLOUT]);
    expect(addon.epollDelete(epoll, fd)).toBe(0);
    expect(addon.epollAdd(epoll, fd, EPOLLIN, 123, 2 ** 31)).toBe(0);
    expect(addon.epollWait(epoll, 0)).toBe(1);
    expect([...events.subarray(0, 3)]).toEqual([123, -(2 ** 31), EPOLLIN]);
  });

  it.each([EPOLLET + EPOLLIN, EPOLLET | EPOLLIN])('reports an edge once (events %d)', (bits) => {
    const fd = eventfd();
    expect(addon.epollAdd(epoll, fd, bits, 1, 1)).toBe(0);
    expect(addon.epollWait(epoll, 0)).toBe(0);
    addon.eventfdSignal(fd);
    expect(addon.epollWait(epoll, 0)).toBe(1);
    expect(addon.epollWait(epoll, 0)).toBe(0);
    addon.eventfdSignal(fd);
    expect(addon.epollWait(epoll, 0)).toBe(1);
  });

  it('reports the end of a stream', () => {
    const [left, right] = addon.socketPair();
    fds.push(left);
    addon.epollAdd(epoll, left, EPOLLIN | EPOLLRDHUP | EPOLLET, 5, 6);
    addon.close(right);
    expect(addon.epollWait(epoll, 1000)).toBe(1);
    expect(events[0]).toBe(5);
    expect((events[2] ?? 0) & EPOLLRDHUP).toBe(EPOLLRDHUP);
  });

  it('fills no more than the scratch holds, and the rest next time', () => {
    ({ events } = bindScratch(2));
    for (let token = 0; token < 3; token++) {
      const fd = eventfd();
      addon.eventfdSignal(fd);
      addon.epollAdd(epoll, fd, EPOLLIN | EPOLLET, token, 0);
    }
    expect(addon.epollWait(epoll, 0)).toBe(2);
    const seen = [events[0], events[3]];
    expect(addon.epollWait(epoll, 0)).toBe(1);
    expect([...seen, events[0]].toSorted()).toEqual([0, 1, 2]);
  });

  it('adds once, deletes once', () => {
    const fd = eventfd();
    expect(addon.epollDelete(epoll, fd)).toBe(-ENOENT);
    expect(addon.epollAdd(epoll, fd, EPOLLIN, 0, 0)).toBe(0);
    expect(addon.epollAdd(epoll, fd, EPOLLIN, 0, 0)).toBe(-EEXIST);
    expect(addon.epollDelete(epoll, fd)).toBe(0);
    expect(addon.epollDelete(epoll, fd)).toBe(-ENOENT);
    addon.eventfdSignal(fd);
    expect(addon.epollWait(epoll, 0)).toBe(0);
    expect(addon.epollWait(fd, 0)).toBe(-EINVAL);
  });
});

describe('clock', () => {
  /** Both fields of one reading tell the same time, modulo 2^32. */
  function expectMonotonicTime(before: bigint, after: bigint): void {
    const [milliseconds = 0, microseconds = 0] = clock;
    const since = BigInt.asUintN(32, BigInt(microseconds) - before / 1000n);
    expect(since).toBeLessThanOrEqual((after - before) / 1000n + 1n);
    const exact = before / 1000n + since;
    expect(BigInt.asIntN(32, exact / 1000n)).toBe(BigInt(milliseconds));
  }

  it('is CLOCK_MONOTONIC, the clock of process.hrtime', () => {
    const before = process.hrtime.bigint();
    addon.readClock();
    expectMonotonicTime(before, process.hrtime.bigint());
  });

  it('is read after epollWait wakes', () => {
    const before = process.hrtime.bigint();
    expect(addon.epollWait(epoll, 20)).toBe(0);
    expectMonotonicTime(before, process.hrtime.bigint());
    expect(BigInt.asUintN(32, BigInt(clock[1] ?? 0) - before / 1000n)).toBeGreaterThanOrEqual(20_000n);
  });
});
