import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEFAULT_ADDRESSES } from '../../../workers/nat/addresses.js';
import { answerDhcp } from '../../../workers/nat/dhcp.js';
import { setU16, u16 } from '../../../workers/wire/bytes.js';
import { parseIpv4Address, writeIpv4 } from '../../../workers/wire/ipv4.js';
import { type ClientFrame, MAC, OPTIONS_AT, address, answered, clientFrame, exchange } from './dhcpMessages.js';

const DISCOVER = 1;
const OFFER = 2;
const REQUEST = 3;
const DECLINE = 4;
const ACK = 5;
const NAK = 6;
const RELEASE = 7;
const INFORM = 8;
const BROADCAST = 0x8000;

const GUEST = '10.0.2.15';
const SERVER = address('10.0.2.2');
const ADDRESS_ELSEWHERE = '192.168.1.7';

const selecting: ClientFrame = { type: REQUEST, options: { 50: address(GUEST), 54: SERVER } };
const rebooting: ClientFrame = { type: REQUEST, options: { 50: address(GUEST) } };
const renewing: ClientFrame = { type: REQUEST, ciaddr: GUEST, to: '10.0.2.2' };
const rebinding: ClientFrame = { type: REQUEST, ciaddr: GUEST };

const NETWORK_OPTIONS = {
  1: address('255.255.255.0'),
  3: SERVER,
  6: address('10.0.2.3'),
  26: [0x05, 0xdc],
  28: address('10.0.2.255'),
};
// 86400 s, its half and seven eighths.
const LEASE_OPTIONS = { 51: [0, 1, 0x51, 0x80], 58: [0, 0, 0xa8, 0xc0], 59: [0, 1, 0x27, 0x50] };

function options(answer: { options: Map<number, number[]> }): Record<number, number[]> {
  return Object.fromEntries(answer.options);
}

describe('answerDhcp: messages (RFC 2131 §4.3)', () => {
  it('§4.3.1: DISCOVER gets an OFFER of the guest’s address with all options', () => {
    const offer = answered({ type: DISCOVER });
    expect(offer).toMatchObject({ type: OFFER, yiaddr: GUEST, ciaddr: '0.0.0.0' });
    expect(options(offer)).toEqual({ 53: [OFFER], 54: SERVER, ...NETWORK_OPTIONS, ...LEASE_OPTIONS });
  });

  it('§4.3.1: DISCOVER gets the guest’s address whatever it asks for', () => {
    expect(answered({ type: DISCOVER, options: { 50: address(ADDRESS_ELSEWHERE) } }).yiaddr).toBe(GUEST);
  });

  it.each([
    ['selecting', selecting],
    ['init-reboot', rebooting],
    ['renewing', renewing],
    ['rebinding', rebinding],
  ])('§4.3.2: REQUEST for the guest’s address gets an ACK: %s', (_state, request) => {
    const ack = answered(request);
    expect(ack).toMatchObject({ type: ACK, yiaddr: GUEST, ciaddr: request.ciaddr ?? '0.0.0.0' });
    expect(options(ack)).toEqual({ 53: [ACK], 54: SERVER, ...NETWORK_OPTIONS, ...LEASE_OPTIONS });
  });

  it.each([
    ['selecting', { ...selecting, options: { 50: address(ADDRESS_ELSEWHERE), 54: SERVER } }],
    ['init-reboot', { ...rebooting, options: { 50: address(ADDRESS_ELSEWHERE) } }],
    ['renewing', { ...renewing, ciaddr: ADDRESS_ELSEWHERE }],
    ['rebinding', { ...rebinding, ciaddr: '10.0.2.16' }],
  ])('§4.3.2: REQUEST for another address gets a NAK, broadcast and without parameters: %s', (_state, request) => {
    const nak = answered(request);
    expect(nak).toMatchObject({ type: NAK, yiaddr: '0.0.0.0', ciaddr: '0.0.0.0' });
    expect(nak).toMatchObject({ to: '255.255.255.255', toMac: 'ffffffffffff' });
    expect(options(nak)).toEqual({ 53: [NAK], 54: SERVER });
  });

  it('§4.3.2: REQUEST that selects another server gets no answer', () => {
    const chosen = { 50: address(GUEST), 54: address('10.0.2.3') };
    expect(exchange(clientFrame({ type: REQUEST, options: chosen }))).toBeUndefined();
  });

  it('§4.3.5: INFORM gets an ACK to ciaddr, without address and lease', () => {
    const ack = answered({ type: INFORM, ciaddr: '10.0.2.77', flags: BROADCAST });
    expect(ack).toMatchObject({ type: ACK, yiaddr: '0.0.0.0', ciaddr: '10.0.2.77', to: '10.0.2.77', toMac: MAC });
    expect(options(ack)).toEqual({ 53: [ACK], 54: SERVER, ...NETWORK_OPTIONS });
  });

  it('§4.3.5: INFORM without an address is answered to all', () => {
    expect(answered({ type: INFORM })).toMatchObject({ to: '255.255.255.255', toMac: 'ffffffffffff' });
  });

  it('§4.3.3, §4.3.4: DECLINE, RELEASE, servers’ messages and BOOTP’s get no answer', () => {
    const types = Array.from({ length: 256 }, (_, type) => type);
    const silent = types.filter((type) => exchange(clientFrame({ ...selecting, type })) === undefined);
    expect(silent).toEqual(types.filter((type) => type !== DISCOVER && type !== REQUEST && type !== INFORM));
    expect(silent).toContain(DECLINE);
    expect(silent).toContain(RELEASE);
    expect(exchange(clientFrame({}))).toBeUndefined();
  });
});

describe('answerDhcp: where answers go (RFC 2131 §4.1)', () => {
  it('to chaddr and yiaddr without the broadcast flag, to all with it; flags come back', () => {
    for (const request of [{ type: DISCOVER }, selecting, rebooting]) {
      expect(answered(request)).toMatchObject({ to: GUEST, toMac: MAC, flags: 0 });
      const broadcast = answered({ ...request, flags: BROADCAST });
      expect(broadcast).toMatchObject({ to: '255.255.255.255', toMac: 'ffffffffffff', flags: BROADCAST });
    }
  });

  it('to ciaddr when there is one, whatever the flag', () => {
    for (const request of [renewing, rebinding]) {
      expect(answered({ ...request, flags: BROADCAST })).toMatchObject({ to: GUEST, toMac: MAC });
    }
  });

  it('answers what is sent to the gateway, the subnet or all, and nothing sent elsewhere', () => {
    const to = ['255.255.255.255', '10.0.2.255', '10.0.2.2', '10.0.2.3', '192.168.1.1', '10.0.3.255'];
    const heard = to.filter((server) => exchange(clientFrame({ ...rebinding, to: server })) !== undefined);
    expect(heard).toEqual(to.slice(0, 3));
  });

  it('§4.3.1: answers no relayed message: there are no addresses for other links', () => {
    expect(exchange(clientFrame({ type: DISCOVER, giaddr: '10.0.2.2' }))).toBeUndefined();
  });
});

describe('answerDhcp: options (RFC 2132)', () => {
  it('take their values from the configuration', () => {
    const config = {
      guest: parseIpv4Address('172.16.5.9'),
      gateway: parseIpv4Address('172.16.4.1'),
      dns: parseIpv4Address('172.16.4.2'),
      netmask: parseIpv4Address('255.255.252.0'),
      gatewayMac: Uint8Array.of(2, 0, 0, 0, 0, 1),
      mtu: 9000,
      leaseSeconds: 0xffffffff,
    };
    const offer = answered({ type: DISCOVER }, config);
    expect(offer.yiaddr).toBe('172.16.5.9');
    expect(options(offer)).toEqual({
      53: [OFFER],
      54: address('172.16.4.1'),
      1: address('255.255.252.0'),
      3: address('172.16.4.1'),
      6: address('172.16.4.2'),
      26: [0x23, 0x28],
      28: address('172.16.7.255'),
      51: [255, 255, 255, 255],
      58: [0x7f, 255, 255, 255],
      59: [0xdf, 255, 255, 255],
    });
  });

  it('§3.3: the subnet mask comes before the router', () => {
    const codes = [...answered({ type: DISCOVER }).options.keys()];
    expect(codes.indexOf(1)).toBeLessThan(codes.indexOf(3));
  });

  it('RFC 6842 §3: the client identifier comes back in OFFER, ACK and NAK', () => {
    const identifiers = fc.uint8Array({ minLength: 2, maxLength: 255 }).map((bytes) => [...bytes]);
    const requests = fc.constantFrom<ClientFrame>(
      { type: DISCOVER },
      selecting,
      { ...rebinding, ciaddr: ADDRESS_ELSEWHERE },
      { type: INFORM, ciaddr: GUEST },
    );
    fc.assert(
      fc.property(requests, identifiers, (request, identifier) => {
        const answer = answered({ ...request, options: { ...request.options, 61: identifier } });
        expect(answer.options.get(61)).toEqual(identifier);
      }),
    );
  });

  it('RFC 2131 §2: answers stay within 576 bytes unless the client takes more (RFC 2132 §9.10)', () => {
    const identifier = Array.from({ length: 255 }, (_, i) => i);
    const limited = answered({ type: DISCOVER, options: { 61: identifier } });
    expect(limited.datagramLength).toBeLessThanOrEqual(576);
    expect([51, 54, 1, 3, 6, 61].filter((code) => !limited.options.has(code))).toEqual([]);
    const lengths = Array.from({ length: 256 }, (_, length) => length);
    const sizes = lengths.map(
      (length) => answered({ type: DISCOVER, options: { 61: identifier.slice(0, length) } }).datagramLength,
    );
    expect(Math.max(...sizes)).toBe(576);
    const small = answered({ type: DISCOVER, options: { 57: [0, 100], 61: identifier } });
    expect(options(small)).toEqual(options(limited));
    const large = answered({ type: DISCOVER, options: { 57: [5, 0xdc], 61: identifier } });
    expect(large.options.size).toBe(11);
    const narrow = answered(
      { type: DISCOVER, options: { 57: [5, 0xdc], 61: identifier } },
      { ...DEFAULT_ADDRESSES, mtu: 576 },
    );
    expect(narrow.datagramLength).toBeLessThanOrEqual(576);
  });

  it('RFC 768: a checksum that comes out as 0 is sent as 0xffff', () => {
    const frame = clientFrame({ type: DISCOVER, options: { 61: [0, 0] } });
    const identifierAt = OPTIONS_AT + 5;
    const out = new Uint8Array(700);
    const seen = new Set<number>();
    for (let identifier = 0; identifier <= 0xffff; identifier++) {
      setU16(frame, identifierAt, identifier);
      answerDhcp(frame, 0, frame.length, out, DEFAULT_ADDRESSES);
      seen.add(u16(out, 40));
    }
    expect(seen.has(0)).toBe(false);
    expect(seen.size).toBe(0xffff);
  });

  it('RFC 1542 §2.1: a message is at least 300 bytes long', () => {
    for (const request of [{ type: DISCOVER }, selecting, { ...rebinding, ciaddr: ADDRESS_ELSEWHERE }]) {
      expect(answered(request).messageLength).toBeGreaterThanOrEqual(300);
    }
  });

  it('RFC 2131 §4.1: options overloaded into file and sname are read where option 52 says so', () => {
    const file = [50, 4, ...address(GUEST), 255];
    const sname = [0, 0, 53, 1, REQUEST, 255];
    const both = { file, sname };
    const overload = (value: number): ClientFrame => ({ ...both, rawOptions: [52, 1, value, 255] });
    expect(answered(overload(3))).toMatchObject({ type: ACK, yiaddr: GUEST });
    expect(answered(overload(2))).toMatchObject({ type: NAK });
    expect(exchange(clientFrame(overload(1)))).toBeUndefined();
    expect(exchange(clientFrame(overload(0)))).toBeUndefined();
    expect(exchange(clientFrame({ ...both, rawOptions: [255] }))).toBeUndefined();
  });

  it('RFC 2131 §4.1: an overloaded field may be filled to its last byte, and not beyond', () => {
    const full = [...Array.from({ length: 58 }, () => 0), 50, 4, ...address(GUEST)];
    expect(answered({ sname: full, rawOptions: [53, 1, REQUEST, 52, 1, 2, 255] }).type).toBe(ACK);
    const over = [...Array.from({ length: 59 }, () => 0), 50, 4, ...address(GUEST).slice(0, 3)];
    const beyond = { sname: over, file: [15], rawOptions: [53, 1, REQUEST, 52, 1, 2, 255] };
    expect(exchange(clientFrame(beyond))).toBeUndefined();
    const file = [...Array.from({ length: 126 }, () => 0), 50, 4]; // the cookie would be its value
    expect(exchange(clientFrame({ file, rawOptions: [53, 1, REQUEST, 52, 1, 1, 255] }))).toBeUndefined();
  });

  it('§3.1, §3.2: pads are skipped and nothing after END is read', () => {
    expect(answered({ rawOptions: [0, 0, 53, 1, DISCOVER, 0, 255, 53, 1, REQUEST, 50, 99] }).type).toBe(OFFER);
  });

  it('malformed options: the message gets no answer', () => {
    const malformed = [
      [53],
      [53, 2, 1, 1],
      [53, 0],
      [50],
      [50, 4, 10, 0, 2],
      [50, 3, 10, 0, 2],
      [50, 5, 10, 0, 2, 15, 0],
    ];
    malformed.push([54, 0], [54, 5, 1, 2, 3, 4, 5], [57, 1, 2], [52, 2, 1, 1], [52, 0], [61, 7, 1], [200], [200, 255]);
    for (const option of malformed) {
      expect(exchange(clientFrame({ rawOptions: [53, 1, DISCOVER, ...option] }))).toBeUndefined();
    }
  });
});

describe('answerDhcp: bytes that may be anything', () => {
  it('answers no message that is another’s or no DHCP (RFC 2131 §2)', () => {
    const [op, htype, hlen, cookie] = [42, 43, 44, 278];
    for (const at of [op, htype, hlen, cookie, cookie + 1, cookie + 2, cookie + 3]) {
      const frame = clientFrame({ type: DISCOVER });
      frame[at] ^= 2;
      expect(exchange(frame)).toBeUndefined();
    }
  });

  it('answers no frame cut short, at any length', () => {
    const frame = clientFrame(selecting);
    const out = new Uint8Array(700);
    for (let length = 0; length < frame.length; length++) {
      expect(exchange(frame.slice(0, length))).toBeUndefined();
      expect(answerDhcp(frame, 0, length, out, DEFAULT_ADDRESSES)).toBe(0);
    }
    expect(exchange(frame)?.type).toBe(ACK);
  });

  it('survives a message cut short with lengths to match, at any length', () => {
    const frame = clientFrame(selecting);
    const types = new Map<number, number | undefined>();
    for (let length = 42; length <= frame.length; length++) {
      const cut = frame.slice(0, length);
      writeIpv4(cut, 14, length - 14, 1, 17, 0, -1);
      setU16(cut, 38, length - 34);
      types.set(length - OPTIONS_AT, exchange(cut)?.type);
    }
    // Between options the message still makes sense: without option 50 the address wanted is 0.0.0.0.
    const answeredAt = [...types].filter(([, type]) => type !== undefined);
    expect(answeredAt).toEqual([
      [3, NAK],
      [9, ACK],
      [15, ACK],
      [16, ACK],
    ]);
  });

  it('believes no length that the one around it doesn’t hold', () => {
    const frame = clientFrame({ type: DISCOVER });
    const wrong = [0, 7, 8, frame.length - 34 + 1, 0xffff];
    for (const udpLength of wrong) {
      const changed = frame.slice();
      setU16(changed, 38, udpLength);
      expect(exchange(changed)).toBeUndefined();
    }
    for (const ipLength of [0, 19, 20, 28, frame.length - 14 + 1, 0xffff]) {
      const changed = frame.slice();
      writeIpv4(changed, 14, ipLength, 1, 17, 0, -1);
      expect(exchange(changed)).toBeUndefined();
    }
    for (const words of [0, 4, 15]) {
      const changed = frame.slice();
      changed[14] = 0x40 | words;
      expect(exchange(changed)).toBeUndefined();
    }
  });

  it('reads past IPv4 options and Ethernet padding', () => {
    const plain = clientFrame(selecting);
    const frame = new Uint8Array(plain.length + 8 + 6).fill(0x77);
    frame.set(plain.subarray(0, 34));
    frame.set([1, 1, 1, 1, 1, 1, 1, 0], 34);
    frame.set(plain.subarray(34), 42);
    setU16(frame, 16, plain.length - 14 + 8);
    frame[14] = 0x47;
    expect(exchange(frame)?.type).toBe(ACK);
  });

  it('answers the same wherever the frame lies and whatever `out` held', () => {
    const frame = clientFrame({ type: DISCOVER, options: { 61: [1, 2, 3] } });
    const expected = exchange(frame);
    expect(expected?.type).toBe(OFFER);
    for (const off of [1, 14, 333]) expect(exchange(frame, DEFAULT_ADDRESSES, off, off & 0xff)).toEqual(expected);
  });

  it('does not depend on the bytes behind the frame', () => {
    const bytes = fc.uint8Array({ maxLength: 60 });
    fc.assert(
      fc.property(bytes, bytes, fc.nat(255), (tail, behind, stale) => {
        const frame = clientFrame({ rawOptions: [53, 1, DISCOVER, ...tail] });
        const larger = new Uint8Array(frame.length + behind.length);
        larger.set(frame);
        larger.set(behind, frame.length);
        const out = new Uint8Array(700).fill(stale);
        const other = new Uint8Array(700);
        const length = answerDhcp(frame, 0, frame.length, out, DEFAULT_ADDRESSES);
        expect(answerDhcp(larger, 0, frame.length, other, DEFAULT_ADDRESSES)).toBe(length);
        expect(other.subarray(0, length)).toEqual(out.subarray(0, length));
      }),
    );
  });

  it('gives a well-formed answer or none to any options, changed bytes included', () => {
    const change = fc.tuple(fc.integer({ min: 14, max: OPTIONS_AT + 30 }), fc.nat(255));
    // A changed xid or chaddr comes back changed, which the reader of answers doesn't expect.
    const changes = fc.array(
      change.filter(([at]) => !(at >= 46 && at < 50) && !(at >= 70 && at < 86)),
      { maxLength: 3 },
    );
    const option = fc
      .tuple(fc.constantFrom(0, 12, 50, 52, 53, 54, 55, 57, 61), fc.uint8Array({ maxLength: 6 }))
      .map(([code, value]) => (code === 0 ? [0] : [code, value.length, ...value]));
    fc.assert(
      fc.property(fc.array(option, { maxLength: 6 }), changes, (list, changed) => {
        const frame = clientFrame({ rawOptions: [53, 1, DISCOVER, ...list.flat(), 255] });
        for (const [at, value] of changed) if (at < frame.length) frame[at] = value;
        expect([undefined, OFFER, ACK, NAK]).toContain(exchange(frame)?.type);
      }),
      { numRuns: 1000 },
    );
  });
});
