/**
 * A DHCP server (RFC 2131, options by RFC 2132) for a link with one client: the guest. Its single binding is fixed, so
 * it keeps no state: every message is answered from the configuration alone.
 */

import { setU16, setU32, u16, u32 } from '../wire/bytes.js';
import { pseudoHeaderSum, sum16 } from '../wire/checksum.js';
import {
  type ClientMessage,
  ACK,
  BOOT_REPLY,
  BROADCAST_ADDRESS,
  BROADCAST_FLAG,
  CHADDR,
  CHADDR_LENGTH,
  CIADDR,
  COOKIE,
  DISCOVER,
  DOMAIN_NAME,
  DOMAIN_NAME_SERVER,
  FLAGS,
  HARDWARE_ETHERNET,
  HLEN,
  HOST_NAME,
  HTYPE,
  INFORM,
  INTERFACE_MTU,
  LEASE_TIME,
  MAC_LENGTH,
  MAGIC_COOKIE,
  MESSAGE_TYPE,
  NAK,
  OFFER,
  OP,
  OPTIONS,
  OptionWriter,
  REBINDING_TIME,
  RENEWAL_TIME,
  REQUEST,
  ROUTER,
  SERVER_IDENTIFIER,
  SUBNET_MASK,
  XID,
  YIADDR,
  parseDhcp,
} from '../wire/dhcp.js';
import { ETHERNET_HEADER, ETHERTYPE_IPV4, writeEthernet } from '../wire/ethernet.js';
import { IPV4_HEADER, PROTOCOL_UDP, destination, headerLength, totalLength, writeIpv4 } from '../wire/ipv4.js';
import { UDP_HEADER, datagramLength, writeUdp } from '../wire/udp.js';
import type { NetworkAddresses } from './addresses.js';

const SERVER_PORT = 67;
const CLIENT_PORT = 68;
const LIMITED_BROADCAST = -1; // 255.255.255.255
const BROADCAST_MAC = new Uint8Array(6).fill(0xff);

/** What the answers configure, in the order for clients that ask for none (RFC 2132 §3.3: the mask before the router). */
const PARAMETERS: readonly number[] = [
  SUBNET_MASK,
  ROUTER,
  DOMAIN_NAME_SERVER,
  INTERFACE_MTU,
  BROADCAST_ADDRESS,
  RENEWAL_TIME,
  REBINDING_TIME,
  HOST_NAME,
  DOMAIN_NAME,
];

/** No type of a message. */
const NO_ANSWER = 0;

/** Where the message begins in a reply frame. */
const REPLY_MESSAGE = ETHERNET_HEADER + IPV4_HEADER + UDP_HEADER;
/** RFC 1542 §2.1: clients may discard messages shorter than BOOTP's 300 bytes. */
const MIN_MESSAGE = 300;
/** More than all options of a reply with the longest client identifier, but for long names. */
const MAX_REPLY_FRAME = 600;
/** No answer is shorter, whatever the link's MTU: options in it cost nothing. */
const MIN_DATAGRAM = IPV4_HEADER + UDP_HEADER + MIN_MESSAGE;

/**
 * Answers a client's message: DISCOVER with OFFER, REQUEST with ACK or NAK, INFORM with ACK. DECLINE, RELEASE, what is
 * malformed, relayed, or meant for another server gets no answer.
 *
 * The UDP checksum isn't checked: a guest that offloads checksums leaves it unfinished, and the frame comes from the
 * guest's memory over no medium that could damage it.
 *
 * @param off Where the Ethernet frame begins in `frame`; it carries IPv4 without fragments and UDP to port 67.
 * @param length Bytes of that frame; nothing beyond them is read.
 * @param out Receives the reply frame, from its first byte; at least 600 bytes.
 * @returns Bytes of the reply frame, or 0 when there is no answer.
 */
export function answerDhcp(
  frame: Uint8Array,
  off: number,
  length: number,
  out: Uint8Array,
  config: NetworkAddresses,
): number {
  const message = parse(frame, off, length, config);
  if (message === undefined) return 0;
  const type = answerType(frame, message, config);
  if (type === NO_ANSWER) return 0;
  out.fill(0, 0, MAX_REPLY_FRAME);
  writeFixedFields(frame, message, type, out, config);
  const messageLength = writeOptions(message, type, out, config);
  return writeHeaders(frame, message, type, messageLength, out, config);
}

/** The message in the frame, or undefined when it is malformed or not for this server. */
function parse(frame: Uint8Array, off: number, length: number, config: NetworkAddresses): ClientMessage | undefined {
  const ip = off + ETHERNET_HEADER;
  if (length < ETHERNET_HEADER + IPV4_HEADER) return undefined;
  const ipHeader = headerLength(frame, ip);
  const ipTotal = totalLength(frame, ip);
  if (ipHeader < IPV4_HEADER || ipTotal < ipHeader + UDP_HEADER + OPTIONS) return undefined;
  if (ipTotal > length - ETHERNET_HEADER || !isServerAddress(destination(frame, ip), config)) return undefined;

  const udp = ip + ipHeader;
  const udpLength = datagramLength(frame, udp);
  if (udpLength < UDP_HEADER + OPTIONS || udpLength > ipTotal - ipHeader) return undefined;
  return parseDhcp(frame, udp + UDP_HEADER, udp + udpLength);
}

function isServerAddress(address: number, config: NetworkAddresses): boolean {
  return address === LIMITED_BROADCAST || address === config.gateway || address === subnetBroadcast(config);
}

function subnetBroadcast(config: NetworkAddresses): number {
  return config.guest | ~config.netmask;
}

/** The type of the answer, or NO_ANSWER. */
function answerType(frame: Uint8Array, message: ClientMessage, config: NetworkAddresses): number {
  switch (message.type) {
    case DISCOVER:
      return OFFER;
    case REQUEST:
      return answerToRequest(frame, message, config);
    case INFORM:
      return ACK;
    default:
      return NO_ANSWER;
  }
}

/**
 * RFC 2131 §4.3.2: a client that selects an offer or reboots names its address in option 50, one that renews or rebinds
 * in ciaddr. A server identifier is there when selecting, and then says which server is meant.
 */
function answerToRequest(frame: Uint8Array, message: ClientMessage, config: NetworkAddresses): number {
  if (message.serverIdentifier !== 0 && message.serverIdentifier !== config.gateway) return NO_ANSWER;
  const address = message.requestedAddress !== 0 ? message.requestedAddress : u32(frame, message.at + CIADDR);
  return address === config.guest ? ACK : NAK;
}

/** The fields before the options, as RFC 2131 §4.3.1 table 3 has them; what is 0 there has been zeroed. */
function writeFixedFields(
  frame: Uint8Array,
  message: ClientMessage,
  type: number,
  out: Uint8Array,
  config: NetworkAddresses,
): void {
  const { at } = message;
  const to = REPLY_MESSAGE;
  out[to + OP] = BOOT_REPLY;
  out[to + HTYPE] = HARDWARE_ETHERNET;
  out[to + HLEN] = MAC_LENGTH;
  setU32(out, to + XID, u32(frame, at + XID));
  setU16(out, to + FLAGS, u16(frame, at + FLAGS));
  if (type === ACK) setU32(out, to + CIADDR, u32(frame, at + CIADDR));
  if (bindsAddress(message, type)) setU32(out, to + YIADDR, config.guest);
  out.set(frame.subarray(at + CHADDR, at + CHADDR + CHADDR_LENGTH), to + CHADDR);
  setU32(out, to + COOKIE, MAGIC_COOKIE);
}

/** Whether the answer gives the client an address for a time: the one to INFORM doesn't (RFC 2131 §4.3.5). */
function bindsAddress(message: ClientMessage, type: number): boolean {
  return type !== NAK && message.type !== INFORM;
}

/**
 * Writes the options, the more needed ones first: an option that the client has no room for is left out (RFC 2131
 * §4.3.1), which happens only with client identifiers and names near their greatest length.
 *
 * @returns Bytes of the message, at least 300.
 */
function writeOptions(message: ClientMessage, type: number, out: Uint8Array, config: NetworkAddresses): number {
  const linkDatagram = Math.max(config.mtu, MIN_DATAGRAM);
  const maxDatagram = Math.min(message.maxDatagram, linkDatagram, MAX_REPLY_FRAME - ETHERNET_HEADER);
  const options = new OptionWriter(out, REPLY_MESSAGE + OPTIONS, ETHERNET_HEADER + maxDatagram);
  options.put(MESSAGE_TYPE, 1, type);
  options.put(SERVER_IDENTIFIER, 4, config.gateway);
  const binds = bindsAddress(message, type);
  if (binds) options.put(LEASE_TIME, 4, config.leaseSeconds);
  // RFC 6842 §3: in every answer, NAK included.
  if (message.clientIdentifier !== undefined) options.copy(message.clientIdentifier);
  if (type !== NAK) {
    for (const code of parameterOrder(message.requestedOptions)) putParameter(options, code, binds, config);
  }
  return Math.max(MIN_MESSAGE, options.end() - REPLY_MESSAGE);
}

/** All parameters, each once: the requested ones first, in the client's order (RFC 2132 §9.8), yet the mask before the router. */
function parameterOrder(requested: Uint8Array): Iterable<number> {
  const order = new Set<number>();
  for (const code of requested) {
    if (code === ROUTER) order.add(SUBNET_MASK);
    if (PARAMETERS.includes(code)) order.add(code);
  }
  for (const code of PARAMETERS) order.add(code);
  return order;
}

function putParameter(options: OptionWriter, code: number, binds: boolean, config: NetworkAddresses): void {
  switch (code) {
    case SUBNET_MASK:
      return options.put(code, 4, config.netmask);
    case ROUTER:
      return options.put(code, 4, config.gateway);
    case DOMAIN_NAME_SERVER:
      return options.put(code, 4, config.dns);
    case INTERFACE_MTU:
      return options.put(code, 2, config.mtu);
    case BROADCAST_ADDRESS:
      return options.put(code, 4, subnetBroadcast(config));
    case HOST_NAME:
      return options.putText(code, config.hostName);
    case DOMAIN_NAME:
      return options.putText(code, config.domain);
    // RFC 2131 §4.4.5: T1 is half of the lease, T2 seven eighths; no lease, no times.
    case RENEWAL_TIME:
      return binds ? options.put(code, 4, Math.floor(config.leaseSeconds / 2)) : undefined;
    case REBINDING_TIME:
      return binds ? options.put(code, 4, Math.floor((config.leaseSeconds * 7) / 8)) : undefined;
  }
}

/** Writes the headers around a message of `messageLength` bytes. Returns the frame's length. */
function writeHeaders(
  frame: Uint8Array,
  message: ClientMessage,
  type: number,
  messageLength: number,
  out: Uint8Array,
  config: NetworkAddresses,
): number {
  const to = replyAddress(frame, message, type, config);
  const chaddr = message.at + CHADDR;
  const mac = to === LIMITED_BROADCAST ? BROADCAST_MAC : frame.subarray(chaddr, chaddr + MAC_LENGTH);
  writeEthernet(out, 0, mac, config.gatewayMac, ETHERTYPE_IPV4);
  const udpLength = UDP_HEADER + messageLength;
  writeIpv4(out, ETHERNET_HEADER, IPV4_HEADER + udpLength, 0, PROTOCOL_UDP, config.gateway, to);
  const udp = ETHERNET_HEADER + IPV4_HEADER;
  writeUdp(out, udp, SERVER_PORT, CLIENT_PORT, udpLength);
  const pseudo = pseudoHeaderSum(config.gateway, to, PROTOCOL_UDP, udpLength);
  const checksum = ~sum16(out, udp, udpLength, pseudo) & 0xffff;
  setU16(out, udp + 6, checksum === 0 ? 0xffff : checksum); // RFC 768: 0 would say that there is none
  return REPLY_MESSAGE + messageLength;
}

/** Where the answer goes (RFC 2131 §4.1): ciaddr, all, or the address that the client is about to have. */
function replyAddress(frame: Uint8Array, message: ClientMessage, type: number, config: NetworkAddresses): number {
  const ciaddr = u32(frame, message.at + CIADDR);
  if (type === NAK) return LIMITED_BROADCAST;
  if (ciaddr !== 0) return ciaddr;
  const broadcast = (u16(frame, message.at + FLAGS) & BROADCAST_FLAG) !== 0;
  return broadcast || !bindsAddress(message, type) ? LIMITED_BROADCAST : config.guest;
}
