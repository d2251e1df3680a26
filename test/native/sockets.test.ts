import { createServer, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { addon } from '../../src/native/addon.js';
import {
  bindScratch,
  EAGAIN,
  EBADF,
  ECONNREFUSED,
  EINPROGRESS,
  EINVAL,
  isOpen,
  LOOPBACK,
  MSG_PEEK,
  tcpPair,
  whenReady,
  type TcpPair,
} from './support.js';
import { until } from '../until.js';

const { iovecs } = bindScratch();
const { region, buffer } = addon.createRegion(1 << 20);
const bytes = new Uint8Array(buffer);
const text = (offset: number, length: number): string => Buffer.from(buffer, offset, length).toString('latin1');

const ENOTSOCK = 88;
const ENETUNREACH = 101;
const EPIPE = 32;

/** Node's own descriptor of a socket; it has no public name. */
function descriptorOf(socket: Socket): number {
  return (socket as unknown as { _handle: { fd: number } })._handle.fd;
}

const pairs: TcpPair[] = [];
async function connected(): Promise<TcpPair> {
  const pair = await tcpPair();
  pairs.push(pair);
  return pair;
}

afterEach(() => {
  for (const pair of pairs.splice(0)) {
    addon.close(pair.fd);
    pair.close();
  }
});

describe('tcpSocket and connect4', () => {
  it('connect without blocking, to the address and port given', async () => {
    const { fd, peer } = await connected();
    expect(peer.remoteAddress).toBe('127.0.0.1');
    expect(addon.socketError(fd)).toBe(0);
    expect(addon.fdInfo(fd).kind).toBe('socket');
  });

  it('takes addresses as signed integers too', () => {
    const fd = addon.tcpSocket();
    // 224.0.0.1 is multicast, where TCP reaches nobody: an answer that no misread address would give.
    expect(addon.connect4(fd, 0xe0000001, 80)).toBe(-ENETUNREACH);
    expect(addon.connect4(fd, 0xe0000001 | 0, 80)).toBe(-ENETUNREACH);
    expect(addon.connect4(fd, LOOPBACK, 65536)).toBe(-EINVAL);
    expect(addon.connect4(fd, LOOPBACK, -1)).toBe(-EINVAL);
    addon.close(fd);
  });

  it('unpace takes a TCP socket, and nothing else', () => {
    const fd = addon.tcpSocket();
    expect(addon.unpace(fd)).toBe(0);
    addon.close(fd);
    const eventfd = addon.eventfdCreate();
    expect(addon.unpace(eventfd)).toBe(-ENOTSOCK);
    addon.close(eventfd);
  });

  it('report a refused connection through socketError, once', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('no TCP address');
    await new Promise((resolve) => server.close(resolve));
    const fd = addon.tcpSocket();
    expect(addon.connect4(fd, LOOPBACK, address.port)).toBe(-EINPROGRESS);
    expect(await until(() => addon.socketError(fd) || undefined)).toBe(ECONNREFUSED);
    expect(addon.socketError(fd)).toBe(0);
    addon.close(fd);
  });
});

describe('sendmsg and recvmsg', () => {
  it('gather from and scatter to several places', async () => {
    const { fd, peer } = await connected();
    Buffer.from('hello, world').copy(bytes, 1000);
    iovecs.set([region, 1007, 5, region, 1005, 2, region, 1000, 5], 3);
    const arrived = new Promise<Buffer>((resolve) => peer.once('data', resolve));
    peer.resume();
    expect(addon.sendmsg(fd, 1, 3, 0)).toBe(12);
    expect((await arrived).toString()).toBe('world, hello');

    peer.write('abcdef');
    iovecs.set([region, 10, 2, region, 20, 3, region, 30, 100]);
    expect(await whenReady(() => addon.recvmsg(fd, 0, 3, 0))).toBe(6);
    expect([text(10, 2), text(20, 3), text(30, 1)]).toEqual(['ab', 'cde', 'f']);
  });

  it('say that nothing is there, then that the peer is done', async () => {
    const { fd, peer } = await connected();
    iovecs.set([region, 0, 10]);
    expect(addon.recvmsg(fd, 0, 1, 0)).toBe(-EAGAIN);
    peer.end();
    expect(await whenReady(() => addon.recvmsg(fd, 0, 1, 0))).toBe(0);
  });

  it('give -EPIPE, and no signal, after shutdown', async () => {
    const { fd, peer } = await connected();
    const ended = new Promise((resolve) => peer.once('end', resolve));
    peer.resume();
    expect(addon.shutdown(fd, 1)).toBe(0);
    iovecs.set([region, 0, 10]);
    expect(addon.sendmsg(fd, 0, 1, 0)).toBe(-EPIPE);
    await ended;
    expect(addon.shutdown(fd, 7)).toBe(-EINVAL);
  });

  it('peek from SO_PEEK_OFF on, and discard what was peeked', async () => {
    expect(addon.probePeekOffset()).toBe(true);
    const { fd, peer } = await connected();
    expect(addon.setPeekOffset(fd, 0)).toBe(0);
    peer.write('0123456789');
    iovecs.set([region, 0, 4]);
    expect(await whenReady(() => addon.recvmsg(fd, 0, 1, MSG_PEEK))).toBe(4);
    expect(text(0, 4)).toBe('0123');
    expect(addon.recvmsg(fd, 0, 1, MSG_PEEK)).toBe(4);
    expect(text(0, 4)).toBe('4567');
    expect(addon.discard(fd, 3)).toBe(3);
    // The kernel moves the offset along with the queue: 8 becomes 5, at the same byte.
    expect(addon.recvmsg(fd, 0, 1, MSG_PEEK)).toBe(2);
    expect(text(0, 2)).toBe('89');
    expect(addon.setPeekOffset(fd, 0)).toBe(0);
    expect(addon.recvmsg(fd, 0, 1, MSG_PEEK)).toBe(4);
    expect(text(0, 4)).toBe('3456');
    expect(addon.discard(fd, 100)).toBe(7);
    expect(addon.discard(fd, 100)).toBe(-EAGAIN);
  });

  it('take urgent bytes in line', async () => {
    const { fd, peer } = await connected();
    const MSG_OOB = 1;
    bytes.set(Buffer.from('abc!'));
    iovecs.set([region, 0, 4]);
    expect(addon.sendmsg(descriptorOf(peer), 0, 1, MSG_OOB)).toBe(4);
    bytes.fill(0, 0, 4);
    let received = 0;
    while (received < 4) {
      iovecs.set([region, received, 4]);
      received += await whenReady(() => addon.recvmsg(fd, 0, 1, 0));
    }
    expect(text(0, 4)).toBe('abc!');
  });
});

describe('sendSpace', () => {
  it('falls as the send buffer fills, to where sendmsg takes no more', async () => {
    const { fd } = await connected();
    const atFirst = addon.sendSpace(fd);
    expect(atFirst).toBeGreaterThan(0);
    iovecs.set([region, 0, bytes.length]);
    while (addon.sendmsg(fd, 0, 1, 0) > 0);
    expect(addon.sendmsg(fd, 0, 1, 0)).toBe(-EAGAIN);
    expect(addon.sendSpace(fd)).toBeLessThan(atFirst);
    expect(addon.sendSpace(fd)).toBeGreaterThanOrEqual(0);
  });
});

describe('the receive buffer', () => {
  it.each<[string, (fd: number) => number, number]>([
    ['growReceiveBuffer', (fd) => addon.growReceiveBuffer(fd, 1 << 20), 512 << 10],
    ['fixReceiveBuffer', (fd) => addon.fixReceiveBuffer(fd, 1 << 20), 100 << 10],
  ])('%s lets the peer send more than before, ahead of any read', async (_name, enlarge, more) => {
    const sent = async (large: boolean): Promise<number> => {
      const { fd, peer } = await connected();
      if (large) enlarge(fd);
      const wall = Buffer.alloc(64 << 10);
      let stuck = false;
      while (!stuck && peer.bytesWritten < 32 << 20) {
        stuck = !(await new Promise<boolean>((resolve) => {
          const late = setTimeout(() => resolve(false), 200);
          peer.write(wall, () => (clearTimeout(late), resolve(true)));
        }));
      }
      return peer.bytesWritten - peer.writableLength;
    };
    expect(await sent(true)).toBeGreaterThan((await sent(false)) + more);
  });
});

describe('close', () => {
  it('ends the stream in order', async () => {
    const pair = await tcpPair();
    const ended = new Promise((resolve) => pair.peer.once('end', resolve));
    pair.peer.resume();
    expect(addon.close(pair.fd)).toBe(0);
    await ended;
    expect(isOpen(pair.fd)).toBe(false);
    pair.close();
  });

  it('closeReset sends a RST', async () => {
    const pair = await tcpPair();
    const failed = new Promise<NodeJS.ErrnoException>((resolve) => pair.peer.once('error', resolve));
    pair.peer.resume();
    expect(addon.closeReset(pair.fd)).toBe(0);
    expect((await failed).code).toBe('ECONNRESET');
    expect(isOpen(pair.fd)).toBe(false);
    pair.close();
  });
});

describe('hot functions', () => {
  const bad = 2 ** 20;
  it.each<[string, () => number]>([
    ['unpace', () => addon.unpace(bad)],
    ['connect4', () => addon.connect4(bad, LOOPBACK, 1)],
    ['sendmsg', () => addon.sendmsg(bad, 0, 0, 0)],
    ['recvmsg', () => addon.recvmsg(bad, 0, 0, 0)],
    ['discard', () => addon.discard(bad, 1)],
    ['shutdown', () => addon.shutdown(bad, 2)],
    ['close', () => addon.close(bad)],
    ['closeReset', () => addon.closeReset(bad)],
    ['socketError', () => addon.socketError(bad)],
    ['setPeekOffset', () => addon.setPeekOffset(bad, 0)],
    ['growReceiveBuffer', () => addon.growReceiveBuffer(bad, 1)],
    ['fixReceiveBuffer', () => addon.fixReceiveBuffer(bad, 1)],
    ['clampWindow', () => addon.clampWindow(bad, 1)],
    ['sendSpace', () => addon.sendSpace(bad)],
    ['epollAdd', () => addon.epollAdd(bad, bad, 1, 0, 0)],
    ['epollDelete', () => addon.epollDelete(bad, bad)],
    ['epollWait', () => addon.epollWait(bad, 0)],
    ['eventfdSignal', () => addon.eventfdSignal(bad)],
    ['eventfdDrain', () => addon.eventfdDrain(bad)],
    ['unixAccept', () => addon.unixAccept(bad)],
  ])('%s returns -EBADF for a descriptor that is not open', (_name, call) => {
    expect(call()).toBe(-EBADF);
  });

  it('return -EINVAL for arguments that are no numbers', () => {
    const close = addon.close as (...fd: unknown[]) => number;
    for (const wrong of [[], ['1'], [undefined], [null], [{}], [1n]]) expect(close(...wrong)).toBe(-EINVAL);
  });
});
