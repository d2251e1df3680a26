/**
 * Sockets that lead nowhere: where the NAT opens a TCP socket it gets one end of a UNIX socket pair, connected already, and
 * what it sends to it comes back from the other end. So nothing leaves the process, and no port is used.
 */
import type { Addon } from '../../src/native/addon.js';

const EMFILE = 24;
/** Bytes that one answer has at most. */
const SCRATCH_BYTES = 64 << 10;

export class SocketPairs {
  /** The addon, but for sockets. */
  readonly addon: Addon;
  private readonly peers: number[] = [];
  private readonly region: number;

  /**
   * @param iovecs scratch of triples
   * @param triple the one of them that nobody else uses
   */
  constructor(
    private readonly real: Addon,
    private readonly iovecs: Uint32Array,
    private readonly triple: number,
  ) {
    this.region = real.createRegion(SCRATCH_BYTES).region;
    this.addon = {
      ...real,
      tcpSocket: () => this.open(),
      connect4: () => 0,
      // recv(2) with MSG_TRUNC discards nothing of UNIX sockets.
      discard: (fd, length) => this.receive(fd, length),
    };
  }

  private open(): number {
    try {
      const [socket, peer] = this.real.socketPair();
      this.peers.push(peer);
      return socket;
    } catch {
      return -EMFILE;
    }
  }

  private receive(fd: number, length: number): number {
    this.iovecs.set([this.region, 0, Math.min(length, SCRATCH_BYTES)], 3 * this.triple);
    return this.real.recvmsg(fd, this.triple, 1, 0);
  }

  /** Sends back what came in; closes those whose other end has finished. */
  answer(): void {
    for (let n = this.peers.length - 1; n >= 0; n--) {
      const peer = this.peers[n]!;
      const bytes = this.receive(peer, SCRATCH_BYTES);
      if (bytes > 0) {
        this.iovecs[3 * this.triple + 2] = bytes;
        this.real.sendmsg(peer, this.triple, 1, 0);
      } else if (bytes === 0) {
        this.real.close(peer);
        this.peers.splice(n, 1);
      }
    }
  }

  close(): void {
    for (const peer of this.peers) this.real.close(peer);
    this.real.unmapRegion(this.region);
  }
}
