/**
 * What the guest knows of its network, in shared memory: one thread finds it out (bringUp.ts), all read it.
 */
import { IP_HEADER, TCP_HEADER } from './wire.js';

const UP = 0;
const ADDRESS = 1;
const MASK = 2;
const GATEWAY = 3;
const DNS = 4;
const SERVER = 5;
const LEASE = 6;
const MTU = 7;
const MAC = 8;
const GATEWAY_MAC = 11;
const WORDS = 16;
/** RFC 2132 §5.1: a lease may not ask for less. */
const LEAST_MTU = 68;

/** Addresses are 32-bit integers in host order, signed; MAC addresses three 16-bit words as they lie in memory. */
export class NetworkState {
  /** @param words shared with the other threads; made by `create` */
  constructor(readonly words: Int32Array) {}

  static create(mac: Uint8Array, address: number, mask: number, gateway: number, mtu: number): NetworkState {
    const state = new NetworkState(new Int32Array(new SharedArrayBuffer(4 * WORDS)));
    const { words } = state;
    for (let n = 0; n < 3; n++) words[MAC + n] = mac[2 * n] | (mac[2 * n + 1] << 8);
    words[ADDRESS] = address;
    words[MASK] = mask;
    words[GATEWAY] = gateway;
    words[MTU] = mtu;
    return state;
  }

  /** The gateway's MAC address is known: packets can be sent. */
  get up(): boolean {
    return Atomics.load(this.words, UP) === 1;
  }

  get address(): number {
    return this.words[ADDRESS];
  }

  get gateway(): number {
    return this.words[GATEWAY];
  }

  get mtu(): number {
    return this.words[MTU];
  }

  /** The largest TCP payload of a packet of the MTU (RFC 9293 §3.7.1), bytes. */
  get mss(): number {
    return this.mtu - IP_HEADER - TCP_HEADER;
  }

  /** What DHCP gave beyond the addresses: DNS server, DHCP server, netmask and lease time in seconds. */
  get lease(): { readonly dns: number; readonly server: number; readonly mask: number; readonly seconds: number } {
    return {
      dns: this.words[DNS],
      server: this.words[SERVER],
      mask: this.words[MASK],
      seconds: this.words[LEASE] >>> 0,
    };
  }

  macWord(n: number): number {
    return this.words[MAC + n];
  }

  gatewayMacWord(n: number): number {
    return this.words[GATEWAY_MAC + n];
  }

  setLease(lease: {
    readonly address: number;
    readonly mask: number;
    readonly gateway: number;
    readonly dns: number;
    readonly server: number;
    readonly seconds: number;
    readonly mtu: number;
  }): void {
    this.words[ADDRESS] = lease.address;
    this.words[MASK] = lease.mask;
    this.words[GATEWAY] = lease.gateway;
    this.words[DNS] = lease.dns;
    this.words[SERVER] = lease.server;
    this.words[LEASE] = lease.seconds;
    if (lease.mtu >= LEAST_MTU) this.words[MTU] = Math.min(lease.mtu, this.words[MTU]);
  }

  /** Ends the bring-up. */
  setGatewayMac(word0: number, word1: number, word2: number): void {
    this.words[GATEWAY_MAC] = word0;
    this.words[GATEWAY_MAC + 1] = word1;
    this.words[GATEWAY_MAC + 2] = word2;
    Atomics.store(this.words, UP, 1);
  }
}

/** @throws {RangeError} if `text` is no MAC address of six hexadecimal bytes */
export function parseMac(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) {
    throw new RangeError(`"${text}" is not a MAC address such as 52:54:00:12:34:56`);
  }
  return Uint8Array.from(text.split(':'), (byte) => parseInt(byte, 16));
}

export function formatMac(mac: Uint8Array): string {
  return [...mac].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}
