/**
 * What the data plane needs of the kernel while it runs: readiness of descriptors, and calls on sockets.
 * All calls are hot: they return `-errno`, allocate nothing and throw nothing.
 */

import type { Datagrams } from './datagrams.js';

export const EPOLLIN = 0x001;
export const EPOLLOUT = 0x004;
export const EPOLLERR = 0x008;
export const EPOLLHUP = 0x010;
export const EPOLLRDHUP = 0x2000;

/** Words of one event: what `watch` was given, and epoll's bits. */
export const EVENT_WORDS = 3;

export const MSG_PEEK = 2;

export const EINTR = 4;
export const EAGAIN = 11;
export const EINPROGRESS = 115;

export const ENGINE_CHOICES = ['auto', 'uring', 'epoll'] as const;
/** What a user asks for: an engine, or the better of those that the kernel has. */
export type EngineChoice = (typeof ENGINE_CHOICES)[number];
export type EngineName = 'epoll' | 'uring';

export interface Engine extends Datagrams {
  /** [token, generation, bits] triples of the last `wait`. */
  readonly events: Int32Array;
  /** [milliseconds, microseconds] of the monotonic clock, read by each `wait`; they wrap at 2^32. */
  readonly clock: Int32Array;
  /** Waits for events, at most `timeout` ms (-1: for ever). Returns their number. */
  wait(timeout: number): number;
  /** Reports each new readiness of a socket once (edge-triggered): readable, writable, peer finished, error. */
  watchSocket(fd: number, token: number, generation: number): number;
  /** Reports likewise when a socket is readable or has an error, but not each time that it takes more. */
  watchDatagrams(fd: number, token: number, generation: number): number;
  /** Reports each signal of an eventfd once (edge-triggered), so that nobody need read it. */
  watchEventfd(fd: number, token: number, generation: number): number;
  unwatch(fd: number): number;
  /** Adds 1 to an eventfd. */
  signal(fd: number): number;

  tcpSocket(): number;
  /** Before `connect`: whatever congestion control the host has chosen, this socket won't pace what it sends. */
  unpace(fd: number): number;
  connect(fd: number, address: number, port: number): number;
  /** Sends `count` triples from number `first` of the iovec scratch. Bytes or -errno. */
  send(fd: number, first: number, count: number): number;
  /** Receives into triples without taking the bytes off the socket. Bytes, 0 at the end of the stream, or -errno. */
  peek(fd: number, first: number, count: number): number;
  /** Takes bytes off the socket's receive queue unread. */
  discard(fd: number, length: number): number;
  setPeekOffset(fd: number, offset: number): number;
  /** Makes the socket's receive buffer hold at least `bytes`. */
  growReceiveBuffer(fd: number, bytes: number): number;
  /** Gives the socket's receive buffer room for `bytes` and their overhead, and no more than that from now on. */
  fixReceiveBuffer(fd: number, bytes: number): number;
  /** Shows the socket's peer a window of `bytes` at most, however large the receive buffer is. */
  clampWindow(fd: number, bytes: number): number;
  /** Bytes that the socket's send buffer still takes. */
  sendSpace(fd: number): number;
  /** Finishes the sending side: the peer reads the end of the stream. */
  finish(fd: number): number;
  close(fd: number): number;
  /** Closes so that the peer gets a RST. */
  abort(fd: number): number;
  /** SO_ERROR: 0 or a positive errno. */
  socketError(fd: number): number;
  /** Lets go of what the thread has of the kernel; called once, when the worker ends. */
  end(): void;
  /** RFC 1071 sum of triples on top of `seed`, folded. */
  checksum(first: number, count: number, seed: number): number;
}
