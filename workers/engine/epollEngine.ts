/** The engine on plain system calls and epoll(7). */
import type { Addon } from '../../src/native/addon.js';
import { EPOLLIN, EPOLLOUT, EPOLLRDHUP, type Engine, MSG_PEEK } from './engine.js';

const EPOLLET = 0x80000000;
const SOCKET_EVENTS = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
const EVENTFD_EVENTS = EPOLLIN | EPOLLET;
const SHUT_WR = 1;

export class EpollEngine implements Engine {
  /**
   * @param addon with its scratch bound to `events` and `clock`
   * @param epoll the epoll instance; it outlives the thread, with all that it watches
   */
  constructor(
    private readonly addon: Addon,
    private readonly epoll: number,
    readonly events: Int32Array,
    readonly clock: Int32Array,
  ) {}

  wait(timeout: number): number {
    return Math.max(0, this.addon.epollWait(this.epoll, timeout));
  }

  watchSocket(fd: number, token: number, generation: number): number {
    return this.addon.epollAdd(this.epoll, fd, SOCKET_EVENTS, token, generation);
  }

  watchEventfd(fd: number, token: number, generation: number): number {
    return this.addon.epollAdd(this.epoll, fd, EVENTFD_EVENTS, token, generation);
  }

  unwatch(fd: number): number {
    return this.addon.epollDelete(this.epoll, fd);
  }

  signal(fd: number): number {
    return this.addon.eventfdSignal(fd);
  }

  tcpSocket(): number {
    return this.addon.tcpSocket();
  }

  connect(fd: number, address: number, port: number): number {
    return this.addon.connect4(fd, address, port);
  }

  send(fd: number, first: number, count: number): number {
    return this.addon.sendmsg(fd, first, count, 0);
  }

  peek(fd: number, first: number, count: number): number {
    return this.addon.recvmsg(fd, first, count, MSG_PEEK);
  }

  discard(fd: number, length: number): number {
    return this.addon.discard(fd, length);
  }

  setPeekOffset(fd: number, offset: number): number {
    return this.addon.setPeekOffset(fd, offset);
  }

  growReceiveBuffer(fd: number, bytes: number): number {
    return this.addon.growReceiveBuffer(fd, bytes);
  }

  sendSpace(fd: number): number {
    return this.addon.sendSpace(fd);
  }

  finish(fd: number): number {
    return this.addon.shutdown(fd, SHUT_WR);
  }

  close(fd: number): number {
    return this.addon.close(fd);
  }

  abort(fd: number): number {
    return this.addon.closeReset(fd);
  }

  socketError(fd: number): number {
    return this.addon.socketError(fd);
  }

  checksum(first: number, count: number, seed: number): number {
    return this.addon.checksum(first, count, seed);
  }
}
