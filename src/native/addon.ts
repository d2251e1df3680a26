/**
 * The typed face of the addon: a thin door to the kernel.
 *
 * Memory is named by (region, offset, length), never by pointer; the addon checks each triple against the region, so
 * that no mistake in TypeScript and no value from a guest reaches outside mapped memory. Every thread that loads the
 * addon has its own table of regions: a region mapped in one thread can't be touched, or unmapped, by another.
 *
 * Two kinds of functions:
 * - set-up functions throw an `Error` with `code` (`"ENOENT"`), `errno` and `syscall` when the kernel refuses;
 * - hot-path functions (marked "hot") throw nothing, allocate nothing and return `-errno` when the kernel refuses. They
 *   take integers modulo 2^32, and return -EINVAL for what is no number, or when the scratch they need isn't bound.
 */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { packageRoot } from '../packageRoot.js';
import type { DatagramDoor } from './datagrams.js';
import type { KvmDoor } from './kvm.js';
import type { MappedRegion } from './regions.js';

/** What a file descriptor is: from fstat(2) and the link in /proc/self/fd. */
export interface FdInfo {
  readonly kind: 'file' | 'eventfd' | 'socket' | 'pipe' | 'other';
  /** Size of the file in bytes; 0 for what has none. */
  readonly size: number;
}

/** One message from a UNIX stream socket. */
export interface ReceivedMessage {
  /** Bytes written to the buffer; 0 at end of file. */
  readonly length: number;
  /** Descriptors that came with the bytes (SCM_RIGHTS), close-on-exec; the caller owns them. */
  readonly fds: number[];
  /** The ancillary data was cut (MSG_CTRUNC): descriptors were lost. */
  readonly truncated: boolean;
}

/** Watches one descriptor from its thread's event loop (uv_poll_t). */
export interface FdWatcher {
  /** Ends it, at once: no callback comes after this. May be called inside the callback, and more than once. */
  close(): void;
}

export interface Addon extends KvmDoor, DatagramDoor {
  // -- memory ----------------------------------------------------------------------------------------------------

  /** memfd_create(2) plus ftruncate(2): `size` bytes of zeroes. Returns the descriptor. */
  createMemory(name: string, size: number): number;
  /**
   * mmap(2) of `size` bytes (1 … 2^32) of `fd` from `fileOffset`, shared, readable and writable. The offset need not be
   * aligned: the addon maps from the block boundary below it. Throws ERANGE for a range beyond the end of the file, EINVAL
   * for what is no regular file or memfd, ENOMEM beyond 4,096 such regions in the process.
   *
   * If the file shrinks later, a touch of what is gone finds zeroes instead of SIGBUS, in the whole region from then on,
   * and `regionFaulted` says so; a system call over it that comes first returns -EFAULT. (So no one may listen to SIGBUS
   * by `process.on` after the first region was mapped: that would replace the addon's handler.)
   */
  mapRegion(fd: number, fileOffset: number, size: number): MappedRegion;
  /** `size` bytes (1 … 2^32) of anonymous private memory, as a region: scratch that system calls may read and write. */
  createRegion(size: number): MappedRegion;
  /** Detaches the buffer, then munmap(2). Throws ERANGE for a region that isn't there. */
  unmapRegion(region: number): void;
  /** Whether the file behind the region shrank under it. */
  regionFaulted(region: number): boolean;

  // -- scratch -----------------------------------------------------------------------------------------------------

  /**
   * Names this thread's scratch, read and written by the hot functions below.
   * - `iovecs`: [region, offset, length] triples, of which one call takes 1,024 at most;
   * - `events`: [token, generation, epoll event bits] triples, written by `epollWait`, 1,024 of them at most;
   * - `clock`: [CLOCK_MONOTONIC in milliseconds, in microseconds, and in nanoseconds if there is a third element], modulo
   *   2^32 as signed integers (differences by `(a - b) | 0`), written by `epollWait` and `readClock`.
   *
   * They stay bound, and alive, until the next call. Arrays over SharedArrayBuffers cost hot functions least: those over
   * ArrayBuffers are looked at before each use, since they can be detached. Throws EINVAL for a wrong type, an array
   * too short for one element of its kind, or a resizable ArrayBuffer.
   */
  bindScratch(iovecs: Uint32Array, events: Int32Array, clock: Int32Array): void;
  /** hot: clock_gettime(2) into `clock`. */
  readClock(): void;

  // -- TCP sockets ---------------------------------------------------------------------------------------------------

  /** hot: a non-blocking, close-on-exec IPv4 stream socket with TCP_NODELAY and SO_OOBINLINE. Returns fd or -errno. */
  tcpSocket(): number;
  /** hot: TCP_CONGESTION "reno", for a socket that isn't connected yet: it will send without pacing. Returns 0 or -errno. */
  unpace(fd: number): number;
  /** hot: connect(2). `address` is an IPv4 address as a host-order 32-bit integer (signed or not). Returns 0 or -errno. */
  connect4(fd: number, address: number, port: number): number;
  /** hot: sendmsg(2) of `count` iovecs from index `first` of the scratch, with MSG_DONTWAIT | MSG_NOSIGNAL | `flags`. Bytes or -errno; -EFAULT for a triple outside its region. */
  sendmsg(fd: number, first: number, count: number, flags: number): number;
  /** hot: recvmsg(2) likewise, with MSG_DONTWAIT | `flags`. 0 at the end of the stream. */
  recvmsg(fd: number, first: number, count: number, flags: number): number;
  /** hot: recv(2) with MSG_TRUNC and no buffer: drops up to `length` bytes of the receive queue. Bytes or -errno. */
  discard(fd: number, length: number): number;
  /** hot: shutdown(2); 0 SHUT_RD, 1 SHUT_WR, 2 SHUT_RDWR. */
  shutdown(fd: number, how: number): number;
  /** hot: close(2). */
  close(fd: number): number;
  /** hot: SO_LINGER with zero time, then close(2): the peer of a connection gets a RST. */
  closeReset(fd: number): number;
  /** hot: getsockopt(SO_ERROR): 0 or the positive errno; -errno if the call failed. */
  socketError(fd: number): number;
  /** hot: setsockopt(SO_PEEK_OFF). */
  setPeekOffset(fd: number, offset: number): number;
  /** hot: makes the socket's receive buffer hold at least `bytes`, as far as net.ipv4.tcp_rmem allows; the kernel may let it grow further. Returns 0 or -errno. */
  growReceiveBuffer(fd: number, bytes: number): number;
  /** hot: setsockopt(SO_RCVBUF), which the kernel doubles for its own needs, and cuts to net.core.rmem_max first. Returns 0 or -errno. */
  fixReceiveBuffer(fd: number, bytes: number): number;
  /** hot: setsockopt(TCP_WINDOW_CLAMP): the window that the peer is shown is at most `bytes`, until the kernel grows the buffer. Returns 0 or -errno. */
  clampWindow(fd: number, bytes: number): number;
  /** hot: bytes that the socket's send buffer still takes: SO_MEMINFO's sndbuf less wmem_queued, at least 0; or -errno. */
  sendSpace(fd: number): number;
  /** Whether this kernel honours SO_PEEK_OFF on TCP sockets (Linux 6.9). */
  probePeekOffset(): boolean;

  // -- events --------------------------------------------------------------------------------------------------------

  /** epoll_create1(2), close-on-exec. */
  epollCreate(): number;
  /** hot: EPOLL_CTL_ADD with `events` bits (EPOLLET = 0x80000000 | …, signed or not); the event carries both integers. */
  epollAdd(epoll: number, fd: number, events: number, token: number, generation: number): number;
  /** hot: EPOLL_CTL_DEL. */
  epollDelete(epoll: number, fd: number): number;
  /** hot: epoll_wait(2), timeout in ms (-1: no end). Fills `events` and `clock`; returns their number or -errno (EINTR gives 0). */
  epollWait(epoll: number, timeout: number): number;
  /** A non-blocking, close-on-exec eventfd. */
  eventfdCreate(): number;
  /**
   * hot: adds 1. Returns 0 or -errno: -EAGAIN if it is full and non-blocking. If it is full and blocking, whoever shares
   * it having made it so, this waits until somebody reads it, or until `interruptThread` (-EINTR).
   */
  eventfdSignal(fd: number): number;
  /** Adds 1 to an eventfd that others may have filled and made blocking: gives up after 10 ms (-EINTR). */
  eventfdSignalForeign(fd: number): number;
  /** hot: reads and so clears it. Returns 0 or -errno (-EAGAIN if it was clear). */
  eventfdDrain(fd: number): number;

  // -- io_uring ------------------------------------------------------------------------------------------------------

  /**
   * Makes this thread's io_uring(7), in place of the one before; it goes with the thread. Entries and completions are
   * exchanged in a region of the caller's: `entries` (a power of two) of 64 bytes each, as `struct io_uring_sqe`, then
   * `completions` of 16 bytes, as `struct io_uring_cqe`, then one 32-bit word that counts system calls. Throws EPERM or ENOSYS where
   * io_uring is forbidden, EINVAL before Linux 6.1, EOPNOTSUPP when the kernel lacks an operation.
   */
  uringCreate(region: number, entries: number, completions: number): void;
  /**
   * hot: submits the first `count` entries of the exchange, waits until there are `least` completions (at most `timeout`
   * ms, -1: no end), and moves completions to the exchange. Fills `clock`. Makes no system call when there is nothing to
   * submit, to wait for or to fetch. Returns the number of completions, fewer than `least` after a signal or when the
   * kernel is short of memory; or -errno: -EBUSY (no room) and -EINVAL mean that no entry was taken.
   *
   * Let through are POLL_ADD (made multishot) and ASYNC_CANCEL by user data (completes only if it fails): neither names
   * memory. Fields that they don't need are ignored.
   */
  uringEnter(count: number, least: number, timeout: number): number;
  /** hot: submits likewise, fetches nothing. Returns the number that the kernel took, or -errno. */
  uringSubmit(count: number): number;
  /** Ends this thread's ring: what is pending is cancelled. */
  uringClose(): void;

  // -- checksums -----------------------------------------------------------------------------------------------------

  /** hot: the ones' complement sum (RFC 1071, folded to 16 bits, not inverted, network order) of iovecs on top of `seed`; -EFAULT. */
  checksum(first: number, count: number, seed: number): number;

  // -- threads -------------------------------------------------------------------------------------------------------

  /** CPUs that this thread may run on (sched_getaffinity(2)). */
  getAffinity(): number[];
  /** sched_setaffinity(2) of the calling thread. */
  setAffinity(cpus: readonly number[]): void;
  /** gettid(2) of the calling thread, which `interruptThread` may interrupt from then on. */
  threadId(): number;
  /** Makes a system call that keeps that thread of this process waiting return EINTR. Returns 0 or -errno (-ESRCH: no such thread). */
  interruptThread(thread: number): number;

  // -- descriptors and UNIX sockets, for the main thread ----------------------------------------------------------------

  fdInfo(fd: number): FdInfo;
  /** Sets O_NONBLOCK. */
  setNonBlocking(fd: number): void;
  /** A listening, non-blocking UNIX stream socket at a path of at most 107 bytes (ENAMETOOLONG). Throws EADDRINUSE as the kernel does: removing a stale socket is the caller's business. */
  unixListen(path: string): number;
  /** Connects a non-blocking UNIX stream socket. Throws EAGAIN when the listener's backlog is full. */
  unixConnect(path: string): number;
  /** accept4(2), non-blocking. Returns the descriptor, or -errno (-EAGAIN when nobody waits). */
  unixAccept(fd: number): number;
  /** recvmsg(2) into `buffer` from `offset`, at most `length` bytes, with room for 64 descriptors; the kernel drops the rest, which `truncated` tells. `undefined` for EAGAIN. */
  unixReceive(fd: number, buffer: Uint8Array, offset: number, length: number): ReceivedMessage | undefined;
  /** sendmsg(2) of `buffer` from `offset` with descriptors (at most 253) attached to its first byte. Returns bytes taken, 0 for EAGAIN: then no descriptor went either. */
  unixSend(fd: number, buffer: Uint8Array, offset: number, fds: readonly number[]): number;
  /** A socketpair(2) of UNIX stream sockets, non-blocking. */
  socketPair(): [number, number];
  /**
   * Calls `callback` from this thread's event loop whenever `fd` is readable (and/or writable) or broken, until closed.
   * Keeps the loop alive. Makes `fd` non-blocking. Close the watcher before the descriptor. What the callback throws is an
   * uncaught exception. Throws EEXIST for a descriptor that this thread already watches, EPERM for a regular file.
   */
  watch(fd: number, events: { readable?: boolean; writable?: boolean }, callback: () => void): FdWatcher;
}

const require = createRequire(import.meta.url);

/**
 * Loads the addon into this thread. Throws if it has not been built. Copied, since V8 keeps the properties of what an addon
 * exports in a hash table: of the copy it knows where they lie, which makes each call 10 % cheaper.
 */
export const addon: Addon = { ...(require(join(packageRoot(), 'build/Release/slipway.node')) as Addon) };
