/** Ethernet II frames (RFC 894): destination, source, type, then the payload. There are no VLAN tags. */

import { setU16, u16 } from './bytes.js';

/** Bytes of an Ethernet header. */
export const ETHERNET_HEADER = 14;

/** Types of payload (IEEE 802 numbers, IANA). */
export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;

/** The type field of the frame at `off`. */
export function etherType(buf: Uint8Array, off: number): number {
  return u16(buf, off + 12);
}

/** Writes the 14-byte header of a frame at `off`; the MAC addresses are 6 bytes each. */
export function writeEthernet(
  buf: Uint8Array,
  off: number,
  dstMac: Uint8Array,
  srcMac: Uint8Array,
  type: number,
): void {
  for (let i = 0; i < 6; i++) {
    buf[off + i] = dstMac[i];
    buf[off + 6 + i] = srcMac[i];
  }
  setU16(buf, off + 12, type);
}
