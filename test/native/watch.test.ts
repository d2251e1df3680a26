import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { addon, type FdWatcher } from '../../src/native/addon.js';
import { exitOf, runChild, startWorker } from './support.js';

let left = -1;
let right = -1;
let watchers: FdWatcher[] = [];

beforeEach(() => {
  [left, right] = addon.socketPair();
  watchers = [];
});

afterEach(() => {
  for (const watcher of watchers) watcher.close();
  addon.close(left);
  addon.close(right);
});

function watch(fd: number, events: { readable?: boolean; writable?: boolean }, callback: () => void): FdWatcher {
  const watcher = addon.watch(fd, events, callback);
  watchers.push(watcher);
  return watcher;
}

/** One turn of the event loop, and then some: what was ready has been reported. */
async function turns(count = 5): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

const byte = new Uint8Array(1);
const callback = (): void => {};

describe('watch', () => {
  it('calls back as long as there is something to read', async () => {
    let calls = 0;
    await new Promise<void>((resolve) => {
      watch(left, { readable: true }, () => {
        calls += 1;
        if (calls === 3) {
          addon.unixReceive(left, byte, 0, 1);
          resolve();
        }
      });
      addon.unixSend(right, byte, 0, []);
    });
    await turns();
    expect(calls).toBe(3);
    await new Promise<void>((resolve) => {
      watchers.pop()?.close();
      watch(left, { readable: true }, resolve);
      addon.unixSend(right, byte, 0, []);
    });
  });

  it('tells writable from readable', async () => {
    let readable = 0;
    const writable = new Promise<void>((resolve) => {
      const watcher = watch(right, { writable: true }, () => {
        watcher.close();
        resolve();
      });
    });
    watch(left, { readable: true }, () => (readable += 1));
    await writable;
    await turns();
    expect(readable).toBe(0);
  });

  it('is silent once closed, twice if need be, inside the callback or out of it', async () => {
    let calls = 0;
    const inside = watch(left, { readable: true }, () => {
      calls += 1;
      inside.close();
      inside.close();
    });
    const outside = watch(right, { readable: true }, () => (calls += 100));
    addon.unixSend(right, byte, 0, []);
    addon.unixSend(left, byte, 0, []);
    outside.close();
    outside.close();
    await turns();
    expect(calls).toBe(1);
    inside.close();
  });

  it('can watch a descriptor again after close', async () => {
    for (let i = 0; i < 200; i++) {
      watch(left, { readable: true }, () => {}).close();
      await turns(1);
    }
    const called = new Promise<string>((resolve) => {
      watch(left, { readable: true }, () => resolve('called'));
      addon.unixSend(right, byte, 0, []);
    });
    expect(await called).toBe('called');
  });

  it('goes on after the peer broke the connection, until someone looks', async () => {
    // Unread bytes at close make ECONNRESET, and with it EPOLLERR, at the other end.
    addon.unixSend(left, byte, 0, []);
    addon.close(right);
    right = addon.eventfdCreate();
    let calls = 0;
    const code = await new Promise((resolve) => {
      watch(left, { readable: true }, () => {
        calls += 1;
        if (calls < 3) return;
        try {
          resolve(addon.unixReceive(left, byte, 0, 1));
        } catch (error) {
          resolve((error as NodeJS.ErrnoException).code);
        }
      });
    });
    expect(code).toBe('ECONNRESET');
  });

  it('refuses what cannot be watched', () => {
    const file = addon.createMemory('m', 1);
    expect(() => addon.watch(file, { readable: true }, callback)).toThrow(expect.objectContaining({ code: 'EPERM' }));
    addon.close(file);
    expect(() => addon.watch(2 ** 20, { readable: true }, callback)).toThrow(
      expect.objectContaining({ code: 'EBADF' }),
    );
    expect(() => addon.watch(left, {}, callback)).toThrow(
      expect.objectContaining({ code: 'EINVAL', syscall: 'watch' }),
    );
    watch(left, { readable: true }, callback);
    expect(() => addon.watch(left, { writable: true }, callback)).toThrow(expect.objectContaining({ code: 'EEXIST' }));
  });
});

describe('a process with a watcher', () => {
  const setUp = `
    const [left, right] = addon.socketPair();
    const send = () => addon.unixSend(right, new Uint8Array(1), 0, []);
  `;

  it('stays alive until the watcher is closed', async () => {
    const ended = await runChild(`${setUp}
      const watcher = addon.watch(left, { readable: true }, () => { console.log('called'); watcher.close(); });
      setTimeout(send, 50).unref();
    `);
    // The timer alone would not have kept the process: the watcher did, and then let go.
    expect(ended).toEqual({ code: 0, signal: null, output: 'called\n' });
  });

  it('runs process.nextTick and promises between one callback and the next', async () => {
    const ended = await runChild(`${setUp}
      const order = [];
      // Both ends are ready in the same turn of the loop.
      for (const fd of [left, right]) {
        const watcher = addon.watch(fd, { writable: true }, () => {
          watcher.close();
          order.push('callback');
          process.nextTick(() => order.push('tick'));
          Promise.resolve().then(() => order.push('promise'));
        });
      }
      process.on('exit', () => console.log(order.join(' ')));
    `);
    const once = 'callback tick promise';
    expect(ended).toEqual({ code: 0, signal: null, output: `${once} ${once}\n` });
  });

  it('gets an exception in the callback as an uncaught one', async () => {
    const ended = await runChild(`${setUp}
      let calls = 0;
      process.on('uncaughtException', (error) => console.log(error.message));
      const watcher = addon.watch(left, { readable: true }, () => {
        if (++calls === 2) watcher.close();
        throw new Error('call ' + calls);
      });
      send();
    `);
    expect(ended).toEqual({ code: 0, signal: null, output: 'call 1\ncall 2\n' });
  });

  it('keeps a watcher that nothing refers to', async () => {
    const ended = await runChild(`${setUp}
      require('node:v8').setFlagsFromString('--expose-gc');
      const gc = require('node:vm').runInNewContext('gc');
      addon.watch(left, { readable: true }, () => { console.log('called'); process.exit(0); });
      gc();
      setTimeout(() => { gc(); send(); }, 20);
    `);
    expect(ended).toEqual({ code: 0, signal: null, output: 'called\n' });
  });
});

describe('a worker with watchers', () => {
  const code = `
    addon.watch(workerData, { readable: true }, () => process.exit(7));
    addon.watch(addon.eventfdCreate(), { readable: true, writable: true }, () => {});
    addon.watch(addon.eventfdCreate(), { readable: true }, () => {}).close();
    parentPort.postMessage('watching');
  `;

  it('can exit from a callback', async () => {
    const worker = startWorker(code, left);
    const exited = exitOf(worker);
    await new Promise((resolve) => worker.once('message', resolve));
    addon.unixSend(right, byte, 0, []);
    expect(await exited).toBe(7);
  });

  it('can be terminated', async () => {
    const worker = startWorker(code, left);
    await new Promise((resolve) => worker.once('message', resolve));
    expect(await worker.terminate()).toBe(1);
  });
});
