/** Answers the guest's ARP requests (RFC 826) for the addresses that the network itself has. */

import { setU16, setU32, u16, u32 } from '../wire/bytes.js';
import { ETHERNET_HEADER, ETHERTYPE_ARP, ETHERTYPE_IPV4, writeEthernet } from '../wire/ethernet.js';
import type { NetworkAddresses } from './addresses.js';

const ARP_LENGTH = 28;
const MIN_FRAME = 60; // IEEE 802.3: 64 bytes with the frame check sequence

const HARDWARE_ETHERNET = 1;
const OPERATION_REQUEST = 1;
const OPERATION_REPLY = 2;

// Fields of an ARP packet for IPv4 over Ethernet, from its first byte.
const HARDWARE_TYPE = 0;
const PROTOCOL_TYPE = 2;
const ADDRESS_LENGTHS = 4;
const OPERATION = 6;
const SENDER_MAC = 8;
const SENDER_ADDRESS = 14;
const TARGET_MAC = 18;
const TARGET_ADDRESS = 24;

const MAC_AND_IPV4_LENGTHS = 0x0604;

/**
 * Answers a request for the gateway's or the DNS server's address with `config.gatewayMac`.
 *
 * @param off Where the request's Ethernet frame begins in `request`.
 * @param length Bytes of that frame; a shorter one than ARP needs gets no answer.
 * @param out Receives the reply frame, from its first byte; at least 60 bytes.
 * @returns Bytes of the reply frame, or 0 when there is nothing to answer.
 */
export function answerArp(
  request: Uint8Array,
  off: number,
  length: number,
  out: Uint8Array,
  config: NetworkAddresses,
): number {
  const arp = off + ETHERNET_HEADER;
  if (length < ETHERNET_HEADER + ARP_LENGTH || !isRequest(request, arp)) return 0;
  const target = u32(request, arp + TARGET_ADDRESS);
  if (target !== config.gateway && target !== config.dns) return 0;

  out.fill(0, 0, MIN_FRAME);
  const guestMac = request.subarray(arp + SENDER_MAC, arp + SENDER_MAC + 6);
  writeEthernet(out, 0, guestMac, config.gatewayMac, ETHERTYPE_ARP);
  const reply = ETHERNET_HEADER;
  setU16(out, reply + HARDWARE_TYPE, HARDWARE_ETHERNET);
  setU16(out, reply + PROTOCOL_TYPE, ETHERTYPE_IPV4);
  setU16(out, reply + ADDRESS_LENGTHS, MAC_AND_IPV4_LENGTHS);
  setU16(out, reply + OPERATION, OPERATION_REPLY);
  out.set(config.gatewayMac, reply + SENDER_MAC);
  setU32(out, reply + SENDER_ADDRESS, target);
  out.set(guestMac, reply + TARGET_MAC);
  setU32(out, reply + TARGET_ADDRESS, u32(request, arp + SENDER_ADDRESS));
  return MIN_FRAME;
}

function isRequest(buf: Uint8Array, arp: number): boolean {
  return (
    u16(buf, arp + HARDWARE_TYPE) === HARDWARE_ETHERNET &&
    u16(buf, arp + PROTOCOL_TYPE) === ETHERTYPE_IPV4 &&
    u16(buf, arp + ADDRESS_LENGTHS) === MAC_AND_IPV4_LENGTHS &&
    u16(buf, arp + OPERATION) === OPERATION_REQUEST
  );
}
