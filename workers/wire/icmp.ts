/** ICMP error messages (RFC 792). */
import { setU16, setU32 } from './bytes.js';
import { sum16 } from './checksum.js';

/** Bytes before the datagram that an error message is about. */
export const ICMP_HEADER = 8;

export const ICMP_UNREACHABLE = 3;
export const ICMP_TIME_EXCEEDED = 11;

/** Codes of ICMP_UNREACHABLE (RFC 792, RFC 1812 §5.2.7.1). */
export const NET_UNREACHABLE = 0;
export const HOST_UNREACHABLE = 1;
export const PROTOCOL_UNREACHABLE = 2;
export const PORT_UNREACHABLE = 3;
export const FRAGMENTATION_NEEDED = 4;
export const ADMINISTRATIVELY_PROHIBITED = 13;

/** Writes the header of an error message at `off`, its checksum over the `quoted` bytes that stand behind it already. */
export function writeIcmpError(buf: Uint8Array, off: number, type: number, code: number, quoted: number): void {
  buf[off] = type;
  buf[off + 1] = code;
  setU16(buf, off + 2, 0);
  setU32(buf, off + 4, 0);
  setU16(buf, off + 2, ~sum16(buf, off, ICMP_HEADER + quoted, 0));
}
