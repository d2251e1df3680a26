/** Ethernet II headers. */
import { setU16, u16 } from './bytes.js';

export const ETHERNET_HEADER = 14;
export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_IPV6 = 0x86dd;

export function etherType(buf: Uint8Array, off: number): number {
  return u16(buf, off + 12);
}

/** @param destination,source 6 bytes each */
export function writeEthernet(
  buf: Uint8Array,
  off: number,
  destination: Uint8Array,
  source: Uint8Array,
  type: number,
): void {
  for (let i = 0; i < 6; i++) {
    buf[off + i] = destination[i]!;
    buf[off + 6 + i] = source[i]!;
  }
  setU16(buf, off + 12, type);
}
