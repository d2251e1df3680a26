import { expect, test } from 'vitest';
import { NetworkState, parseMac } from '../../../bench/driver/network.js';

test.each(['', '52:54:00:12:34', '52:54:00:12:34:5g', '525400123456'])('"%s" is no MAC address', (text) => {
  expect(() => parseMac(text)).toThrow(`"${text}" is not a MAC address`);
});

test.each([
  [0, 1500],
  [67, 1500],
  [68, 68],
  [1400, 1400],
  [9000, 1500],
])('RFC 2132 §5.1: a lease with an MTU of %i leaves one of %i', (offered, taken) => {
  const network = NetworkState.create(parseMac('52:54:00:12:34:56'), 0, 0, 0, 1500);
  network.setLease({ address: 1, mask: 2, gateway: 3, dns: 4, server: 5, seconds: 6, mtu: offered });
  expect(network.mtu).toBe(taken);
});
