import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEFAULT_ADDRESSES } from '../../../workers/nat/addresses.js';
import { answerArp } from '../../../workers/nat/arp.js';
import { setU32 } from '../../../workers/wire/bytes.js';
import { parseIpv4Address } from '../../../workers/wire/ipv4.js';

const FRAME = 42;
const GUEST_MAC = '525400123456';
const GATEWAY_MAC = '52550a000202';

/** A broadcast request by the guest at 10.0.2.15 for `target`. */
function request(target: number): Uint8Array {
  const hex = `ffffffffffff${GUEST_MAC}08060001080006040001${GUEST_MAC}0a00020f00000000000000000000`;
  const frame = Uint8Array.from(Buffer.from(hex, 'hex'));
  setU32(frame, 38, target);
  return frame;
}

/** The reply to a frame lying at `off`, as hex; '' when there is none. */
function answer(frame: Uint8Array, off = 0, length = frame.length): string {
  const buffer = new Uint8Array(off + frame.length);
  buffer.set(frame, off);
  const out = new Uint8Array(128).fill(0xee);
  const replied = answerArp(buffer, off, length, out, DEFAULT_ADDRESSES);
  expect(out.subarray(replied).every((byte) => byte === 0xee)).toBe(true);
  return Buffer.from(out.subarray(0, replied)).toString('hex');
}

function expectedReply(addressHex: string): string {
  const header = `${GUEST_MAC}${GATEWAY_MAC}0806`;
  return `${header}0001080006040002${GATEWAY_MAC}${addressHex}${GUEST_MAC}0a00020f`.padEnd(120, '0');
}

describe('answerArp', () => {
  it('RFC 826: answers requests for the gateway and the DNS server with the gateway’s MAC', () => {
    expect(answer(request(DEFAULT_ADDRESSES.gateway))).toBe(expectedReply('0a000202'));
    expect(answer(request(DEFAULT_ADDRESSES.dns), 7)).toBe(expectedReply('0a000203'));
  });

  it('RFC 5227 §2.1.1: leaves the guest’s own address, and every other, to whoever has it', () => {
    expect(answer(request(DEFAULT_ADDRESSES.guest))).toBe('');
    const others = fc.integer().filter((a) => a !== DEFAULT_ADDRESSES.gateway && a !== DEFAULT_ADDRESSES.dns);
    fc.assert(
      fc.property(others, (target) => {
        expect(answer(request(target))).toBe('');
      }),
    );
  });

  it('RFC 5227 §2.1.1: answers a probe, which has no sender address', () => {
    const probe = request(DEFAULT_ADDRESSES.gateway);
    setU32(probe, 28, 0);
    expect(answer(probe)).toBe(expectedReply('0a000202').replace('0a00020f', '00000000'));
  });

  it('RFC 826: ignores replies, other protocols, hardware and address lengths', () => {
    for (let at = 14; at < 22; at++) {
      const frame = request(DEFAULT_ADDRESSES.gateway);
      frame[at] ^= 3;
      expect(answer(frame)).toBe('');
    }
  });

  it('answers no frame cut short, nor reads the bytes behind it', () => {
    const frame = request(DEFAULT_ADDRESSES.gateway);
    for (let length = 0; length < FRAME; length++) {
      expect(answer(frame, 0, length)).toBe('');
      expect(answer(frame.slice(0, length), 3)).toBe('');
    }
  });

  it('answers a frame padded to Ethernet’s minimum', () => {
    const frame = new Uint8Array(60).fill(0x77);
    frame.set(request(parseIpv4Address('10.0.2.2')));
    expect(answer(frame)).toBe(expectedReply('0a000202'));
  });
});
