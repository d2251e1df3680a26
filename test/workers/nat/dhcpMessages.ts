/** Builds DHCP messages as a client sends them, and reads the server's answers with checks of their own. */

import { expect } from 'vitest';
import { type NetworkAddresses, DEFAULT_ADDRESSES } from '../../../workers/nat/addresses.js';
import { answerDhcp } from '../../../workers/nat/dhcp.js';
import { setU16, setU32 } from '../../../workers/wire/bytes.js';
import { formatIpv4Address, parseIpv4Address, writeIpv4 } from '../../../workers/wire/ipv4.js';

/** Where the options begin in a frame of `clientFrame`. */
export const OPTIONS_AT = 42 + 240;
export const MAC = '525400123456';
export const XID = 0x1badcafe;

/** What a client sends; what isn't given is 0 or empty. Addresses are text. */
export interface ClientFrame {
  /** Value of option 53; no such option when absent. */
  type?: number;
  /** Options after option 53, by code. */
  options?: Readonly<Record<number, readonly number[]>>;
  /** Bytes of the options field instead of option 53, `options` and END. */
  rawOptions?: readonly number[];
  flags?: number;
  ciaddr?: string;
  giaddr?: string;
  file?: readonly number[];
  sname?: readonly number[];
  /** IPv4 destination; the limited broadcast by default. */
  to?: string;
}

/** Bytes of an address given as text. */
export function address(text: string): number[] {
  return text.split('.').map(Number);
}

function optionBytes(client: ClientFrame): readonly number[] {
  if (client.rawOptions !== undefined) return client.rawOptions;
  const type = client.type === undefined ? [] : [53, 1, client.type];
  const rest = Object.entries(client.options ?? {}).flatMap(([code, value]) => [Number(code), value.length, ...value]);
  return [...type, ...rest, 255];
}

/** The Ethernet frame of a client's message. */
export function clientFrame(client: ClientFrame): Uint8Array {
  const options = optionBytes(client);
  const frame = new Uint8Array(OPTIONS_AT + options.length);
  frame.set(Buffer.from(`ffffffffffff${MAC}0800`, 'hex'));
  writeIpv4(frame, 14, frame.length - 14, 1, 17, 0, parseIpv4Address(client.to ?? '255.255.255.255'));
  setU16(frame, 34, 68);
  setU16(frame, 36, 67);
  setU16(frame, 38, frame.length - 34);
  const message = 42;
  frame.set([1, 1, 6, 0], message);
  setU32(frame, message + 4, XID);
  setU16(frame, message + 8, 3);
  setU16(frame, message + 10, client.flags ?? 0);
  setU32(frame, message + 12, parseIpv4Address(client.ciaddr ?? '0.0.0.0'));
  setU32(frame, message + 24, parseIpv4Address(client.giaddr ?? '0.0.0.0'));
  frame.set(Buffer.from(MAC, 'hex'), message + 28);
  frame.set(client.sname ?? [], message + 44);
  frame.set(client.file ?? [], message + 108);
  setU32(frame, message + 236, 0x63825363);
  frame.set(options, OPTIONS_AT);
  return frame;
}

/** An answer's fields. Addresses are text, MAC addresses hex. */
export interface Answer {
  type: number;
  toMac: string;
  to: string;
  flags: number;
  ciaddr: string;
  yiaddr: string;
  messageLength: number;
  datagramLength: number;
  /** Values of the options, by code. */
  options: Map<number, number[]>;
}

/** Runs the server on a frame lying at `off`. Undefined when it doesn't answer. */
export function exchange(
  frame: Uint8Array,
  config: NetworkAddresses = DEFAULT_ADDRESSES,
  off = 0,
  stale = 0xee,
): Answer | undefined {
  const buffer = new Uint8Array(off + frame.length);
  buffer.set(frame, off);
  const out = new Uint8Array(2048).fill(stale);
  const length = answerDhcp(buffer, off, frame.length, out, config);
  return length === 0 ? undefined : readAnswer(out.subarray(0, length), config);
}

/** Runs the server on a client's message, which it must answer. */
export function answered(client: ClientFrame, config: NetworkAddresses = DEFAULT_ADDRESSES): Answer {
  const answer = exchange(clientFrame(client), config);
  if (answer === undefined) throw new Error('no answer');
  return answer;
}

/** Checks what every answer must be like (RFC 791, RFC 768, RFC 2131 §2) and reads it. */
function readAnswer(frame: Uint8Array, config: NetworkAddresses): Answer {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const hex = (from: number, to: number): string => Buffer.from(frame.subarray(from, to)).toString('hex');
  const text = (at: number): string => formatIpv4Address(view.getInt32(at));

  expect(hex(6, 12)).toBe(Buffer.from(config.gatewayMac).toString('hex'));
  expect(hex(12, 15)).toBe('080045');
  expect(view.getUint16(16)).toBe(frame.length - 14);
  expect(hex(20, 24)).toBe('40004011'); // DF, TTL 64, UDP
  expect(onesComplementSum(frame.subarray(14, 34))).toBe(0xffff);
  expect(view.getInt32(26)).toBe(config.gateway);
  expect([view.getUint16(34), view.getUint16(36), view.getUint16(38)]).toEqual([67, 68, frame.length - 34]);
  expect(view.getUint16(40)).not.toBe(0);
  const pseudo = [...frame.subarray(26, 34), 0, 17, frame[38], frame[39]];
  expect(onesComplementSum(Uint8Array.from([...pseudo, ...frame.subarray(34)]))).toBe(0xffff);

  expect(hex(42, 46)).toBe('02010600');
  expect(view.getInt32(46)).toBe(XID);
  expect(hex(50, 52)).toBe('0000'); // secs
  expect(hex(62, 70)).toBe('0'.repeat(16)); // siaddr, giaddr
  expect(hex(70, 86)).toBe(MAC.padEnd(32, '0'));
  expect(hex(86, 278)).toBe('0'.repeat(384)); // sname, file
  expect(hex(278, 282)).toBe('63825363');

  const options = readOptions(frame);
  const type = options.get(53)?.[0] ?? 0;
  return {
    type,
    toMac: hex(0, 6),
    to: text(30),
    flags: view.getUint16(52),
    ciaddr: text(54),
    yiaddr: text(58),
    messageLength: frame.length - 42,
    datagramLength: frame.length - 14,
    options,
  };
}

/** Each option at most once, then END and nothing but zeros. */
function readOptions(frame: Uint8Array): Map<number, number[]> {
  const options = new Map<number, number[]>();
  let at = OPTIONS_AT;
  while (frame[at] !== 255) {
    const end = at + 2 + frame[at + 1];
    expect(end).toBeLessThan(frame.length);
    expect(options.has(frame[at])).toBe(false);
    options.set(frame[at], [...frame.subarray(at + 2, end)]);
    at = end;
  }
  expect(frame.subarray(at + 1).every((byte) => byte === 0)).toBe(true);
  return options;
}

function onesComplementSum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += bytes[i] * 256 + (bytes[i + 1] ?? 0);
    if (sum > 0xffff) sum -= 0xffff;
  }
  return sum;
}
