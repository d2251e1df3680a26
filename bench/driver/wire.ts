/** Sizes, constants and byte order of the packet formats (IEEE 802.3, RFC 791, 826, 9293). */

export const ETHERNET_HEADER = 14;
export const IP_HEADER = 20;
export const TCP_HEADER = 20;
export const UDP_HEADER = 8;
/** Bytes of the largest IPv4 packet. */
export const LARGEST_DATAGRAM = 65_535;

/** EtherTypes and protocol numbers as 16-bit words of memory, which is little-endian. */
export const ETHERTYPE_IPV4 = 0x0008;
export const ETHERTYPE_ARP = 0x0608;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
/** Version 4, five words of header, no type of service: the first word of every header here. */
export const IP_VERSION_WORD = 0x0045;

export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const PSH = 0x08;
export const ACK = 0x10;

/** Between host order and the order of memory. */
export function swap16(value: number): number {
  return ((value & 0xff) << 8) | ((value >>> 8) & 0xff);
}

/** Folds a sum of 16-bit words to 16 bits, carries added back in (RFC 1071). */
export function fold(sum: number): number {
  let folded = (sum & 0xffff) + (sum >>> 16);
  folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}

/** Writes a 32-bit number in network order at 16-bit word `word`. */
export function putU32(u16: Uint16Array, word: number, value: number): void {
  u16[word] = swap16(value >>> 16);
  u16[word + 1] = swap16(value);
}

/** Reads a 32-bit number in network order, as a signed integer. */
export function getU32(u16: Uint16Array, word: number): number {
  return (swap16(u16[word]) << 16) | swap16(u16[word + 1]);
}

/** The sum of an address's two words as they lie in memory. */
export function addressSum(address: number): number {
  return swap16(address >>> 16) + swap16(address);
}

/** Bytes from the start of a protocol's header to its checksum. */
export function checksumField(protocol: number): number {
  return protocol === PROTOCOL_TCP ? 16 : 6;
}
