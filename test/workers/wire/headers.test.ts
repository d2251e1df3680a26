import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as ethernet from '../../../workers/wire/ethernet.js';
import * as udp from '../../../workers/wire/udp.js';

describe('Ethernet header (RFC 894)', () => {
  it('is destination, source, type', () => {
    const mac = fc.uint8Array({ minLength: 6, maxLength: 6 });
    fc.assert(
      fc.property(mac, mac, fc.nat(0xffff), (destination, source, type) => {
        const bytes = new Uint8Array(20).fill(0xa5);
        ethernet.writeEthernet(bytes, 3, destination, source, type);
        const header = [...destination, ...source, type >> 8, type & 0xff];
        expect([...bytes]).toEqual([0xa5, 0xa5, 0xa5, ...header, 0xa5, 0xa5, 0xa5]);
        expect(ethernet.etherType(bytes, 3)).toBe(type);
      }),
    );
    expect([ethernet.ETHERTYPE_IPV4, ethernet.ETHERTYPE_ARP]).toEqual([0x800, 0x806]);
  });
});

describe('UDP header (RFC 768)', () => {
  it('reads back what was written, the checksum zeroed', () => {
    const field = fc.nat(0xffff);
    fc.assert(
      fc.property(field, field, field, (source, destination, length) => {
        const bytes = new Uint8Array(12).fill(0xa5);
        udp.writeUdp(bytes, 2, source, destination, length);
        expect(udp.sourcePort(bytes, 2)).toBe(source);
        expect(udp.destinationPort(bytes, 2)).toBe(destination);
        expect(udp.datagramLength(bytes, 2)).toBe(length);
        expect(udp.checksum(bytes, 2)).toBe(0);
        expect([bytes[0], bytes[1], bytes[10], bytes[11]]).toEqual([0xa5, 0xa5, 0xa5, 0xa5]);
      }),
    );
    const bytes = Uint8Array.of(0, 0, 0, 0, 0, 0, 0x12, 0x34);
    expect(udp.checksum(bytes, 0)).toBe(0x1234);
  });
});
