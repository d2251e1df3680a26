/** UDP sockets of the addon, on the kernel's loopback. */
import { type Socket, createSocket } from 'node:dgram';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { addon } from '../../src/native/addon.js';
import { until } from '../until.js';
import { EAGAIN, EBADF, EFAULT, EINVAL, LOOPBACK, bindScratch, startWorker } from './support.js';

const FIRST = 0;
const DATA = 64;
const TRIPLES = 256;
const PORT_UNREACHABLE = (3 << 8) | 3;
const { iovecs } = bindScratch(TRIPLES);
const { region, buffer } = addon.createRegion(1 << 16);
const bytes = new Uint8Array(buffer);

let server: Socket;
let port: number;
const received: { text: string; port: number }[] = [];
const fds: number[] = [];

beforeEach(async () => {
  server = createSocket('udp4');
  server.on('message', (data, from) => received.push({ text: data.toString('latin1'), port: from.port }));
  server.bind(0, '127.0.0.1');
  await once(server, 'listening');
  ({ port } = server.address());
});
afterEach(() => {
  server.close();
  received.length = 0;
  for (const fd of fds.splice(0)) addon.close(fd);
});

const connected = (to = port, sibling = -1): number => {
  const fd = addon.udpSocket(LOOPBACK, to, sibling);
  expect(fd).toBeGreaterThan(0);
  fds.push(fd);
  return fd;
};

/** Puts texts into the region, each in pieces of `piece` bytes, as messages of a batch. */
function compose(texts: readonly string[], piece: number): void {
  let [at, triple] = [0, DATA];
  texts.forEach((text, n) => {
    iovecs[3 * (FIRST + n)] = Math.ceil(text.length / piece);
    for (let from = 0; from < text.length; from += piece) {
      const part = text.slice(from, from + piece);
      bytes.set(Buffer.from(part, 'latin1'), at);
      iovecs.set([region, at, part.length], 3 * triple++);
      at += part.length;
    }
  });
}
const texts = (): string[] => received.map(({ text }) => text);

describe('sendmmsg', () => {
  it('sends datagrams of any length, each gathered from its iovecs', async () => {
    const fd = connected();
    const sent = ['hello', '', 'x', 'abcdefghijklmnop'];
    compose(sent, 3);
    expect(addon.sendmmsg(fd, FIRST, sent.length, DATA)).toBe(sent.length);
    await until(() => received.length === sent.length);
    expect(texts()).toEqual(sent);
  });

  it('refuses messages and iovecs that lie outside, and sends nothing', () => {
    const fd = connected();
    compose(['abc'], 3);
    expect(addon.sendmmsg(fd, FIRST, 65, DATA)).toBe(-EINVAL);
    expect(addon.sendmmsg(fd, TRIPLES, 1, DATA)).toBe(-EINVAL);
    expect(addon.sendmmsg(fd, FIRST, 1, TRIPLES)).toBe(-EINVAL);
    iovecs[3 * FIRST] = 0xffffffff;
    expect(addon.sendmmsg(fd, FIRST, 1, DATA)).toBe(-EINVAL);
    iovecs[3 * FIRST] = 1;
    iovecs[3 * DATA + 1] = 1 << 16;
    expect(addon.sendmmsg(fd, FIRST, 1, DATA)).toBe(-EFAULT);
    iovecs[3 * DATA] = 999;
    expect(addon.sendmmsg(fd, FIRST, 1, DATA)).toBe(-EFAULT);
    expect(addon.sendmmsg(-1, FIRST, 0, DATA)).toBe(-EBADF);
  });
});

describe('sendSegments', () => {
  it('cuts one message into datagrams of one size, the last shorter', async () => {
    const fd = connected();
    compose(['aaaabbbbccccdd'], 5);
    expect(addon.sendSegments(fd, DATA, 3, 4)).toBe(14);
    await until(() => received.length === 4);
    expect(texts()).toEqual(['aaaa', 'bbbb', 'cccc', 'dd']);
  });

  it('says why it does not', () => {
    const fd = connected();
    compose(['abc'], 3);
    expect(addon.sendSegments(fd, DATA, 1, 65_536)).toBe(-EINVAL);
    expect(addon.sendSegments(fd, TRIPLES, 1, 1)).toBe(-EINVAL);
    expect(addon.sendSegments(-1, DATA, 1, 1)).toBe(-EBADF);
  });
});

describe('recvmmsg', () => {
  const room = (messages: number, length: number): void => {
    for (let n = 0; n < messages; n++) {
      iovecs[3 * (FIRST + n)] = 1;
      iovecs.set([region, 1024 * n, length], 3 * (DATA + n));
    }
  };
  const got = (n: number, length: number): string => Buffer.from(buffer, 1024 * n, length).toString('latin1');

  it('receives what there is, tells lengths, and the true one of a datagram that was cut', async () => {
    const fd = connected();
    compose(['who?'], 4);
    addon.sendmmsg(fd, FIRST, 1, DATA);
    const { port: back } = await until(() => received[0]);
    for (const text of ['one', '', 'a long one']) {
      await new Promise((resolve) => server.send(text, back, '127.0.0.1', resolve));
    }
    room(8, 5);
    expect(await until(() => addon.recvmmsg(fd, FIRST, 8, DATA) + EAGAIN || undefined)).toBe(3 + EAGAIN);
    expect([0, 1, 2].map((n) => iovecs[3 * (FIRST + n) + 2])).toEqual([3, 0, 10]);
    expect([got(0, 3), got(2, 5)]).toEqual(['one', 'a lon']);
    expect(addon.recvmmsg(fd, FIRST, 8, DATA)).toBe(-EAGAIN);
  });
});

describe('udpSocket', () => {
  it('shares the port of a sibling towards another peer, and has its own without', async () => {
    const other = createSocket('udp4');
    other.bind(0, '127.0.0.1');
    await once(other, 'listening');
    const ports: number[] = [];
    other.on('message', (_, from) => ports.push(from.port));
    const first = connected();
    for (const fd of [first, connected(other.address().port, first), connected(other.address().port)]) {
      compose(['x'], 1);
      expect(addon.sendmmsg(fd, FIRST, 1, DATA)).toBe(1);
    }
    await until(() => received.length === 1 && ports.length === 2);
    expect(ports[0]).toBe(received[0]!.port);
    expect(ports[1]).not.toBe(ports[0]);
    other.close();
  });

  it('drops what strangers sent to its port before it had a peer, but for what was on its way just then', async () => {
    const first = connected();
    compose([''], 1);
    addon.sendmmsg(first, FIRST, 1, DATA);
    const { port: shared } = await until(() => received[0]);
    const stranger = startWorker(
      `addon.bindScratch(new Uint32Array(3 * 64), new Int32Array(3), new Int32Array(2));
      const fd = addon.udpSocket(${LOOPBACK}, workerData, -1);
      parentPort.postMessage('sends');
      for (;;) addon.sendmmsg(fd, 0, 32, 32);`,
      shared,
    );
    await once(stranger, 'message');
    let strange = 0;
    for (let n = 0; n < 20_000; n++) {
      const fd = addon.udpSocket(LOOPBACK, port, first);
      iovecs.set([region, 0, 1], 3 * DATA);
      if (addon.recvmsg(fd, DATA, 1, 0) >= 0) strange++;
      addon.close(fd);
    }
    await stranger.terminate();
    expect(strange).toBeLessThan(200);
  });

  it('refuses what is no port and no sibling', () => {
    expect(addon.udpSocket(LOOPBACK, 65_536, -1)).toBe(-EINVAL);
    expect(addon.udpSocket(LOOPBACK, port, 1 << 20)).toBe(-EBADF);
  });
});

describe('takeError', () => {
  it('gives ICMP errors once, with type and code', async () => {
    const fd = connected();
    expect(addon.takeError(fd)).toBe(-EAGAIN);
    server.close();
    compose(['x'], 1);
    expect(addon.sendmmsg(fd, FIRST, 1, DATA)).toBe(1);
    expect(await until(() => (addon.takeError(fd) + EAGAIN || undefined) as number)).toBe(PORT_UNREACHABLE + EAGAIN);
    expect(addon.takeError(fd)).toBe(-EAGAIN);
    server = createSocket('udp4').bind(0, '127.0.0.1');
  });
});
