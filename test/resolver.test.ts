/** Where queries of names go, by the host's resolv.conf(5). */
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Resolver } from '../src/resolver.js';
import { formatIpv4Address } from '../workers/wire/ipv4.js';
import { until } from './until.js';

let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'slipway-resolver-'));
  file = join(folder, 'resolv.conf');
});
afterEach(() => rmSync(folder, { recursive: true }));

const addressOf = (resolver: Resolver): string => formatIpv4Address(resolver.address[0]!);

describe('the name server of the host', () => {
  it.each([
    ['# a comment\nsearch example.org\nnameserver 192.0.2.53\nnameserver 192.0.2.54\n', '192.0.2.53'],
    ['nameserver 127.0.0.53\noptions edns0 trust-ad\n', '127.0.0.53'],
    ['nameserver fe80::1%eth0\nnameserver 2001:db8::1\n  nameserver\t192.0.2.7  \n', '192.0.2.7'],
    ['nameserver 300.1.1.1\nnameserver 192.0.2.8', '192.0.2.8'],
    ['nameserver 192.0.2.10 # the office\nnameserver 192.0.2.11\n', '192.0.2.10'],
    ['#nameserver 192.0.2.9\nnameserver 2001:db8::1\n', '0.0.0.0'],
    ['', '0.0.0.0'],
  ])('is the first of IPv4: %j', (text, address) => {
    writeFileSync(file, text);
    expect(addressOf(new Resolver('host', file))).toBe(address);
  });

  it('is none where there is no file', () => {
    expect(addressOf(new Resolver('host', file))).toBe('0.0.0.0');
  });

  it('is read again when the file changes, is replaced, or goes', async () => {
    writeFileSync(file, 'nameserver 192.0.2.1\n');
    const resolver = new Resolver('host', file);
    resolver.follow();
    try {
      writeFileSync(file, 'nameserver 192.0.2.200\n');
      await until(() => addressOf(resolver) === '192.0.2.200');
      writeFileSync(`${file}.new`, 'nameserver 192.0.2.30\n');
      renameSync(`${file}.new`, file);
      await until(() => addressOf(resolver) === '192.0.2.30');
      rmSync(file);
      await until(() => addressOf(resolver) === '0.0.0.0');
      expect(addressOf(resolver)).toBe('0.0.0.0');
    } finally {
      resolver.close();
    }
  });
});

it('an address is taken as it is, none is none, and anything else is refused', () => {
  expect(addressOf(new Resolver('192.0.2.9'))).toBe('192.0.2.9');
  expect(addressOf(new Resolver(false))).toBe('0.0.0.0');
  expect(() => new Resolver('example.org')).toThrow(/dns must be host, an IPv4 address, or off, not "example.org"/);
});
