/**
 * Big-endian fields of packet headers (RFC 791 Appendix B: network byte order). The caller has checked that the bytes
 * are there. 32-bit values are signed throughout the data plane (`| 0`), so that V8 keeps them as small integers and
 * sequence numbers compare by the sign of their difference.
 */

/** The 16-bit field at `off`, 0 to 65535. */
export function u16(buf: Uint8Array, off: number): number {
  return (buf[off] << 8) | buf[off + 1];
}

/** The 32-bit field at `off`, as a signed int32. */
export function u32(buf: Uint8Array, off: number): number {
  return (buf[off] << 24) | (buf[off + 1] << 16) | (buf[off + 2] << 8) | buf[off + 3];
}

/** Writes the low 16 bits of `value` at `off`. */
export function setU16(buf: Uint8Array, off: number, value: number): void {
  buf[off] = value >>> 8;
  buf[off + 1] = value;
}

/** Writes the low 32 bits of `value`, signed or unsigned, at `off`. */
export function setU32(buf: Uint8Array, off: number, value: number): void {
  buf[off] = value >>> 24;
  buf[off + 1] = value >>> 16;
  buf[off + 2] = value >>> 8;
  buf[off + 3] = value;
}
