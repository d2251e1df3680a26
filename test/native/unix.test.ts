import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { addon } from '../../src/native/addon.js';
import { bindScratch, EAGAIN, isOpen } from './support.js';

let folder = '';
let fds: number[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'slipway-native-'));
  fds = [];
});

afterEach(() => {
  for (const fd of fds) closeSync(fd);
  rmSync(folder, { recursive: true });
});

function keep(fd: number): number {
  fds.push(fd);
  return fd;
}

function pair(): [number, number] {
  const [left, right] = addon.socketPair();
  return [keep(left), keep(right)];
}

function closeOnExec(fd: number): boolean {
  const flags = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
  return (Number.parseInt(flags ?? '', 8) & 0o2000000) !== 0;
}

function nonBlocking(fd: number): boolean {
  const flags = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
  return (Number.parseInt(flags ?? '', 8) & 0o4000) !== 0;
}

describe('descriptors', () => {
  it('are close-on-exec, and non-blocking where promised', () => {
    bindScratch();
    const [left, right] = pair();
    const listener = keep(addon.unixListen(join(folder, 's')));
    for (const fd of [left, right, listener, keep(addon.eventfdCreate()), keep(addon.tcpSocket())]) {
      expect([closeOnExec(fd), nonBlocking(fd)]).toEqual([true, true]);
    }
    expect(closeOnExec(keep(addon.epollCreate()))).toBe(true);
    expect(closeOnExec(keep(addon.createMemory('m', 1)))).toBe(true);
  });

  it('fdInfo tells what they are', () => {
    const [left] = pair();
    expect(addon.fdInfo(left)).toMatchObject({ kind: 'socket', size: 0 });
    expect(addon.fdInfo(keep(addon.eventfdCreate()))).toMatchObject({ kind: 'eventfd', size: 0 });
    expect(addon.fdInfo(keep(addon.epollCreate())).kind).toBe('other');
    expect(addon.fdInfo(keep(openSync('/dev/null', 'r'))).kind).toBe('other');
    const memory = keep(addon.createMemory('m', 4097));
    expect(addon.fdInfo(memory)).toEqual({ kind: 'file', size: 4097 });
    expect(() => addon.fdInfo(2 ** 20)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => addon.fdInfo(-1)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('setNonBlocking leaves the other flags alone', () => {
    const fd = keep(openSync(join(folder, 'f'), 'a+'));
    const flagsOf = (): number =>
      Number.parseInt(/^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '', 8);
    const before = flagsOf();
    expect(nonBlocking(fd)).toBe(false);
    addon.setNonBlocking(fd);
    expect(flagsOf()).toBe(before | 0o4000);
  });
});

describe('UNIX sockets', () => {
  it('listen, connect, accept', () => {
    const path = join(folder, 'socket');
    const listener = keep(addon.unixListen(path));
    expect(addon.unixAccept(listener)).toBe(-EAGAIN);
    const client = keep(addon.unixConnect(path));
    const server = keep(addon.unixAccept(listener));
    expect([closeOnExec(server), nonBlocking(server)]).toEqual([true, true]);
    expect(addon.unixSend(client, Buffer.from('hello'), 0, [])).toBe(5);
    const buffer = new Uint8Array(10);
    expect(addon.unixReceive(server, buffer, 0, 10)).toEqual({ length: 5, fds: [], truncated: false });
    expect(Buffer.from(buffer.subarray(0, 5)).toString()).toBe('hello');
  });

  it('refuse paths that are taken, too long, empty, or nowhere', () => {
    const path = join(folder, 'socket');
    keep(addon.unixListen(path));
    expect(() => addon.unixListen(path)).toThrow(
      expect.objectContaining({
        code: 'EADDRINUSE',
        errno: 98,
        syscall: 'bind',
        message: 'bind: Address already in use',
      }),
    );
    const longest = `${folder}/`.padEnd(107, 'x');
    keep(addon.unixListen(longest));
    expect(existsSync(longest)).toBe(true);
    expect(() => addon.unixListen(`${longest}x`)).toThrow(expect.objectContaining({ code: 'ENAMETOOLONG' }));
    expect(() => addon.unixConnect(`${longest}x`)).toThrow(expect.objectContaining({ code: 'ENAMETOOLONG' }));
    expect(() => addon.unixListen('')).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => addon.unixListen('\0abstract')).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => addon.unixConnect(join(folder, 'none'))).toThrow(
      expect.objectContaining({ code: 'ENOENT', syscall: 'connect' }),
    );
  });

  it('leave no descriptor behind when they refuse', () => {
    const next = addon.eventfdCreate();
    addon.close(next);
    for (let i = 0; i < 5; i++) expect(() => addon.unixListen(join(folder, 'no', 'where'))).toThrow('bind');
    expect(keep(addon.eventfdCreate())).toBe(next);
  });
});

describe('unixSend and unixReceive', () => {
  it('pass descriptors (SCM_RIGHTS) that name the same files, close-on-exec', () => {
    const [left, right] = pair();
    const memory = keep(addon.createMemory('m', 777));
    const event = keep(addon.eventfdCreate());
    expect(addon.unixSend(left, Buffer.from('..hi'), 2, [memory, event])).toBe(2);
    const buffer = new Uint8Array(8);
    const message = addon.unixReceive(right, buffer, 3, 5);
    for (const fd of message?.fds ?? []) keep(fd);
    expect(message).toMatchObject({ length: 2, truncated: false });
    expect([...buffer]).toEqual([0, 0, 0, 'h'.charCodeAt(0), 'i'.charCodeAt(0), 0, 0, 0]);
    expect(message?.fds.map((fd) => addon.fdInfo(fd))).toEqual([addon.fdInfo(memory), addon.fdInfo(event)]);
    expect(message?.fds.every(closeOnExec)).toBe(true);
    addon.eventfdSignal(event);
    expect(addon.eventfdDrain(message?.fds[1] ?? -1)).toBe(0);
  });

  it('pass up to 64, and say so when there were more', () => {
    const [left, right] = pair();
    const memory = keep(addon.createMemory('m', 1));
    const many = (count: number): number[] => Array.from({ length: count }, () => memory);
    const buffer = new Uint8Array(1);
    for (const [sent, received, truncated] of [
      [64, 64, false],
      [65, 64, true],
      [253, 64, true],
    ] as const) {
      expect(addon.unixSend(left, buffer, 0, many(sent))).toBe(1);
      const message = addon.unixReceive(right, buffer, 0, 1);
      for (const fd of message?.fds ?? []) keep(fd);
      expect(message?.fds.length).toBe(received);
      expect(message?.truncated).toBe(truncated);
    }
    const next = keep(addon.eventfdCreate());
    expect(next).toBe(Math.max(...fds));
    expect(() => addon.unixSend(left, buffer, 0, many(254))).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('stop a read where descriptors begin, so that they stay with their message', () => {
    const [left, right] = pair();
    const memory = keep(addon.createMemory('m', 1));
    addon.unixSend(left, Buffer.from('first'), 0, []);
    addon.unixSend(left, Buffer.from('second'), 0, [memory]);
    const buffer = new Uint8Array(100);
    const first = addon.unixReceive(right, buffer, 0, 100);
    const second = first?.length === 5 ? addon.unixReceive(right, buffer, 5, 95) : first;
    for (const fd of second?.fds ?? []) keep(fd);
    expect(second?.fds.length).toBe(1);
    expect(Buffer.from(buffer.subarray(0, 11)).toString()).toBe('firstsecond');
  });

  it('tell an empty queue from the end of the stream', () => {
    const [left, right] = addon.socketPair();
    keep(right);
    const buffer = new Uint8Array(1);
    expect(addon.unixReceive(right, buffer, 0, 1)).toBeUndefined();
    addon.close(left);
    expect(addon.unixReceive(right, buffer, 0, 1)).toEqual({ length: 0, fds: [], truncated: false });
    expect(() => addon.unixSend(right, buffer, 0, [])).toThrow(expect.objectContaining({ code: 'EPIPE' }));
  });

  it('take part of what does not fit, then nothing', () => {
    const [left] = pair();
    const large = new Uint8Array(8 << 20);
    const taken = addon.unixSend(left, large, 0, []);
    expect(taken).toBeGreaterThan(0);
    expect(taken).toBeLessThan(large.length);
    while (addon.unixSend(left, large, 0, []) > 0);
    expect(addon.unixSend(left, large, 0, [])).toBe(0);
  });

  it('keep to the buffer', () => {
    const [left, right] = pair();
    const buffer = new Uint8Array(new ArrayBuffer(64), 16, 8);
    const refusal = expect.objectContaining({ code: 'EINVAL' });
    for (const [offset, length] of [
      [0, 9],
      [8, 1],
      [9, 0],
      [-1, 1],
      [0, 0],
      [0, 2 ** 40],
      [Number.NaN, 1],
    ] as const) {
      expect(() => addon.unixReceive(right, buffer, offset, length)).toThrow(refusal);
    }
    expect(() => addon.unixSend(left, buffer, 8, [])).toThrow(refusal);
    expect(() => addon.unixSend(left, buffer, 9, [])).toThrow(refusal);
    expect(() => addon.unixSend(left, buffer, 0, [-1])).toThrow(refusal);
    expect(() => addon.unixSend(left, buffer, 0, [2 ** 20])).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(isOpen(left)).toBe(true);
  });
});
