/** DHCP messages (RFC 2131, options by RFC 2132): where their fields lie, what a client's says, and options written. */
import { setU16, setU32, u16, u32 } from './bytes.js';

const BOOT_REQUEST = 1;
export const BOOT_REPLY = 2;
export const HARDWARE_ETHERNET = 1;
export const MAC_LENGTH = 6;
export const BROADCAST_FLAG = 0x8000;
export const MAGIC_COOKIE = 0x63825363;

// Fields of a message, from its first byte (RFC 2131 §2).
export const OP = 0;
export const HTYPE = 1;
export const HLEN = 2;
export const XID = 4;
export const FLAGS = 10;
export const CIADDR = 12;
export const YIADDR = 16;
const GIADDR = 24;
export const CHADDR = 28;
export const CHADDR_LENGTH = 16;
const SNAME = 44;
const FILE = 108;
export const COOKIE = 236;
export const OPTIONS = 240;

// Options (RFC 2132).
const PAD = 0;
export const SUBNET_MASK = 1;
export const ROUTER = 3;
export const DOMAIN_NAME_SERVER = 6;
export const HOST_NAME = 12;
export const DOMAIN_NAME = 15;
export const INTERFACE_MTU = 26;
export const BROADCAST_ADDRESS = 28;
const REQUESTED_ADDRESS = 50;
export const LEASE_TIME = 51;
const OVERLOAD = 52;
export const MESSAGE_TYPE = 53;
export const SERVER_IDENTIFIER = 54;
const PARAMETER_REQUEST_LIST = 55;
const MAX_MESSAGE_SIZE = 57;
export const RENEWAL_TIME = 58;
export const REBINDING_TIME = 59;
const CLIENT_IDENTIFIER = 61;
const END = 255;

// Values of the message type option (RFC 2132 §9.6).
export const DISCOVER = 1;
export const OFFER = 2;
export const REQUEST = 3;
export const ACK = 5;
export const NAK = 6;
export const INFORM = 8;

const OVERLOADS_FILE = 1;
const OVERLOADS_SNAME = 2;

/** The datagram that every client accepts (RFC 2131 §2). */
const MIN_DATAGRAM_LIMIT = 576;
const NOTHING_REQUESTED = new Uint8Array(0);

/** A client's message, checked. Addresses are 0 when absent. */
export interface ClientMessage {
  /** Where the message begins in the frame. */
  at: number;
  type: number;
  requestedAddress: number;
  serverIdentifier: number;
  /** Bytes of the largest IPv4 datagram that the client takes, as it says. */
  maxDatagram: number;
  /** Codes of the options that the client asks for, in its order. */
  requestedOptions: Uint8Array;
  /** The client identifier option's code, length and value, if there is one. */
  clientIdentifier: Uint8Array | undefined;
}

/**
 * Reads a client's message.
 *
 * @param at where it begins in `frame`
 * @param end where it ends: nothing from there on is read
 * @returns undefined when it is malformed, or relayed
 */
export function parseDhcp(frame: Uint8Array, at: number, end: number): ClientMessage | undefined {
  if (at + OPTIONS > end || !fixedFieldsValid(frame, at)) return undefined;
  const message: ClientMessage = {
    at,
    type: 0,
    requestedAddress: 0,
    serverIdentifier: 0,
    maxDatagram: MIN_DATAGRAM_LIMIT,
    requestedOptions: NOTHING_REQUESTED,
    clientIdentifier: undefined,
  };
  return readAllOptions(frame, end, message) ? message : undefined;
}

/** A relayed message (giaddr) comes from another link, for which there are no addresses (RFC 2131 §4.3.1). */
function fixedFieldsValid(frame: Uint8Array, at: number): boolean {
  return (
    frame[at + OP] === BOOT_REQUEST &&
    frame[at + HTYPE] === HARDWARE_ETHERNET &&
    frame[at + HLEN] === MAC_LENGTH &&
    u32(frame, at + GIADDR) === 0 &&
    u32(frame, at + COOKIE) === MAGIC_COOKIE
  );
}

/** Reads the options field, then file and sname where option 52 says so (RFC 2131 §4.1). False: malformed. */
function readAllOptions(frame: Uint8Array, end: number, message: ClientMessage): boolean {
  const { at } = message;
  const overload = readOptions(frame, at + OPTIONS, end, message);
  if (overload < 0) return false;
  if ((overload & OVERLOADS_FILE) !== 0 && readOptions(frame, at + FILE, at + COOKIE, message) < 0) return false;
  return (overload & OVERLOADS_SNAME) === 0 || readOptions(frame, at + SNAME, at + FILE, message) >= 0;
}

/**
 * Reads the options from `from` up to `end` into `message`. An end without option 255 is accepted.
 *
 * @returns The value of option 52, 0 when absent, or -1 when an option is malformed.
 */
function readOptions(frame: Uint8Array, from: number, end: number, message: ClientMessage): number {
  let overload = 0;
  let at = from;
  while (at < end && frame[at] !== END) {
    const code = frame[at];
    if (code === PAD) {
      at++;
      continue;
    }
    if (at + 2 > end) return -1;
    const length = frame[at + 1];
    const value = at + 2;
    if (value + length > end || !lengthValid(code, length)) return -1;
    if (code === OVERLOAD) overload = frame[value];
    else readOption(frame, code, value, length, message);
    at = value + length;
  }
  return overload;
}

function lengthValid(code: number, length: number): boolean {
  switch (code) {
    case MESSAGE_TYPE:
    case OVERLOAD:
      return length === 1;
    case MAX_MESSAGE_SIZE:
      return length === 2;
    case REQUESTED_ADDRESS:
    case SERVER_IDENTIFIER:
      return length === 4;
    default:
      return true;
  }
}

function readOption(frame: Uint8Array, code: number, value: number, length: number, message: ClientMessage): void {
  switch (code) {
    case MESSAGE_TYPE:
      message.type = frame[value];
      break;
    case REQUESTED_ADDRESS:
      message.requestedAddress = u32(frame, value);
      break;
    case SERVER_IDENTIFIER:
      message.serverIdentifier = u32(frame, value);
      break;
    case MAX_MESSAGE_SIZE:
      message.maxDatagram = Math.max(MIN_DATAGRAM_LIMIT, u16(frame, value));
      break;
    case PARAMETER_REQUEST_LIST:
      message.requestedOptions = frame.subarray(value, value + length);
      break;
    case CLIENT_IDENTIFIER:
      message.clientIdentifier = frame.subarray(value - 2, value + length);
      break;
  }
}

/** Appends options to a reply, as long as they and the END option fit. */
export class OptionWriter {
  constructor(
    private readonly out: Uint8Array,
    private at: number,
    private readonly limit: number,
  ) {}

  /** Appends an option whose value is one number of 1, 2 or 4 bytes. */
  put(code: number, length: number, value: number): void {
    const { at, out } = this;
    if (!this.fits(2 + length)) return;
    out[at] = code;
    out[at + 1] = length;
    if (length === 4) setU32(out, at + 2, value);
    else if (length === 2) setU16(out, at + 2, value);
    else out[at + 2] = value;
    this.at += 2 + length;
  }

  /** Appends an option whose value is text, if there is any. */
  putText(code: number, text: string | undefined): void {
    if (text === undefined || text.length < 1 || text.length > 255) return;
    this.copy(Uint8Array.of(code, text.length, ...Buffer.from(text, 'latin1')));
  }

  /** Appends an option as it stands: code, length and value. */
  copy(option: Uint8Array): void {
    if (!this.fits(option.length)) return;
    this.out.set(option, this.at);
    this.at += option.length;
  }

  /** Writes the END option. Returns where the options end. */
  end(): number {
    this.out[this.at] = END;
    return this.at + 1;
  }

  private fits(length: number): boolean {
    return this.at + length < this.limit;
  }
}
