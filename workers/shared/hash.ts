/** Mixes all 32 bits: murmur3's 32-bit finaliser, every input bit flips every output bit with a probability near 1/2. */
function mix(word: number): number {
  let h = word ^ (word >>> 16);
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/**
 * Hash of a flow's key, 0 … 2^31 - 1 (a small integer to V8: never boxed; take as many low bits as needed).
 * Each word is mixed fully before the next comes in, so that what a peer may choose (addresses, ports) can't cancel
 * out without knowledge of `seed`: keep the seed secret and random, else a guest can flood one bucket.
 * `source` and `destination` are IPv4 addresses, `ports` is source port << 16 | destination port, all int32.
 */
export function hashTuple(seed: number, source: number, destination: number, ports: number, device: number): number {
  let h = seed ^ Math.imul(device + 1, 0x9e3779b1);
  h = mix(h ^ source);
  h = mix(h ^ destination);
  return mix(h ^ ports) >>> 1;
}
