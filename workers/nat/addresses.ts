/** The addresses of the network that a guest sees. */

import { parseIpv4Address } from '../wire/ipv4.js';

/** One guest's network. IPv4 addresses are signed int32. */
export interface NetworkAddresses {
  /** The guest's address, which DHCP gives it. */
  guest: number;
  /** The router, which is the DHCP server too. */
  gateway: number;
  /** The DNS server. */
  dns: number;
  /** Of the guest's subnet, with `gateway` and `dns` in it. */
  netmask: number;
  /** The 6-byte MAC address behind `gateway` and `dns`. */
  gatewayMac: Uint8Array;
  /** Bytes of the largest IPv4 datagram on the link, at least 68 (RFC 791); DHCP's answers take 328 whatever it is. */
  mtu: number;
  /** How long a DHCP lease lasts. */
  leaseSeconds: number;
  /** What DHCP names the guest: ASCII, 1 to 255 characters (RFC 2132 §3.14). */
  hostName?: string;
  /** The domain in which the guest looks up names: ASCII, 1 to 255 characters (RFC 2132 §3.17). */
  domain?: string;
}

/** The addresses that user-mode networks of virtual machines commonly have: 10.0.2.0/24 with the guest at .15. */
export const DEFAULT_ADDRESSES: NetworkAddresses = {
  guest: parseIpv4Address('10.0.2.15'),
  gateway: parseIpv4Address('10.0.2.2'),
  dns: parseIpv4Address('10.0.2.3'),
  netmask: parseIpv4Address('255.255.255.0'),
  gatewayMac: Uint8Array.of(0x52, 0x55, 0x0a, 0x00, 0x02, 0x02),
  mtu: 1500,
  leaseSeconds: 86400,
};
