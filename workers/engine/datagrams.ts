/** What the data plane needs of the kernel for UDP, and the plain system calls that do it, counted: alike for all engines. */
import type { Addon } from '../../src/native/addon.js';
import { C, type Counters } from '../counters.js';

const MSG_TRUNC = 0x20;
/** System calls of `Addon.udpSocket` besides socket(2), connect(2) and recv(2): IP_RECVERR; and with a sibling the address, two options and bind(2). */
const SOCKET_OPTIONS = 1;
const SIBLING_OPTIONS = 4;

/** Calls on UDP sockets: hot, they return `-errno`. */
export interface Datagrams {
  /** A socket connected to this peer, with the local port of the socket `sibling`, or its own for -1. */
  udpSocket(address: number, port: number, sibling: number): number;
  /** Sends `count` datagrams; see `DatagramDoor.sendmmsg`. Their number or -errno. */
  sendDatagrams(fd: number, first: number, count: number, data: number): number;
  /** Sends the `count` triples from `first` as datagrams of `segment` bytes. Bytes or -errno. */
  sendSegments(fd: number, first: number, count: number, segment: number): number;
  /** Receives up to `count` datagrams; see `DatagramDoor.recvmmsg`. Their number or -errno. */
  receiveDatagrams(fd: number, first: number, count: number, data: number): number;
  /** Receives one datagram into `count` triples. Its length, which may be more than they hold, or -errno. */
  receiveDatagram(fd: number, first: number, count: number): number;
  /** Takes one error off the socket's queue; see `DatagramDoor.takeError`. */
  takeError(fd: number): number;
}

export abstract class DatagramCalls implements Datagrams {
  /** @param addon with its scratch bound */
  constructor(
    protected addon: Addon,
    protected counters: Counters,
  ) {}

  udpSocket(address: number, port: number, sibling: number): number {
    this.counters[C.socketCalls]!++;
    this.counters[C.connectCalls]!++;
    this.counters[C.receiveCalls]!++;
    this.counters[C.optionCalls]! += sibling < 0 ? SOCKET_OPTIONS : SOCKET_OPTIONS + SIBLING_OPTIONS;
    return this.addon.udpSocket(address, port, sibling);
  }

  sendDatagrams(fd: number, first: number, count: number, data: number): number {
    this.counters[C.sendCalls]!++;
    return this.addon.sendmmsg(fd, first, count, data);
  }

  sendSegments(fd: number, first: number, count: number, segment: number): number {
    this.counters[C.sendCalls]!++;
    return this.addon.sendSegments(fd, first, count, segment);
  }

  receiveDatagrams(fd: number, first: number, count: number, data: number): number {
    this.counters[C.receiveCalls]!++;
    return this.addon.recvmmsg(fd, first, count, data);
  }

  receiveDatagram(fd: number, first: number, count: number): number {
    this.counters[C.receiveCalls]!++;
    return this.addon.recvmsg(fd, first, count, MSG_TRUNC);
  }

  takeError(fd: number): number {
    this.counters[C.receiveCalls]!++;
    return this.addon.takeError(fd);
  }
}
