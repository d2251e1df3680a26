/** What both engines promise: see workers/engine/engine.ts. */
import { type Server, type Socket, createServer } from 'node:net';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { addon } from '../../../src/native/addon.js';
import { EAGAIN, EINPROGRESS, EPOLLERR, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from '../../../workers/engine/engine.js';
import { ECONNREFUSED, LOOPBACK, isOpen } from '../../native/support.js';
import { ENGINES, EngineUnderTest, type Event } from './engines.js';
import { until } from '../../until.js';

const [TOKEN, GENERATION] = [7, 0x3fffffff];

describe.each(ENGINES)('%s engine', (name) => {
  let t: EngineUnderTest;
  let server: Server;
  let port: number;
  let accepted: Promise<Socket>;
  const descriptors: number[] = [];

  beforeEach(async () => {
    t = new EngineUnderTest(name);
    server = createServer({ pauseOnConnect: true, allowHalfOpen: true });
    accepted = once(server, 'connection').then(([socket]) => socket as Socket);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    port = typeof address === 'object' && address !== null ? address.port : 0;
  });
  afterEach(() => {
    t.end();
    server.close();
    for (const fd of descriptors.splice(0)) addon.close(fd);
  });

  const eventfd = (): number => {
    const fd = addon.eventfdCreate();
    descriptors.push(fd);
    return fd;
  };
  /** A watched socket that connects. */
  const connecting = (toPort = port): number => {
    const fd = t.engine.tcpSocket();
    expect([0, -EINPROGRESS]).toContain(t.engine.connect(fd, LOOPBACK, toPort));
    expect(t.engine.watchSocket(fd, TOKEN, GENERATION)).toBe(0);
    return fd;
  };
  /** Events until one has all the bits. */
  const eventWith = (bits: number): Promise<Event> =>
    until(() => t.wait(0).find((event) => (event.bits & bits) === bits));
  const connected = async (): Promise<{ fd: number; peer: Socket }> => {
    const fd = connecting();
    await eventWith(EPOLLOUT);
    return { fd, peer: await accepted };
  };
  const endOf = async (peer: Socket): Promise<string> => {
    let text = '';
    peer.on('data', (data) => (text += data.toString()));
    peer.resume();
    // The engine does what waits for a cycle.
    const turns = setInterval(() => t.wait(0), 1);
    try {
      await once(peer, 'end');
    } finally {
      clearInterval(turns);
    }
    return text;
  };

  it('reports each signal of an eventfd once, though nobody reads it', () => {
    const fd = eventfd();
    t.engine.watchEventfd(fd, -5, 3);
    expect(t.wait(0)).toEqual([]);
    for (let n = 0; n < 3; n++) {
      t.engine.signal(fd);
      expect(t.wait(1_000)).toEqual([{ token: -5, generation: 3, bits: EPOLLIN }]);
      expect(t.wait(0)).toEqual([]);
    }
  });

  it('reports an eventfd that was signalled before it was watched', () => {
    const fd = eventfd();
    addon.eventfdSignal(fd);
    t.engine.watchEventfd(fd, -5, 3);
    expect(t.wait(1_000)).toEqual([{ token: -5, generation: 3, bits: EPOLLIN }]);
  });

  it('reports nothing of what is no longer watched, and what is watched anew by its new name', () => {
    const fd = eventfd();
    t.engine.watchEventfd(fd, -5, 1);
    expect(t.wait(0)).toEqual([]);
    t.engine.unwatch(fd);
    t.engine.signal(fd);
    expect(t.wait(0)).toEqual([]);
    t.engine.watchEventfd(fd, -6, 2);
    expect(t.wait(1_000)).toEqual([{ token: -6, generation: 2, bits: EPOLLIN }]);
    t.engine.signal(fd);
    expect(t.wait(1_000)).toEqual([{ token: -6, generation: 2, bits: EPOLLIN }]);
    t.engine.unwatch(fd);
    t.engine.unwatch(fd);
    t.engine.unwatch(eventfd());
    expect(t.wait(0)).toEqual([]);
  });

  it('tells the time, in ms and µs of the monotonic clock modulo 2^32', () => {
    const before = process.hrtime.bigint() / 1_000n;
    expect(t.wait(1)).toEqual([]);
    const after = process.hrtime.bigint() / 1_000n;
    const [milliseconds = 0, microseconds = 0] = t.engine.clock;
    const since = (microseconds - Number(BigInt.asIntN(32, before))) | 0;
    expect(since).toBeGreaterThanOrEqual(0);
    expect(since).toBeLessThanOrEqual(Number(after - before));
    expect(milliseconds).toBe(Number(BigInt.asIntN(32, (before + BigInt(since)) / 1_000n)));
  });

  it('gives up on what is no descriptor, and takes its number for one later', () => {
    const fd = addon.eventfdCreate();
    addon.close(fd);
    t.engine.watchEventfd(fd, -5, 3);
    expect([t.wait(0), t.wait(0)]).toEqual([[], []]);
    const other = eventfd();
    t.engine.watchEventfd(other, -6, 4);
    t.engine.signal(other);
    expect(t.wait(1_000)).toEqual([{ token: -6, generation: 4, bits: EPOLLIN }]);
    expect(t.wait(0)).toEqual([]);
  });

  it('waits for what is watched, not for what was', async () => {
    const { fd } = await connected();
    const other = eventfd();
    t.engine.watchEventfd(other, -2, 0);
    expect(t.wait(0)).toEqual([]);
    t.engine.close(fd);
    t.engine.signal(other);
    expect(t.wait(-1)).toEqual([{ token: -2, generation: 0, bits: EPOLLIN }]);
  });

  it('reports more events than one wait holds over several', () => {
    t.end();
    t = new EngineUnderTest(name, 16);
    const fds = Array.from({ length: 600 }, eventfd);
    fds.forEach((fd, n) => t.engine.watchEventfd(fd, -2 - n, n));
    expect(t.wait(0)).toEqual([]);
    for (const fd of fds) addon.eventfdSignal(fd);
    const seen = new Map<number, number>();
    for (let events = t.wait(0); events.length > 0; events = t.wait(0)) {
      for (const { generation } of events) seen.set(generation, (seen.get(generation) ?? 0) + 1);
    }
    expect([...seen.keys()].toSorted((a, b) => a - b)).toEqual(fds.map((_, n) => n));
    expect(new Set(seen.values())).toEqual(new Set([1]));
  });

  it('connects, and says so once', async () => {
    connecting();
    const event = await eventWith(EPOLLOUT);
    expect(event).toMatchObject({ token: TOKEN, generation: GENERATION });
    expect(event.bits & (EPOLLIN | EPOLLERR)).toBe(0);
    await accepted;
    expect(t.wait(0)).toEqual([]);
  });

  it('reports a connect that was refused', async () => {
    await new Promise((resolve) => server.close(resolve));
    const fd = connecting();
    const event = await eventWith(EPOLLERR);
    expect(event).toMatchObject({ token: TOKEN, generation: GENERATION });
    expect(t.engine.socketError(fd)).toBe(ECONNREFUSED);
    t.engine.abort(fd);
  });

  it('reports bytes as they come, each time, without anybody reading them', async () => {
    const { fd, peer } = await connected();
    for (const text of ['one', 'two', 'three']) {
      peer.write(text);
      const event = await eventWith(EPOLLIN);
      expect(event.bits & (EPOLLRDHUP | EPOLLERR)).toBe(0);
      await until(() => String(t.peek(fd, 100)).endsWith(text));
      t.wait(0);
    }
    expect(t.peek(fd, 100)).toBe('onetwothree');
  });

  it('reports that the peer has finished', async () => {
    const { fd, peer } = await connected();
    peer.end('last words');
    await eventWith(EPOLLRDHUP);
    expect(t.peek(fd, 100)).toBe('last words');
    t.engine.discard(fd, 10);
    expect(t.peek(fd, 100)).toBe('');
  });

  it('reports a reset', async () => {
    const { fd, peer } = await connected();
    peer.resetAndDestroy();
    await eventWith(EPOLLERR);
    expect(t.engine.socketError(fd)).toBeGreaterThan(0);
  });

  it('reports that a full socket takes more again', async () => {
    const { fd, peer } = await connected();
    const chunk = 'x'.repeat(65_536);
    await until(() => t.send(fd, chunk) === -EAGAIN);
    t.wait(0);
    peer.resume();
    await eventWith(EPOLLOUT);
    expect(t.send(fd, chunk)).toBeGreaterThan(0);
  });

  it('discards in order with peeks', async () => {
    const { fd, peer } = await connected();
    peer.write('abcdefgh');
    await until(() => t.peek(fd, 100) === 'abcdefgh');
    t.engine.discard(fd, 3);
    expect(t.peek(fd, 2)).toBe('de');
    t.engine.setPeekOffset(fd, 1);
    expect(t.peek(fd, 2)).toBe('ef');
    t.engine.discard(fd, 2);
    expect(t.peek(fd, 9)).toBe('gh');
    t.wait(0);
    t.engine.setPeekOffset(fd, 0);
    expect(t.peek(fd, 9)).toBe('fgh');
  });

  it('closes in order: the peer reads all and then the end, though nobody waits again', async () => {
    const { fd, peer } = await connected();
    expect(t.send(fd, 'farewell')).toBe(8);
    t.engine.finish(fd);
    t.engine.close(fd);
    expect(await endOf(peer)).toBe('farewell');
  });

  it('closes with a reset', async () => {
    const { fd, peer } = await connected();
    t.engine.abort(fd);
    t.wait(0);
    const [error] = (await once(peer.resume(), 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toBe('ECONNRESET');
  });

  it('gives a connect up', async () => {
    const fd = connecting();
    t.engine.abort(fd);
    t.wait(0);
    expect(isOpen(fd)).toBe(false);
    expect(t.wait(0)).toEqual([]);
    await accepted;
  });

  it('never takes one descriptor for an earlier one of its number', async () => {
    const { fd, peer } = await connected();
    peer.write('late');
    await until(() => t.peek(fd, 4) === 'late');
    t.engine.close(fd);
    const next = eventfd();
    t.engine.watchEventfd(next, -9, 9);
    t.engine.signal(next);
    const events = [...t.wait(1_000), ...t.wait(0)].filter(({ token }) => token !== TOKEN);
    expect(events).toEqual([{ token: -9, generation: 9, bits: EPOLLIN }]);
  });

  it('leaves what it watched to a successor', async () => {
    const { fd, peer } = await connected();
    t.end();
    t = new EngineUnderTest(name);
    t.engine.unwatch(fd);
    t.engine.watchSocket(fd, TOKEN + 1, 5);
    await eventWith(EPOLLOUT);
    peer.write('still here');
    expect(await eventWith(EPOLLIN)).toMatchObject({ token: TOKEN + 1, generation: 5 });
    expect(t.peek(fd, 100)).toBe('still here');
    t.engine.discard(fd, 10);
    t.engine.close(fd);
    expect(await endOf(peer)).toBe('');
  });
});
