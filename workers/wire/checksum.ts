/** The Internet checksum (RFC 1071): sums folded to 16 bits, not inverted. */

function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded >>> 16) + (folded & 0xffff);
  return folded;
}

/** Sum of `length` bytes (at most 64 KiB) on top of `seed`. */
export function sum16(buf: Uint8Array, off: number, length: number, seed: number): number {
  let sum = seed;
  let at = off;
  for (const end = off + length - 1; at < end; at += 2) sum += (buf[at]! << 8) | buf[at + 1]!;
  if (length % 2 === 1) sum += buf[at]! << 8;
  return fold(sum);
}

/** Sum of the pseudo-header that TCP and UDP checksums begin with (RFC 9293 §3.1). */
export function pseudoHeaderSum(source: number, destination: number, protocol: number, length: number): number {
  return fold((source >>> 16) + (source & 0xffff) + (destination >>> 16) + (destination & 0xffff) + protocol + length);
}
