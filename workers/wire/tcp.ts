/** TCP headers (RFC 9293 §3.1) and the options of a SYN. */
import { setU16, setU32, u16, u32 } from './bytes.js';

/** Bytes of a header without options. */
export const TCP_HEADER = 20;

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
/** RFC 7323 §2.3. */
const MAX_WINDOW_SCALE = 14;

export function sourcePort(buf: Uint8Array, off: number): number {
  return u16(buf, off);
}

export function destinationPort(buf: Uint8Array, off: number): number {
  return u16(buf, off + 2);
}

export function sequence(buf: Uint8Array, off: number): number {
  return u32(buf, off + 4);
}

export function acknowledgment(buf: Uint8Array, off: number): number {
  return u32(buf, off + 8);
}

/** Bytes of the header, options included, as it says itself. */
export function dataOffset(buf: Uint8Array, off: number): number {
  return (buf[off + 12]! >> 4) * 4;
}

export function flags(buf: Uint8Array, off: number): number {
  return buf[off + 13]! & 0x3f;
}

/** As it stands, not scaled. */
export function window(buf: Uint8Array, off: number): number {
  return u16(buf, off + 14);
}

/** Options of a SYN. */
export class SynOptions {
  /** 0: absent. */
  mss = 0;
  /** -1: absent. */
  windowScale = -1;
}

/** Reads `length` bytes of options. False, with what came before, at an option whose length is wrong (RFC 9293 §3.1). */
export function parseSynOptions(buf: Uint8Array, off: number, length: number, out: SynOptions): boolean {
  out.mss = 0;
  out.windowScale = -1;
  const end = off + length;
  let at = off;
  while (at < end && buf[at] !== OPTION_END) {
    if (buf[at] === OPTION_NOP) {
      at++;
      continue;
    }
    if (at + 1 >= end) return false;
    const size = buf[at + 1]!;
    if (size < 2 || at + size > end) return false;
    if (buf[at] === OPTION_MSS && size === 4) out.mss = u16(buf, at + 2);
    if (buf[at] === OPTION_WINDOW_SCALE && size === 3) out.windowScale = Math.min(buf[at + 2]!, MAX_WINDOW_SCALE);
    at += size;
  }
  return true;
}

/** Writes MSS and window scale (-1: none). Returns the bytes written, a multiple of 4. */
export function writeSynOptions(buf: Uint8Array, off: number, mss: number, windowScale: number): number {
  buf[off] = OPTION_MSS;
  buf[off + 1] = 4;
  setU16(buf, off + 2, mss);
  if (windowScale < 0) return 4;
  buf[off + 4] = OPTION_NOP;
  buf[off + 5] = OPTION_WINDOW_SCALE;
  buf[off + 6] = 3;
  buf[off + 7] = windowScale;
  return 8;
}

/** Writes a header; checksum and urgent pointer are 0. `headerLength` counts options, in bytes. */
export function writeTcp(
  buf: Uint8Array,
  off: number,
  from: number,
  to: number,
  seq: number,
  ack: number,
  headerLength: number,
  bits: number,
  wnd: number,
): void {
  setU16(buf, off, from);
  setU16(buf, off + 2, to);
  setU32(buf, off + 4, seq);
  setU32(buf, off + 8, ack);
  buf[off + 12] = headerLength << 2;
  buf[off + 13] = bits;
  setU16(buf, off + 14, wnd);
  setU32(buf, off + 16, 0);
}
