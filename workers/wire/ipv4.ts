/** IPv4 headers (RFC 791 §3.1) and the text form of addresses. */

import { setU16, setU32, u16, u32 } from './bytes.js';
import { sum16 } from './checksum.js';

/** Bytes of a header without options. */
export const IPV4_HEADER = 20;

/** Protocol numbers (IANA). */
export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;

const VERSION_4_NO_OPTIONS = 0x45;
const DONT_FRAGMENT = 0x4000;
const MORE_FRAGMENTS_OR_OFFSET = 0x3fff;
const TTL = 64; // RFC 1700's recommended default

/** The version field: 4 for IPv4. */
export function version(buf: Uint8Array, off: number): number {
  return buf[off] >>> 4;
}

/** Bytes of the header with its options, 0 to 60; valid from 20. */
export function headerLength(buf: Uint8Array, off: number): number {
  return (buf[off] & 0x0f) << 2;
}

/** Bytes of the datagram, header included, as the header claims. */
export function totalLength(buf: Uint8Array, off: number): number {
  return u16(buf, off + 2);
}

/** Whether the datagram is one fragment of several: MF is set or the fragment offset is not 0. */
export function isFragment(buf: Uint8Array, off: number): boolean {
  return (u16(buf, off + 6) & MORE_FRAGMENTS_OR_OFFSET) !== 0;
}

/** The protocol of the payload. */
export function protocol(buf: Uint8Array, off: number): number {
  return buf[off + 9];
}

/** The source address. */
export function source(buf: Uint8Array, off: number): number {
  return u32(buf, off + 12);
}

/** The destination address. */
export function destination(buf: Uint8Array, off: number): number {
  return u32(buf, off + 16);
}

/** Whether the header checksum over `len` bytes (the header with its options) is right. */
export function headerChecksumOk(buf: Uint8Array, off: number, len: number): boolean {
  return sum16(buf, off, len, 0) === 0xffff;
}

/**
 * Writes a 20-byte header at `off`, checksum included: DF set, TTL 64, no options.
 *
 * @param length Bytes of the datagram, this header included.
 * @param id Identification; its low 16 bits are used.
 */
export function writeIpv4(
  buf: Uint8Array,
  off: number,
  length: number,
  id: number,
  payloadProtocol: number,
  src: number,
  dst: number,
): void {
  buf[off] = VERSION_4_NO_OPTIONS;
  buf[off + 1] = 0;
  setU16(buf, off + 2, length);
  setU16(buf, off + 4, id);
  setU16(buf, off + 6, DONT_FRAGMENT);
  buf[off + 8] = TTL;
  buf[off + 9] = payloadProtocol;
  setU16(buf, off + 10, 0);
  setU32(buf, off + 12, src);
  setU32(buf, off + 16, dst);
  setU16(buf, off + 10, ~sum16(buf, off, IPV4_HEADER, 0));
}

/**
 * The address that dotted-decimal text names, as a signed int32.
 *
 * @throws {RangeError} The text is not four decimal numbers, 0 to 255 and without leading zeros, between dots.
 */
export function parseIpv4Address(text: string): number {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255)) {
    throw new RangeError(
      `${JSON.stringify(text)} is not an IPv4 address: give four numbers from 0 to 255, as in 10.0.2.15`,
    );
  }
  return parts.reduce((address, part) => (address << 8) | Number(part), 0);
}

/** Dotted-decimal text of an address, signed or unsigned. */
export function formatIpv4Address(n: number): string {
  return `${n >>> 24}.${(n >>> 16) & 0xff}.${(n >>> 8) & 0xff}.${n & 0xff}`;
}
