/** Plain system calls on TCP sockets, counted: what all engines have in common. */
import type { Addon } from '../../src/native/addon.js';
import { C, type Counters } from '../counters.js';
import { DatagramCalls } from './datagrams.js';
import { MSG_PEEK } from './engine.js';

const SHUT_WR = 1;

export abstract class SocketCalls extends DatagramCalls {
  /** Makes calls by another addon from now on, of the same scratch, and counts them elsewhere. */
  redirect(addon: Addon, counters: Counters): void {
    this.addon = addon;
    this.counters = counters;
  }

  signal(fd: number): number {
    this.counters[C.signalCalls]!++;
    return this.addon.eventfdSignal(fd);
  }

  tcpSocket(): number {
    this.counters[C.socketCalls]!++;
    this.counters[C.optionCalls]! += 2;
    return this.addon.tcpSocket();
  }

  unpace(fd: number): number {
    this.counters[C.optionCalls]!++;
    return this.addon.unpace(fd);
  }

  connect(fd: number, address: number, port: number): number {
    this.counters[C.connectCalls]!++;
    return this.addon.connect4(fd, address, port);
  }

  send(fd: number, first: number, count: number): number {
    this.counters[C.sendCalls]!++;
    return this.addon.sendmsg(fd, first, count, 0);
  }

  peek(fd: number, first: number, count: number): number {
    this.counters[C.peekCalls]!++;
    return this.addon.recvmsg(fd, first, count, MSG_PEEK);
  }

  discard(fd: number, length: number): number {
    this.counters[C.discardCalls]!++;
    return this.addon.discard(fd, length);
  }

  setPeekOffset(fd: number, offset: number): number {
    this.counters[C.optionCalls]!++;
    return this.addon.setPeekOffset(fd, offset);
  }

  growReceiveBuffer(fd: number, bytes: number): number {
    this.counters[C.optionCalls]! += 2;
    return this.addon.growReceiveBuffer(fd, bytes);
  }

  fixReceiveBuffer(fd: number, bytes: number): number {
    this.counters[C.optionCalls]!++;
    return this.addon.fixReceiveBuffer(fd, bytes);
  }

  clampWindow(fd: number, bytes: number): number {
    this.counters[C.optionCalls]!++;
    return this.addon.clampWindow(fd, bytes);
  }

  sendSpace(fd: number): number {
    this.counters[C.optionCalls]!++;
    return this.addon.sendSpace(fd);
  }

  finish(fd: number): number {
    this.counters[C.shutdownCalls]!++;
    return this.addon.shutdown(fd, SHUT_WR);
  }

  close(fd: number): number {
    this.counters[C.closeCalls]!++;
    return this.addon.close(fd);
  }

  abort(fd: number): number {
    this.counters[C.optionCalls]!++;
    this.counters[C.closeCalls]!++;
    return this.addon.closeReset(fd);
  }

  socketError(fd: number): number {
    this.counters[C.optionCalls]!++;
    return this.addon.socketError(fd);
  }

  checksum(first: number, count: number, seed: number): number {
    return this.addon.checksum(first, count, seed);
  }
}
