/** UDP servers on the host, and what a guest's frames of UDP and ICMP say. */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { setU16 } from '../../../workers/wire/bytes.js';
import { ETHERNET_HEADER } from '../../../workers/wire/ethernet.js';
import * as ip from '../../../workers/wire/ipv4.js';
import { pseudoHeaderSum, sum16 } from '../../../workers/wire/checksum.js';
import * as udp from '../../../workers/wire/udp.js';

export interface Received {
  readonly data: Buffer;
  /** The port that it came from. */
  readonly port: number;
}

/** A socket of the host's on its loopback. */
export class UdpServer implements AsyncDisposable {
  readonly received: Received[] = [];

  private constructor(
    readonly socket: Socket,
    readonly port: number,
  ) {}

  /** @param answer whether what comes is sent back */
  static async start(answer: boolean, port = 0): Promise<UdpServer> {
    const socket = createSocket('udp4');
    socket.bind(port, '127.0.0.1');
    await once(socket, 'listening');
    const server = new UdpServer(socket, socket.address().port);
    socket.on('message', (data: Buffer, from: RemoteInfo) => {
      server.received.push({ data, port: from.port });
      if (answer) socket.send(data, from.port, from.address);
    });
    return server;
  }

  /** Sends to where the last datagram came from. */
  send(data: Uint8Array): void {
    this.socket.send(data, this.received.at(-1)!.port, '127.0.0.1');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.socket, 'close');
    this.socket.close();
    await closed;
  }
}

/** A frame of UDP as its guest reads it. */
export function parseUdp(frame: Uint8Array): {
  readonly source: string;
  readonly destination: string;
  readonly ports: readonly [number, number];
  readonly payload: Uint8Array;
} {
  const at = ETHERNET_HEADER + ip.IPV4_HEADER;
  const length = udp.datagramLength(frame, at);
  return {
    source: ip.formatIpv4Address(ip.source(frame, ETHERNET_HEADER)),
    destination: ip.formatIpv4Address(ip.destination(frame, ETHERNET_HEADER)),
    ports: [udp.sourcePort(frame, at), udp.destinationPort(frame, at)],
    payload: frame.slice(at + udp.UDP_HEADER, at + length),
  };
}

/** The ones' complement sum of datagram and pseudo-header: 0xffff if the checksum is right. */
export function udpSum(frame: Uint8Array): number {
  const at = ETHERNET_HEADER + ip.IPV4_HEADER;
  const length = udp.datagramLength(frame, at);
  const pseudo = pseudoHeaderSum(
    ip.source(frame, ETHERNET_HEADER),
    ip.destination(frame, ETHERNET_HEADER),
    ip.PROTOCOL_UDP,
    length,
  );
  return sum16(frame, at, length, pseudo);
}

/** An ICMP error as its guest reads it, with the addresses and ports of the datagram that it quotes; checksums are looked at. */
export function parseIcmp(frame: Uint8Array): Record<string, unknown> {
  const at = ETHERNET_HEADER + ip.IPV4_HEADER;
  const quoted = at + 8;
  return {
    protocol: ip.protocol(frame, ETHERNET_HEADER),
    from: ip.formatIpv4Address(ip.source(frame, ETHERNET_HEADER)),
    to: ip.formatIpv4Address(ip.destination(frame, ETHERNET_HEADER)),
    type: frame[at],
    code: frame[at + 1],
    sums: [
      ip.headerChecksumOk(frame, ETHERNET_HEADER, ip.IPV4_HEADER),
      sum16(frame, at, ip.totalLength(frame, ETHERNET_HEADER) - ip.IPV4_HEADER, 0) === 0xffff,
      ip.headerChecksumOk(frame, quoted, ip.IPV4_HEADER),
    ],
    quoted: [
      ip.protocol(frame, quoted),
      ip.formatIpv4Address(ip.source(frame, quoted)),
      ip.formatIpv4Address(ip.destination(frame, quoted)),
      udp.sourcePort(frame, quoted + ip.IPV4_HEADER),
      udp.destinationPort(frame, quoted + ip.IPV4_HEADER),
    ],
  };
}

/** The packet ends 7 bytes behind its IP header. */
export function udpDatagramCut(frame: Uint8Array): Uint8Array {
  const cut = frame.slice();
  setU16(cut, 16, 27);
  return summed(cut);
}

/** The first of several fragments. */
export function fragmentOf(frame: Uint8Array): Uint8Array {
  const fragment = frame.slice();
  setU16(fragment, 20, 0x2000);
  return summed(fragment);
}

/** With the IP header's checksum made right. */
function summed(frame: Uint8Array): Uint8Array {
  setU16(frame, 24, 0);
  setU16(frame, 24, ~sum16(frame, ETHERNET_HEADER, ip.IPV4_HEADER, 0));
  return frame;
}
