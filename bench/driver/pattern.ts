/**
 * The payload of every stream: byte n of a stream is byte n mod PATTERN_LENGTH of this pattern, so that a byte lost,
 * doubled or out of place shows. A datagram begins with its number, and goes on from the number's position. What
 * bench/native/serve.c sends is the same.
 */

/** A prime: no multiple of a segment's or buffer's size comes near it. */
export const PATTERN_LENGTH = 262_139;
/** The longest piece that is read in one go, and so how much of the pattern is repeated behind its end. */
export const PATTERN_SPARE = 65_536;

/** Bytes of a datagram's number; fewer if the datagram has fewer. */
export const DATAGRAM_NUMBER = 4;

/** Fills `bytes` with the pattern, over and over. */
export function fillPattern(bytes: Uint8Array): void {
  let state = 0x2545f491;
  for (let n = 0; n < Math.min(bytes.length, PATTERN_LENGTH); n++) {
    // xorshift32 (Marsaglia, 2003)
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[n] = state >>> 24;
  }
  for (let n = PATTERN_LENGTH; n < bytes.length; n += PATTERN_LENGTH) bytes.copyWithin(n, 0, PATTERN_LENGTH);
}
