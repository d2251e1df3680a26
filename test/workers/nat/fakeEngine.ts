/** The kernel as the NAT's tests script it: sockets that do what they are told, over memory of the test's. */
import { EAGAIN, EINPROGRESS, type Engine } from '../../../workers/engine/engine.js';
import { sum16 } from '../../../workers/wire/checksum.js';

/** The host's end of a flow. */
export class FakeSocket {
  state: 'connecting' | 'connected' | 'closed' | 'aborted' = 'connecting';
  /** What the NAT sent, and what it has yet to acknowledge to the guest. */
  sent = '';
  /** What waits to be read. */
  received = '';
  finished = false;
  peerFinished = false;
  peekOffset = -1;
  error = 0;
  /** Sizes that its receive buffer was asked to have at least. */
  readonly grown: number[] = [];
  /** Size that its receive buffer was fixed at; 0: none. */
  fixed = 0;
  /** The largest window that it may show. */
  clamp = Number.POSITIVE_INFINITY;
  /** Bytes that the next sends take. */
  space = Number.POSITIVE_INFINITY;

  constructor(
    readonly address: number,
    readonly port: number,
    readonly token: number,
    readonly generation: number,
  ) {}
}

/** Calls on scripted sockets. */
export class FakeEngine implements Engine {
  readonly events = new Int32Array(3);
  readonly clock = new Int32Array(2);
  readonly sockets = new Map<number, FakeSocket>();
  /** Errno of the next `tcpSocket` and `connect`; 0: they succeed. */
  socketErrno = 0;
  connectErrno = 0;
  /** Descriptors that `unpace` was called with. */
  readonly unpaced = new Set<number>();
  private nextFd = 10;
  private target: readonly [address: number, port: number] = [0, 0];

  constructor(
    readonly memory: readonly Uint8Array[],
    readonly iovecs: Uint32Array,
  ) {}

  wait(): number {
    return 0;
  }
  watchSocket(fd: number, token: number, generation: number): number {
    this.sockets.set(fd, new FakeSocket(...this.target, token, generation));
    return 0;
  }
  watchDatagrams(fd: number, token: number, generation: number): number {
    return this.watchSocket(fd, token, generation);
  }
  watchEventfd(): number {
    return 0;
  }
  unwatch(): number {
    return 0;
  }
  signal(): number {
    return 0;
  }
  udpSocket(address: number, port: number): number {
    this.target = [address, port];
    return this.socketErrno === 0 ? this.nextFd++ : -this.socketErrno;
  }
  sendDatagrams(_fd: number, _first: number, count: number): number {
    return count;
  }
  sendSegments(): number {
    return 0;
  }
  receiveDatagrams(): number {
    return -EAGAIN;
  }
  receiveDatagram(fd: number, first: number, count: number): number {
    const bytes = this.peek(fd, first, count);
    if (bytes > 0) this.socket(fd).received = '';
    return bytes;
  }
  takeError(): number {
    return -EAGAIN;
  }
  tcpSocket(): number {
    return this.socketErrno === 0 ? this.nextFd++ : -this.socketErrno;
  }
  connect(_fd: number, address: number, port: number): number {
    this.target = [address, port];
    return this.connectErrno === 0 ? -EINPROGRESS : -this.connectErrno;
  }
  send(fd: number, first: number, count: number): number {
    const socket = this.socket(fd);
    let text = '';
    for (let n = first; n < first + count; n++) text += this.text(n);
    const taken = Math.min(text.length, socket.space);
    if (taken === 0) return -EAGAIN;
    socket.space -= taken;
    socket.sent += text.slice(0, taken);
    return taken;
  }
  peek(fd: number, first: number, count: number): number {
    const socket = this.socket(fd);
    let rest = socket.received.slice(Math.max(0, socket.peekOffset));
    if (rest === '') return socket.peerFinished ? 0 : -EAGAIN;
    let bytes = 0;
    for (let n = first; n < first + count; n++) {
      const [region, offset, length] = this.triple(n);
      const piece = rest.slice(0, length);
      for (let i = 0; i < piece.length; i++) this.memory[region]![offset + i] = piece.charCodeAt(i);
      bytes += piece.length;
      rest = rest.slice(piece.length);
    }
    if (socket.peekOffset >= 0) socket.peekOffset += bytes;
    return bytes;
  }
  discard(fd: number, length: number): number {
    const socket = this.socket(fd);
    socket.received = socket.received.slice(length);
    socket.peekOffset = socket.peekOffset < 0 ? -1 : Math.max(0, socket.peekOffset - length);
    return length;
  }
  fixReceiveBuffer(fd: number, bytes: number): number {
    this.socket(fd).fixed = bytes;
    return 0;
  }

  clampWindow(fd: number, bytes: number): number {
    this.socket(fd).clamp = bytes;
    return 0;
  }

  growReceiveBuffer(fd: number, bytes: number): number {
    this.socket(fd).grown.push(bytes);
    return 0;
  }

  unpace(fd: number): number {
    this.unpaced.add(fd);
    return 0;
  }

  setPeekOffset(fd: number, offset: number): number {
    this.socket(fd).peekOffset = offset;
    return 0;
  }
  sendSpace(fd: number): number {
    return Math.min(this.socket(fd).space, 8 << 20);
  }
  finish(fd: number): number {
    this.socket(fd).finished = true;
    return 0;
  }
  close(fd: number): number {
    const socket = this.sockets.get(fd);
    if (socket !== undefined) socket.state = 'closed';
    return 0;
  }
  abort(fd: number): number {
    const socket = this.sockets.get(fd);
    if (socket !== undefined) socket.state = 'aborted';
    return 0;
  }
  socketError(fd: number): number {
    return this.socket(fd).error;
  }
  end(): void {
    this.sockets.clear();
  }

  checksum(first: number, count: number, seed: number): number {
    let bytes = '';
    for (let n = first; n < first + count; n++) bytes += this.text(n);
    return sum16(
      Uint8Array.from(bytes, (char) => char.charCodeAt(0)),
      0,
      bytes.length,
      seed,
    );
  }

  private socket(fd: number): FakeSocket {
    return this.sockets.get(fd)!;
  }
  private triple(n: number): [number, number, number] {
    return [this.iovecs[3 * n]!, this.iovecs[3 * n + 1]!, this.iovecs[3 * n + 2]!];
  }
  private text(n: number): string {
    const [region, offset, length] = this.triple(n);
    return String.fromCharCode(...this.memory[region]!.subarray(offset, offset + length));
  }
}
