import { isIPv4 } from 'node:net';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as ipv4 from '../../../workers/wire/ipv4.js';

// The header of a UDP datagram of 115 bytes from 192.168.0.1 to 192.168.0.199, DF set, TTL 64; its checksum is 0xb861.
const KNOWN = Uint8Array.from(Buffer.from('45000073000040004011b861c0a80001c0a800c7', 'hex'));
const u16 = fc.nat(0xffff);

function accepts(text: string): boolean {
  try {
    ipv4.parseIpv4Address(text);
    return true;
  } catch {
    return false;
  }
}

describe('IPv4 header (RFC 791 §3.1)', () => {
  it('writes a known header byte for byte', () => {
    const bytes = new Uint8Array(20).fill(0xff);
    const source = ipv4.parseIpv4Address('192.168.0.1');
    ipv4.writeIpv4(bytes, 0, 0x73, 0, ipv4.PROTOCOL_UDP, source, ipv4.parseIpv4Address('192.168.0.199'));
    expect(bytes).toEqual(KNOWN);
  });

  it('reads back what was written, and touches nothing around it', () => {
    fc.assert(
      fc.property(u16, u16, fc.nat(255), fc.integer(), fc.integer(), (length, id, protocol, source, destination) => {
        const bytes = new Uint8Array(30).fill(0xa5);
        ipv4.writeIpv4(bytes, 5, length, id, protocol, source, destination);
        expect(ipv4.version(bytes, 5)).toBe(4);
        expect(ipv4.headerLength(bytes, 5)).toBe(20);
        expect(ipv4.totalLength(bytes, 5)).toBe(length);
        expect(ipv4.protocol(bytes, 5)).toBe(protocol);
        expect(ipv4.source(bytes, 5)).toBe(source);
        expect(ipv4.destination(bytes, 5)).toBe(destination);
        expect(ipv4.isFragment(bytes, 5)).toBe(false);
        expect(ipv4.headerChecksumOk(bytes, 5, 20)).toBe(true);
        expect([...bytes.subarray(0, 5), ...bytes.subarray(25)]).toEqual(Array.from({ length: 10 }, () => 0xa5));
      }),
    );
  });

  it('finds every single-bit error by the checksum', () => {
    for (let bit = 0; bit < 160; bit++) {
      const bytes = KNOWN.slice();
      bytes[bit >> 3] ^= 1 << (bit & 7);
      expect(ipv4.headerChecksumOk(bytes, 0, 20)).toBe(false);
    }
  });

  it('takes a datagram for a fragment when MF is set or the offset is not 0, whatever DF says', () => {
    const wrong: number[] = [];
    for (let field = 0; field <= 0xffff; field++) {
      const bytes = KNOWN.slice();
      bytes[6] = field >> 8;
      bytes[7] = field;
      const expected = (field & 0x2000) !== 0 || (field & 0x1fff) !== 0;
      if (ipv4.isFragment(bytes, 0) !== expected) wrong.push(field);
    }
    expect(wrong).toEqual([]);
  });
});

describe('IPv4 addresses as text', () => {
  it('reads what it writes', () => {
    fc.assert(
      fc.property(fc.integer(), (address) => {
        const text = ipv4.formatIpv4Address(address);
        expect(isIPv4(text)).toBe(true);
        expect(ipv4.parseIpv4Address(text)).toBe(address);
        expect(ipv4.formatIpv4Address(address >>> 0)).toBe(text);
      }),
    );
    expect(ipv4.parseIpv4Address('255.255.255.255')).toBe(-1);
    expect(ipv4.formatIpv4Address(0x0a00020f)).toBe('10.0.2.15');
  });

  it('refuses text that is no address', () => {
    const texts = [
      '',
      '10.0.2',
      '10.0.2.3.4',
      '10.0.2.256',
      '10.0.2.-1',
      '10.0.2.',
      '010.0.2.3',
      '1e1.0.2.3',
      ' 10.0.2.3',
    ];
    for (const text of texts) expect(() => ipv4.parseIpv4Address(text)).toThrow(RangeError);
    expect(() => ipv4.parseIpv4Address('gateway')).toThrow('"gateway" is not an IPv4 address');
  });

  it('accepts exactly what node:net accepts', () => {
    const part = fc.oneof(fc.nat(300).map(String), fc.constantFrom('00', '01', '', '+1', '0x1', ' 1', '1\n'));
    fc.assert(
      fc.property(fc.array(part, { minLength: 3, maxLength: 5 }), (parts) => {
        const text = parts.join('.');
        expect(accepts(text)).toBe(isIPv4(text));
      }),
    );
  });
});
