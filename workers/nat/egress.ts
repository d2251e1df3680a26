/** Where a guest may connect to, before any policy of the user's: secure by default. */
import type { NetworkAddresses } from './addresses.js';

/** Of names, by TCP and UDP. */
export const DNS_PORT = 53;

/** 127.0.0.1, where a guest's connections to its gateway go. */
export const HOST_LOOPBACK = 0x7f000001;

/** Address blocks that lead nowhere or somewhere private to the host: [network, prefix length]. */
const DENIED: readonly (readonly [number, number])[] = [
  [0x00000000, 8], // "this network": the host's kernel takes 0.0.0.0 for itself (RFC 1122 §3.2.1.3)
  [0x7f000000, 8], // loopback
  [0xa9fe0000, 16], // link-local, with the clouds' metadata services (RFC 3927)
  [0xe0000000, 4], // multicast
  [0xf0000000, 4], // reserved, broadcast
];

export interface EgressSettings {
  readonly addresses: NetworkAddresses;
  readonly allowHostLoopback: boolean;
  /** One word of shared memory: the name server behind `addresses.dns`, which may be on the host's loopback; 0: none. */
  readonly resolver: Int32Array;
}

/** The address to connect to for one that the guest asked for, at a port; `undefined` when it may not. */
export function egressAddress(destination: number, port: number, settings: EgressSettings): number | undefined {
  const { addresses, allowHostLoopback, resolver } = settings;
  if (destination === addresses.dns && port === DNS_PORT) return Atomics.load(resolver, 0) || undefined;
  if (destination === addresses.gateway) return allowHostLoopback ? HOST_LOOPBACK : undefined;
  if (((destination ^ addresses.guest) & addresses.netmask) === 0) return undefined;
  for (const [network, prefix] of DENIED) {
    if ((destination ^ network) >>> (32 - prefix) === 0) return undefined;
  }
  return destination;
}
