/** IPv4 headers (RFC 791). Addresses are signed 32-bit integers in host order. */
import { setU16, setU32, u16, u32 } from './bytes.js';
import { sum16 } from './checksum.js';

/** Bytes of a header without options. */
export const IPV4_HEADER = 20;
export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;

const DONT_FRAGMENT = 0x4000;
const FRAGMENT_BITS = 0x3fff; // MF and the offset
const TTL = 64;

export function version(buf: Uint8Array, off: number): number {
  return buf[off]! >> 4;
}

/** Bytes of the header, as it says itself. */
export function headerLength(buf: Uint8Array, off: number): number {
  return (buf[off]! & 0xf) * 4;
}

export function totalLength(buf: Uint8Array, off: number): number {
  return u16(buf, off + 2);
}

/** A piece of a larger packet, the first included. */
export function isFragment(buf: Uint8Array, off: number): boolean {
  return (u16(buf, off + 6) & FRAGMENT_BITS) !== 0;
}

export function protocol(buf: Uint8Array, off: number): number {
  return buf[off + 9]!;
}

export function source(buf: Uint8Array, off: number): number {
  return u32(buf, off + 12);
}

export function destination(buf: Uint8Array, off: number): number {
  return u32(buf, off + 16);
}

export function headerChecksumOk(buf: Uint8Array, off: number, length: number): boolean {
  return sum16(buf, off, length, 0) === 0xffff;
}

/** Writes a header without options, with its checksum; the packet may not be fragmented. */
export function writeIpv4(
  buf: Uint8Array,
  off: number,
  total: number,
  id: number,
  kind: number,
  from: number,
  to: number,
): void {
  setU16(buf, off, 0x4500);
  setU16(buf, off + 2, total);
  setU16(buf, off + 4, id);
  setU16(buf, off + 6, DONT_FRAGMENT);
  buf[off + 8] = TTL;
  buf[off + 9] = kind;
  setU16(buf, off + 10, 0);
  setU32(buf, off + 12, from);
  setU32(buf, off + 16, to);
  setU16(buf, off + 10, ~sum16(buf, off, IPV4_HEADER, 0) & 0xffff);
}

/** @throws {RangeError} for what is no dotted quad */
export function parseIpv4Address(text: string): number {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1).map(Number);
  if (parts === undefined || parts.some((part) => part > 255)) throw new RangeError(`"${text}" is no IPv4 address`);
  return parts.reduce((address, part) => (address << 8) | part, 0);
}

export function formatIpv4Address(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join('.');
}
