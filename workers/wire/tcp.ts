/** TCP headers (RFC 9293 §3.1), the options of SYN segments and the order of sequence numbers. */

import { setU16, setU32, u16, u32 } from './bytes.js';

/** Bytes of a header without options. */
export const TCP_HEADER = 20;

/** Control bits. */
export const TCP_FIN = 1;
export const TCP_SYN = 2;
export const TCP_RST = 4;
export const TCP_PSH = 8;
export const TCP_ACK = 16;
export const TCP_URG = 32;

const OPTION_END = 0;
const OPTION_NOP = 1;
const OPTION_MSS = 2;
const OPTION_WINDOW_SCALE = 3;
const OPTION_MSS_LENGTH = 4;
const OPTION_WINDOW_SCALE_LENGTH = 3;
const MAX_WINDOW_SCALE = 14; // RFC 7323 §2.3: a larger shift count is used as 14

/** The source port. */
export function sourcePort(buf: Uint8Array, off: number): number {
  return u16(buf, off);
}

/** The destination port. */
export function destinationPort(buf: Uint8Array, off: number): number {
  return u16(buf, off + 2);
}

/** The sequence number, a signed int32. */
export function sequence(buf: Uint8Array, off: number): number {
  return u32(buf, off + 4);
}

/** The acknowledgment number, a signed int32. */
export function acknowledgment(buf: Uint8Array, off: number): number {
  return u32(buf, off + 8);
}

/** Bytes of the header with its options, 0 to 60; valid from 20. */
export function dataOffset(buf: Uint8Array, off: number): number {
  return (buf[off + 12] >>> 4) << 2;
}

/** The eight control bits, CWR and ECE included. */
export function flags(buf: Uint8Array, off: number): number {
  return buf[off + 13];
}

/** The window field, not scaled. */
export function window(buf: Uint8Array, off: number): number {
  return u16(buf, off + 14);
}

/** What the options of a SYN announce. */
export class SynOptions {
  /** Maximum segment size (RFC 9293 §3.7.1), 0 when absent. */
  mss = 0;
  /** Window scale (RFC 7323 §2.2), 0 to 14, -1 when absent. */
  windowScale = -1;
}

/**
 * Reads the options of a SYN segment into `out`, which it resets first. Unknown options are skipped by their length
 * (RFC 9293 §3.1).
 *
 * @param off Where the first option begins.
 * @param length Bytes of options: the data offset less 20.
 * @returns False when an option's length is wrong, and reading stopped there; `out` keeps what came before.
 */
export function parseSynOptions(buf: Uint8Array, off: number, length: number, out: SynOptions): boolean {
  out.mss = 0;
  out.windowScale = -1;
  const end = off + length;
  let at = off;
  while (at < end) {
    const kind = buf[at];
    if (kind === OPTION_END) return true;
    if (kind === OPTION_NOP) {
      at++;
      continue;
    }
    if (at + 2 > end) return false;
    const optionLength = buf[at + 1];
    if (optionLength < 2 || at + optionLength > end) return false;
    if (kind === OPTION_MSS) {
      if (optionLength !== OPTION_MSS_LENGTH) return false;
      out.mss = u16(buf, at + 2);
    } else if (kind === OPTION_WINDOW_SCALE) {
      if (optionLength !== OPTION_WINDOW_SCALE_LENGTH) return false;
      const shift = buf[at + 2];
      out.windowScale = shift > MAX_WINDOW_SCALE ? MAX_WINDOW_SCALE : shift;
    }
    at += optionLength;
  }
  return true;
}

/**
 * Writes the 20 fixed bytes of a header at `off`, with the checksum and the urgent pointer 0.
 *
 * @param headerLength Bytes of the header with its options, a multiple of 4 from 20 to 60.
 * @param wnd The window as it goes on the wire: scaled down already.
 */
export function writeTcp(
  buf: Uint8Array,
  off: number,
  srcPort: number,
  dstPort: number,
  seq: number,
  ack: number,
  headerLength: number,
  controlBits: number,
  wnd: number,
): void {
  setU16(buf, off, srcPort);
  setU16(buf, off + 2, dstPort);
  setU32(buf, off + 4, seq);
  setU32(buf, off + 8, ack);
  buf[off + 12] = headerLength << 2;
  buf[off + 13] = controlBits;
  setU16(buf, off + 14, wnd);
  setU32(buf, off + 16, 0);
}

/**
 * Writes the options of a SYN at `off`: the maximum segment size, and the window scale unless `windowScale` is -1.
 *
 * @returns The bytes written, a multiple of 4.
 */
export function writeSynOptions(buf: Uint8Array, off: number, mss: number, windowScale: number): number {
  buf[off] = OPTION_MSS;
  buf[off + 1] = OPTION_MSS_LENGTH;
  setU16(buf, off + 2, mss);
  if (windowScale < 0) return OPTION_MSS_LENGTH;
  buf[off + 4] = OPTION_NOP;
  buf[off + 5] = OPTION_WINDOW_SCALE;
  buf[off + 6] = OPTION_WINDOW_SCALE_LENGTH;
  buf[off + 7] = windowScale;
  return OPTION_MSS_LENGTH + 1 + OPTION_WINDOW_SCALE_LENGTH;
}

/** Whether sequence number `a` comes before `b`, modulo 2^32 (RFC 9293 §3.4). */
export function seqLt(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}

/** Whether sequence number `a` comes after `b`. */
export function seqGt(a: number, b: number): boolean {
  return ((a - b) | 0) > 0;
}
