/** The engine on epoll(7). */
import type { Addon } from '../../src/native/addon.js';
import { C, type Counters } from '../counters.js';
import { EPOLLIN, EPOLLOUT, EPOLLRDHUP, type Engine } from './engine.js';
import { SocketCalls } from './socketCalls.js';

const EPOLLET = 0x80000000;
const SOCKET_EVENTS = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
const INPUT_EVENTS = EPOLLIN | EPOLLET;

export class EpollEngine extends SocketCalls implements Engine {
  /**
   * @param addon with its scratch bound to `events` and `clock`
   * @param epoll the epoll instance; it outlives the thread, with all that it watches
   */
  constructor(
    addon: Addon,
    counters: Counters,
    readonly events: Int32Array,
    readonly clock: Int32Array,
    private readonly epoll: number,
  ) {
    super(addon, counters);
  }

  wait(timeout: number): number {
    this.counters[C.waitCalls]!++;
    return Math.max(0, this.addon.epollWait(this.epoll, timeout));
  }

  watchSocket(fd: number, token: number, generation: number): number {
    this.counters[C.watchCalls]!++;
    return this.addon.epollAdd(this.epoll, fd, SOCKET_EVENTS, token, generation);
  }

  watchDatagrams(fd: number, token: number, generation: number): number {
    return this.watchEventfd(fd, token, generation);
  }

  watchEventfd(fd: number, token: number, generation: number): number {
    this.counters[C.watchCalls]!++;
    return this.addon.epollAdd(this.epoll, fd, INPUT_EVENTS, token, generation);
  }

  unwatch(fd: number): number {
    this.counters[C.watchCalls]!++;
    return this.addon.epollDelete(this.epoll, fd);
  }

  end(): void {
    // What is watched stays so, for a successor.
  }
}
