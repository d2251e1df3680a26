/** The addon's door to UDP sockets (udp(7)). */

export interface DatagramDoor {
  /**
   * hot: a non-blocking, close-on-exec IPv4 datagram socket with IP_RECVERR, connected to `address` (a host-order 32-bit integer)
   * and `port`; what strangers sent before that is dropped. Its local port is that of the socket `sibling` (SO_REUSEPORT on both); -1: one of its own. Returns fd or -errno.
   */
  udpSocket(address: number, port: number, sibling: number): number;
  /**
   * hot: sendmmsg(2) of `count` datagrams (64 at most), with MSG_DONTWAIT | MSG_NOSIGNAL. Triple `first + n` of the iovec scratch begins with the
   * number of datagram n's iovecs; they lie one behind the other from triple `data`. Returns the number sent, or -errno of the first.
   */
  sendmmsg(fd: number, first: number, count: number, data: number): number;
  /** hot: recvmmsg(2) likewise; the third words of the triples from `first` become the datagrams' lengths, MSG_TRUNC: longer than its iovecs for one that was cut. */
  recvmmsg(fd: number, first: number, count: number, data: number): number;
  /** hot: sendmsg(2) of `count` iovecs with UDP_SEGMENT: datagrams of `segment` bytes, the last one of the rest. Bytes or -errno. */
  sendSegments(fd: number, first: number, count: number, segment: number): number;
  /** hot: takes the oldest error off the socket's queue. ICMP's type << 8 | code, 0 for an error of another origin, -EAGAIN when there is none. */
  takeError(fd: number): number;
}
