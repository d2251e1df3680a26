/** A control queue's server and the other workers: what it waits for before it answers. */
import { afterEach, describe, expect, it } from 'vitest';
import { NET_STATE_WORDS, NetState } from '../../device/netState.js';
import { QUEUE_ACTIVE_PAIRS, QUEUE_CURRENT } from '../../device/virtqueue.js';
import { C, COUNTER_NAMES } from '../../workers/counters.js';
import { ControlQueueServer } from '../../workers/controlQueueServer.js';
import { CycleBarrier } from '../../workers/cycleBarrier.js';
import { QueueView } from '../../workers/deviceView.js';
import { HEARTBEAT, WORKER_WORDS } from '../../workers/poolMemory.js';
import { MockDriver } from '../device/mockDriver.js';

const WORKERS = 3;
const ME = 1;
const wakeFds = [100, 101, 102];
const opened: MockDriver[] = [];

afterEach(() => {
  for (const mock of opened.splice(0)) mock[Symbol.dispose]();
});

function barrier() {
  const workerWords = new SharedArrayBuffer(4 * WORKER_WORDS * WORKERS);
  const words = new Int32Array(workerWords);
  const woken: number[] = [];
  const engine = { signal: (fd: number) => woken.push(fd) };
  return {
    barrier: new CycleBarrier(ME, { workers: WORKERS, workerWords }, engine, wakeFds),
    woken,
    beat: (worker: number, beats = 1) => (words[worker * WORKER_WORDS + HEARTBEAT]! += beats),
  };
}

function open() {
  const mock = new MockDriver();
  opened.push(mock);
  const { size, descTable, availRing, usedRing } = mock.driver.layout;
  const queue = new QueueView(0, 4, true, mock.guest, mock.iovecs, mock.state);
  const [desc, avail, used] = [descTable, availRing, usedRing].map((offset) => mock.address(offset));
  queue.virtqueue.place({
    size,
    descTable: desc!,
    availRing: avail!,
    usedRing: used!,
    eventIdx: false,
    indirect: false,
  });
  queue.enabled = queue.active = true;
  const counters = new Float64Array(COUNTER_NAMES.length);
  const others = barrier();
  let changes = 0;
  const server = new ControlQueueServer(
    queue,
    mock.guest,
    mock.iovecs,
    2,
    () => true,
    new NetState(new Int32Array(NET_STATE_WORDS)),
    others.barrier,
    counters,
    () => changes++,
  );
  return {
    ...others,
    mock,
    queue,
    server,
    counters,
    changes: () => changes,
    setPairs: (pairs: number) => {
      mock.memory.u8.set([4, 0, pairs, 0, 0xee], mock.data);
      mock.driver.beginChain(false);
      mock.driver.addBuffer(mock.data, 4, false);
      mock.driver.addBuffer(mock.data + 4, 1, true);
      mock.driver.endChain();
      mock.driver.publish();
    },
    ack: () => mock.memory.u8[mock.data + 4],
    used: () => {
      queue.virtqueue.publish();
      return mock.driver.takeUsed() >= 0 ? mock.driver.usedLength : -1;
    },
  };
}

describe('CycleBarrier', () => {
  it('passes once all others have begun a cycle since it was raised, whatever this worker does', () => {
    const { barrier: raised, beat, woken } = barrier();
    beat(0, 5);
    raised.raise();
    expect(woken).toEqual([100, 102]);
    beat(ME);
    expect(raised.passed).toBe(false);
    beat(2);
    expect(raised.passed).toBe(false);
    beat(0);
    expect(raised.passed).toBe(true);
    raised.raise();
    expect(raised.passed).toBe(false);
  });

  it('passes over the wrap-around of heartbeats', () => {
    const { barrier: raised, beat } = barrier();
    beat(0, 0x7fffffff);
    beat(2, -1);
    raised.raise();
    beat(0);
    beat(2);
    expect(raised.passed).toBe(true);
  });
});

describe('§5.1.6.5.6.2 VQ_PAIRS_SET', () => {
  it('is in force at once, and answered once all other workers obey', () => {
    const control = open();
    control.setPairs(2);
    control.server.serve();
    expect([control.queue.state[QUEUE_ACTIVE_PAIRS], control.changes(), control.woken]).toEqual([2, 1, [100, 102]]);
    expect([control.server.pending, control.queue.active, control.used(), control.ack()]).toEqual([
      true,
      true,
      -1,
      0xee,
    ]);
    control.beat(0);
    control.server.serve();
    expect([control.server.pending, control.used()]).toEqual([true, -1]);
    control.beat(2);
    control.server.serve();
    expect([control.server.pending, control.used(), control.ack()]).toEqual([false, 1, 0]);
    expect([control.queue.active, control.queue.state[QUEUE_CURRENT]]).toEqual([false, -1]);
  });

  it('the next command waits for the one before', () => {
    const control = open();
    control.setPairs(2);
    control.server.serve();
    control.setPairs(1);
    control.server.serve();
    expect(control.queue.state[QUEUE_ACTIVE_PAIRS]).toBe(2);
    control.beat(0);
    control.beat(2);
    control.server.serve();
    expect([control.used(), control.queue.state[QUEUE_ACTIVE_PAIRS], control.server.pending]).toEqual([1, 1, true]);
  });

  it('is answered at once where it changes nothing', () => {
    const control = open();
    control.queue.state[QUEUE_ACTIVE_PAIRS] = 2;
    control.setPairs(2);
    control.server.serve();
    expect([control.server.pending, control.used(), control.ack(), control.changes()]).toEqual([false, 1, 0, 0]);
  });

  it('is still answered while the queue stops, but none is begun', () => {
    const control = open();
    control.setPairs(2);
    control.server.serve();
    control.setPairs(1);
    control.queue.stopping = 7;
    control.beat(0);
    control.beat(2);
    control.server.serve();
    expect([control.server.pending, control.used(), control.used()]).toEqual([false, 1, -1]);
    expect(control.queue.state[QUEUE_ACTIVE_PAIRS]).toBe(2);
  });
});

describe('commands that break the rules', () => {
  it('are counted and given back empty', () => {
    const control = open();
    const { mock } = control;
    mock.driver.beginChain(false);
    mock.driver.addBuffer(mock.data, 4, true);
    mock.driver.addBuffer(mock.data + 4, 4, false);
    mock.driver.endChain();
    mock.driver.publish();
    control.server.serve();
    expect([control.used(), control.counters[C.malformedChains]]).toEqual([0, 1]);
  });

  it('a driver that never waits for an answer is served; one whose index jumps breaks the queue', () => {
    const control = open();
    for (let n = 0; n < 4; n++) control.setPairs(9);
    // The ring's entries over and over.
    control.mock.setAvailIdx(8);
    control.server.serve();
    control.mock.setAvailIdx(16);
    control.server.serve();
    control.mock.setAvailIdx(24);
    control.server.serve();
    expect(control.queue.virtqueue.broken).toBe(0);
    control.mock.setAvailIdx(33);
    control.server.serve();
    expect(control.queue.virtqueue.broken).not.toBe(0);
  });
});
