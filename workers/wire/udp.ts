/** UDP headers (RFC 768). */

import { setU16, u16 } from './bytes.js';

/** Bytes of a header. */
export const UDP_HEADER = 8;

/** The source port. */
export function sourcePort(buf: Uint8Array, off: number): number {
  return u16(buf, off);
}

/** The destination port. */
export function destinationPort(buf: Uint8Array, off: number): number {
  return u16(buf, off + 2);
}

/** Bytes of the datagram, header included, as the header claims; valid from 8. */
export function datagramLength(buf: Uint8Array, off: number): number {
  return u16(buf, off + 4);
}

/** The checksum field; 0 says that the sender computed none. */
export function checksum(buf: Uint8Array, off: number): number {
  return u16(buf, off + 6);
}

/**
 * Writes a header at `off` with the checksum 0.
 *
 * @param length Bytes of the datagram, this header included.
 */
export function writeUdp(buf: Uint8Array, off: number, srcPort: number, dstPort: number, length: number): void {
  setU16(buf, off, srcPort);
  setU16(buf, off + 2, dstPort);
  setU16(buf, off + 4, length);
  setU16(buf, off + 6, 0);
}
