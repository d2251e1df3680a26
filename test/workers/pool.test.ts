/** The pool without a guest. Workers load from dist/. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { UsageError } from '../../src/errors.js';
import { createLogger } from '../../src/log.js';
import { CONTROL_PING } from '../../workers/messages.js';
import { DEFAULT_ADDRESSES } from '../../workers/nat/addresses.js';
import { DEFAULT_TCP_TIMES, DEFAULT_UDP_TIMES } from '../../workers/nat/settings.js';
import { Pool } from '../../workers/pool.js';
import { CONTROL_CAPACITY } from '../../workers/poolMemory.js';

const MAC = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);
let pool: Pool;

beforeEach(() => {
  const log = createLogger('silent');
  pool = new Pool({
    workers: 2,
    pairs: 2,
    devices: 2,
    flows: 16,
    pinned: false,
    engine: 'epoll',
    nat: {
      addresses: DEFAULT_ADDRESSES,
      allowHostLoopback: false,
      times: DEFAULT_TCP_TIMES,
      udpTimes: DEFAULT_UDP_TIMES,
      resolver: new Int32Array(1),
    },
    log: { warn: (message) => log.warn(message) },
  });
});
afterEach(() => pool.close());

describe('Pool', () => {
  it('answers more requests at once than its rings hold, each once and in order', async () => {
    const answered: number[] = [];
    const ask = (n: number): Promise<unknown> => pool.request(1, CONTROL_PING, 0, 0).then(() => answered.push(n));
    await Promise.all(Array.from({ length: 2_000 }, (_, n) => ask(n)));
    expect(answered).toEqual(Array.from({ length: 2_000 }, (_, n) => n));
  });

  it('takes notifications among requests, and always has a place for one of those', async () => {
    // The workers don't run yet: nobody takes anything out.
    const taken = Array.from({ length: CONTROL_CAPACITY }, () => pool.kick(0, 0, 0));
    expect(taken.indexOf(false)).toBe(CONTROL_CAPACITY - 1);
    const answers = Array.from({ length: 100 }, () => pool.request(0, CONTROL_PING, 0, 0));
    expect((await Promise.all(answers)).every(({ status }) => status === 0)).toBe(true);
    expect(pool.kick(0, 0, 0)).toBe(true);
    await pool.close();
    expect(pool.kick(0, 0, 0)).toBe(true);
  });

  it('has places for so many devices, and gives them out again', async () => {
    const config = { mac: MAC, mtu: 1500, pairs: 2 };
    const [first, second] = [await pool.attach(config), await pool.attach(config)];
    expect([first.number, second.number]).toEqual([0, 1]);
    await expect(pool.attach(config)).rejects.toThrow(UsageError);
    await first.detach();
    expect((await pool.attach(config)).number).toBe(0);
  });

  it('refuses a device with more queue pairs than it was made for', async () => {
    await expect(pool.attach({ mac: MAC, mtu: 1500, pairs: 3 })).rejects.toThrow(UsageError);
  });

  it('answers for workers that are no more (ESRCH)', async () => {
    await pool.ready();
    await pool.close();
    expect(await pool.requestAll(CONTROL_PING, 0, 0)).toEqual([
      { status: 3, value: 0 },
      { status: 3, value: 0 },
    ]);
  });

  it('answers what was asked before it closed', async () => {
    const answers = Promise.all(Array.from({ length: 600 }, () => pool.request(0, CONTROL_PING, 0, 0)));
    await pool.close();
    expect((await answers).every(({ status }) => status === 0 || status === 3)).toBe(true);
  });
});
