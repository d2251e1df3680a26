/** The Internet checksum (RFC 1071): one's complement sums of 16-bit words, passed as seed from one piece to the next. */

/**
 * The one's complement sum of `len` bytes at `off` and `seed`, folded to 16 bits and not inverted: the checksum field
 * is `~sum16(…) & 0xffff` with that field 0, and a range that holds a right checksum sums to 0xffff. An odd last byte is
 * padded with a zero (RFC 1071 §1), so only the last piece of several may have an odd length.
 *
 * @param len At most 65535: the sum then stays below 2^32.
 * @param seed A sum of earlier pieces, 0 to 0xffff.
 */
export function sum16(buf: Uint8Array, off: number, len: number, seed: number): number {
  let sum = seed;
  const end = off + len;
  const evenEnd = end - (len & 1);
  for (let i = off; i < evenEnd; i += 2) sum += (buf[i] << 8) | buf[i + 1];
  if (evenEnd < end) sum += buf[evenEnd] << 8;
  return fold(sum);
}

/**
 * The sum of the pseudo-header that TCP and UDP checksums cover (RFC 9293 §3.1, RFC 768).
 *
 * @param source, destination IPv4 addresses.
 * @param length Bytes of the TCP segment or UDP datagram, header included.
 */
export function pseudoHeaderSum(source: number, destination: number, protocol: number, length: number): number {
  return fold((source >>> 16) + (source & 0xffff) + (destination >>> 16) + (destination & 0xffff) + protocol + length);
}

function fold(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}
