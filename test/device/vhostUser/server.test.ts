/** The socket: who may listen where, one front end after the other, and the client mode. */
import { existsSync, lstatSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { VhostUserSocketError } from '../../../device/vhostUser/errors.js';
import { addon } from '../../../src/native/addon.js';
import * as fe from './frontEnd.js';
import { bringUp, Harness } from './harness.js';
import { openDescriptors } from '../../native/support.js';
import { until } from '../../until.js';

/** The typed error that `start` throws. */
function startFailure(harness: Harness): VhostUserSocketError {
  try {
    harness.server.start();
  } catch (error) {
    if (error instanceof VhostUserSocketError) return error;
    throw error;
  }
  throw new Error('started');
}

test('a hundred front ends in a row find the device as the first did, and no descriptor is left', async () => {
  await using harness = Harness.started();
  const guest = new fe.Guest();
  const before = openDescriptors();
  for (let round = 0; round < 100; round++) {
    const frontEnd = harness.connect();
    await bringUp(frontEnd, guest);
    expect(harness.device.running.get(0)!.lastAvailIdx).toBe(0);
    await harness.leave(frontEnd);
    expect(harness.device.memory).toEqual([]);
  }
  expect(openDescriptors()).toBe(before);
  expect(harness.warnings).toEqual([]);
  guest.close();
});

test('a front end that comes before the last one has said goodbye is served next', async () => {
  await using harness = Harness.started();
  const first = harness.connect();
  await first.settled();
  const second = harness.connect();
  first.close();
  await second.settled();
  await harness.leave(second);
  expect(harness.warnings).toEqual([]);
});

test('a front end that comes while much is left to release waits as long as that takes', async () => {
  await using harness = Harness.started();
  const first = harness.connect();
  await first.settled();
  const reset = harness.device.reset.bind(harness.device);
  harness.device.reset = async () => {
    await delay(1500);
    await reset();
  };
  first.close();
  const second = harness.connect();
  await second.settled();
  await harness.leave(second);
  expect(harness.warnings).toEqual([]);
});

test('front ends that say nothing keep nobody waiting', async () => {
  await using harness = Harness.started();
  const before = openDescriptors();
  const silent: fe.FrontEnd[] = [];
  for (let n = 0; n < 200; n++) {
    silent.push(fe.FrontEnd.connect(harness.path));
    await new Promise((resolve) => setImmediate(resolve));
  }
  const next = harness.connect();
  await next.settled();
  await harness.leave(next);
  for (const frontEnd of silent) frontEnd.close();
  const last = harness.connect();
  await last.settled();
  await harness.leave(last);
  await until(() => openDescriptors() <= before);
  expect(harness.warnings).toEqual([]);
});

test('a front end that says half a word loses its place to one that waits', async () => {
  await using harness = Harness.started();
  const before = openDescriptors();
  const halting = harness.connect();
  halting.sendBytes(fe.message(fe.GET_FEATURES).subarray(0, 6), [halting.fd]);
  const next = harness.connect();
  await next.settled();
  expect(await halting.receive()).toBeUndefined();
  expect(harness.warnings).toEqual([expect.stringContaining("didn't finish its first message")]);
  halting.close();
  await harness.leave(next);
  expect(openDescriptors()).toBe(before);
});

test('a front end that comes behind many that spoke and left is served all the same', async () => {
  await using harness = Harness.started();
  for (let n = 0; n < 180; n++) {
    const gone = harness.connect();
    gone.send(fe.SET_OWNER);
    gone.close();
    // After a hundred of a kind there is a pause between any two; the others queue up.
    if (n < 102) await harness.idle();
  }
  const frontEnd = fe.FrontEnd.connect(harness.path);
  expect(await frontEnd.askU64(fe.GET_QUEUE_NUM)).toBe(5n);
  frontEnd.close();
});

test('a front end that comes behind others that all stop within a message is served when the first has lost its place', async () => {
  await using harness = Harness.started();
  const halting = Array.from({ length: 5 }, () => fe.FrontEnd.connect(harness.path));
  for (const frontEnd of halting) frontEnd.sendBytes(Uint8Array.of(1, 0));
  const next = fe.FrontEnd.connect(harness.path);
  expect(await next.askU64(fe.GET_QUEUE_NUM)).toBe(5n);
  for (const frontEnd of [...halting, next]) frontEnd.close();
});

test('a second front end is refused with one line while the first stays', async () => {
  await using harness = Harness.started();
  const first = harness.connect();
  await first.settled();
  const before = openDescriptors();
  for (let n = 0; n < 20; n++) {
    const other = fe.FrontEnd.connect(harness.path);
    other.send(fe.GET_FEATURES);
    if (n >= 18) await other.ended();
    else queueMicrotask(() => other.close());
  }
  await first.settled();
  expect(harness.warnings).toEqual([expect.stringContaining('refused another front end')]);
  expect(openDescriptors()).toBeLessThanOrEqual(before + 2);
  await harness.leave(first);
});

test('a front end that leaves over the number of queues, and comes back for ever, is logged once', async () => {
  await using harness = Harness.started();
  for (let round = 0; round < 5; round++) {
    const frontEnd = harness.connect();
    await frontEnd.ask(fe.GET_QUEUE_NUM);
    await harness.leave(frontEnd);
  }
  expect(harness.infos).toEqual([
    expect.stringContaining('connected'),
    expect.stringContaining('wants more queues than the 2 pairs'),
  ]);
  const good = harness.connect();
  const guest = new fe.Guest();
  await bringUp(good, guest);
  await harness.leave(good);
  expect(harness.infos.slice(2)).toEqual([expect.stringContaining('connected'), expect.stringContaining('left')]);
  guest.close();
});

test('a front end that stalls within a message holds up nothing: the server closes at once', async () => {
  const harness = Harness.started();
  const frontEnd = harness.connect();
  frontEnd.sendBytes(Uint8Array.of(1, 0, 0));
  await new Promise((resolve) => setImmediate(resolve));
  await harness[Symbol.asyncDispose]();
  await frontEnd.ended();
  expect(harness.device.calls).toEqual([]);
  expect(harness.warnings).toEqual([]);
  frontEnd.close();
});

test('a stale socket file is replaced', async () => {
  await using harness = new Harness();
  addon.close(addon.unixListen(harness.path));
  harness.server.start();
  const frontEnd = harness.connect();
  expect(await frontEnd.askU64(fe.GET_QUEUE_NUM)).toBe(5n);
  await harness.leave(frontEnd);
});

test('a socket that another process listens on is left alone', async () => {
  await using harness = new Harness();
  const fd = addon.unixListen(harness.path);
  const failure = startFailure(harness);
  expect(failure).toMatchObject({ code: 'EADDRINUSE', path: harness.path });
  expect(failure.message).toContain('already in use by another process');
  expect(lstatSync(harness.path).isSocket()).toBe(true);
  addon.close(fd);
});

test('a file that is no socket is left alone', async () => {
  await using harness = new Harness();
  writeFileSync(harness.path, 'precious');
  expect(startFailure(harness).message).toContain('is not a socket');
  expect(lstatSync(harness.path).size).toBe(8);
});

test('a path that is too long, a missing folder, a file in place of a folder: a typed error each, and no descriptor left', async () => {
  await using home = new Harness();
  writeFileSync(join(home.folder, 'file'), '');
  const before = openDescriptors();
  const cases: [path: string, code: string, words: string][] = [
    [join(home.folder, 'x'.repeat(120)), 'ENAMETOOLONG', 'at most 107 bytes'],
    [join(home.folder, 'missing', 'socket'), 'ENOENT', 'does not exist'],
    [join(home.folder, 'file', 'socket'), 'ENOTDIR', 'is not a folder'],
    ['', 'EINVAL', 'not a usable path'],
  ];
  for (const [path, code, words] of cases) {
    const failure = startFailure(new Harness({ path }));
    expect(failure.code).toBe(code);
    expect(failure.message).toContain(words);
    expect(failure.message).not.toContain('\n');
  }
  expect(openDescriptors()).toBe(before);
});

test('a folder that may not be written: a typed error', async () => {
  const forbidden = Object.assign(Object.create(addon) as typeof addon, {
    unixListen: () => {
      throw Object.assign(new Error('bind: Permission denied'), { code: 'EACCES' });
    },
  });
  await using harness = new Harness({ addon: forbidden });
  expect(startFailure(harness)).toMatchObject({ code: 'EACCES', message: expect.stringContaining('not permitted') });
});

test('the socket file is removed at close', async () => {
  const harness = Harness.started();
  expect(existsSync(harness.path)).toBe(true);
  await harness.server.close();
  expect(existsSync(harness.path)).toBe(false);
  await harness[Symbol.asyncDispose]();
});

test("a socket file that another server has put in its place isn't", async () => {
  await using harness = Harness.started();
  renameSync(harness.path, `${harness.path}.old`);
  const successor = addon.unixListen(harness.path);
  await harness.server.close();
  expect(existsSync(harness.path)).toBe(true);
  addon.close(successor);
});

test('out of descriptors at accept: the server waits, does not spin, and serves once there are some', async () => {
  let refusals = 3;
  let attempts = 0;
  const short = Object.assign(Object.create(addon) as typeof addon, {
    unixAccept: (fd: number) => {
      attempts++;
      return refusals-- > 0 ? -24 : addon.unixAccept(fd);
    },
  });
  await using harness = Harness.started({ addon: short });
  const frontEnd = harness.connect();
  await frontEnd.settled();
  expect(attempts).toBeLessThanOrEqual(6);
  expect(harness.warnings).toHaveLength(3);
  await harness.leave(frontEnd);
});

test('client mode: connects to a front end that listens, and again when it comes back', async () => {
  await using harness = Harness.started({ mode: 'client' });
  expect(harness.infos).toEqual([expect.stringContaining('waiting for a front end')]);
  const before = openDescriptors();
  for (let round = 0; round < 2; round++) {
    const listener = addon.unixListen(harness.path);
    const frontEnd = new fe.FrontEnd(await acceptOne(listener));
    await frontEnd.settled();
    addon.close(listener);
    unlinkSync(harness.path);
    frontEnd.close();
    await until(() => !harness.server.connected);
  }
  expect(openDescriptors()).toBe(before);
  expect(harness.warnings).toEqual([]);
});

test('client mode: a path that can never work is a typed error at start', async () => {
  await using harness = new Harness({ mode: 'client', path: `/tmp/${'x'.repeat(120)}` });
  expect(startFailure(harness).code).toBe('ENAMETOOLONG');
});

test('client mode: closes while it waits for a front end', async () => {
  const harness = Harness.started({ mode: 'client' });
  await harness[Symbol.asyncDispose]();
  expect(harness.server.connected).toBe(false);
});

function acceptOne(listener: number): Promise<number> {
  return until(() => {
    const fd = addon.unixAccept(listener);
    return fd >= 0 && fd;
  });
}
