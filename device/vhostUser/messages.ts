/**
 * Messages of the vhost-user protocol as bytes: codecs, sizes, names (vhost-user, "Message Specification",
 * "Front-end message types"). All numbers are in the machine's byte order, which is little-endian wherever Slipway runs.
 */
import { VhostUserRequestError } from './errors.js';

/** Front-end message types that this back end knows what to do with. */
export const Request = {
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  RESET_OWNER: 4,
  SET_MEM_TABLE: 5,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  GET_VRING_BASE: 11,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  SET_VRING_ERR: 14,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  SEND_RARP: 19,
  GET_CONFIG: 24,
  SET_CONFIG: 25,
  RESET_DEVICE: 34,
  GET_MAX_MEM_SLOTS: 36,
  ADD_MEM_REG: 37,
  REM_MEM_REG: 38,
} as const;

/** Protocol feature bits, as masks. */
export const ProtocolFeature = {
  MQ: 1n << 0n,
  REPLY_ACK: 1n << 3n,
  CONFIG: 1n << 9n,
  RESET_DEVICE: 1n << 13n,
  CONFIGURE_MEM_SLOTS: 1n << 15n,
} as const;

export const PROTOCOL_FEATURES =
  ProtocolFeature.MQ |
  ProtocolFeature.REPLY_ACK |
  ProtocolFeature.CONFIG |
  ProtocolFeature.RESET_DEVICE |
  ProtocolFeature.CONFIGURE_MEM_SLOTS;

export const HEADER_SIZE = 12;
/** The longest payload that is read at all; the longest meaningful one is a table of `MAX_MEM_SLOTS` regions. */
export const MAX_PAYLOAD_SIZE = 4096;
/** Memory regions that a front end may hand over. */
export const MAX_MEM_SLOTS = 64;
/** The most descriptors that any message carries: one for each region. */
export const MAX_MESSAGE_FDS = MAX_MEM_SLOTS;

const VERSION = 1;
const VERSION_MASK = 3;
const FLAG_REPLY = 1 << 2;
const FLAG_NEED_REPLY = 1 << 3;
const REGION_SIZE = 32;
const CONFIG_HEADER_SIZE = 12;

export interface MessageHeader {
  readonly request: number;
  readonly version: number;
  readonly reply: boolean;
  readonly needReply: boolean;
  /** Bytes of payload. */
  readonly size: number;
}

/** A whole message. Whoever takes a descriptor out of `fds` owns it; those left there are closed after the message was handled. */
export interface Message {
  readonly header: MessageHeader;
  readonly payload: DataView;
  readonly fds: number[];
}

/** A ring's index and a number: its size, its base or whether it is enabled ("A vring state description"). */
export interface VringState {
  readonly index: number;
  readonly num: number;
}

/** Addresses in the front end's address space ("A vring address description"). */
export interface VringAddresses {
  readonly descTable: bigint;
  readonly usedRing: bigint;
  readonly availRing: bigint;
}

/** "Memory regions description", one region. */
export interface RegionDescription {
  readonly guestAddress: bigint;
  readonly size: bigint;
  readonly userAddress: bigint;
  readonly fileOffset: bigint;
}

/** "Virtio device config space", less its bytes. */
export interface ConfigAccess {
  readonly offset: number;
  readonly size: number;
}

interface Shape {
  readonly name: string;
  /** Exact bytes of payload; for those of variable length the least. */
  readonly size: number;
  readonly variable?: true;
  readonly minFds?: number;
  readonly maxFds?: number;
}

/** Size and descriptors of each request. SET_MEM_TABLE carries as many descriptors as it has regions: checked where it is decoded. */
const SHAPES: ReadonlyMap<number, Shape> = new Map<number, Shape>([
  [Request.GET_FEATURES, { name: 'GET_FEATURES', size: 0 }],
  [Request.SET_FEATURES, { name: 'SET_FEATURES', size: 8 }],
  [Request.SET_OWNER, { name: 'SET_OWNER', size: 0 }],
  [Request.RESET_OWNER, { name: 'RESET_OWNER', size: 0 }],
  [Request.SET_MEM_TABLE, { name: 'SET_MEM_TABLE', size: 8, variable: true, maxFds: MAX_MEM_SLOTS }],
  [Request.SET_VRING_NUM, { name: 'SET_VRING_NUM', size: 8 }],
  [Request.SET_VRING_ADDR, { name: 'SET_VRING_ADDR', size: 40 }],
  [Request.SET_VRING_BASE, { name: 'SET_VRING_BASE', size: 8 }],
  [Request.GET_VRING_BASE, { name: 'GET_VRING_BASE', size: 8 }],
  [Request.SET_VRING_KICK, { name: 'SET_VRING_KICK', size: 8, maxFds: 1 }],
  [Request.SET_VRING_CALL, { name: 'SET_VRING_CALL', size: 8, maxFds: 1 }],
  [Request.SET_VRING_ERR, { name: 'SET_VRING_ERR', size: 8, maxFds: 1 }],
  [Request.GET_PROTOCOL_FEATURES, { name: 'GET_PROTOCOL_FEATURES', size: 0 }],
  [Request.SET_PROTOCOL_FEATURES, { name: 'SET_PROTOCOL_FEATURES', size: 8 }],
  [Request.GET_QUEUE_NUM, { name: 'GET_QUEUE_NUM', size: 0 }],
  [Request.SET_VRING_ENABLE, { name: 'SET_VRING_ENABLE', size: 8 }],
  [Request.SEND_RARP, { name: 'SEND_RARP', size: 8 }],
  [Request.GET_CONFIG, { name: 'GET_CONFIG', size: CONFIG_HEADER_SIZE, variable: true }],
  [Request.SET_CONFIG, { name: 'SET_CONFIG', size: CONFIG_HEADER_SIZE, variable: true }],
  [Request.RESET_DEVICE, { name: 'RESET_DEVICE', size: 0 }],
  [Request.GET_MAX_MEM_SLOTS, { name: 'GET_MAX_MEM_SLOTS', size: 0 }],
  [Request.ADD_MEM_REG, { name: 'ADD_MEM_REG', size: 40, minFds: 1, maxFds: 1 }],
  // "No file descriptors SHOULD be passed […] the back-end MAY accept messages with one file descriptor."
  [Request.REM_MEM_REG, { name: 'REM_MEM_REG', size: 40, maxFds: 1 }],
]);

/** Requests whose reply is a value, not an acknowledgement. */
export const HAS_OWN_REPLY: ReadonlySet<number> = new Set<number>([
  Request.GET_FEATURES,
  Request.GET_PROTOCOL_FEATURES,
  Request.GET_QUEUE_NUM,
  Request.GET_VRING_BASE,
  Request.GET_CONFIG,
  Request.GET_MAX_MEM_SLOTS,
]);

/** A request's name for messages to people. */
export function requestName(request: number): string {
  return SHAPES.get(request)?.name ?? `request ${request}`;
}

/** @throws {VhostUserRequestError} for a request that isn't known, or whose size or number of descriptors is wrong. */
export function checkShape(message: Message): void {
  const { request, size } = message.header;
  const shape = SHAPES.get(request);
  if (shape === undefined) throw new VhostUserRequestError('not supported by this back end');
  if (shape.variable ? size < shape.size : size !== shape.size) {
    throw new VhostUserRequestError(
      `payload of ${size} bytes instead of ${shape.size}${shape.variable ? ' or more' : ''}`,
    );
  }
  const fds = message.fds.length;
  const { minFds = 0, maxFds = 0 } = shape;
  if (fds < minFds || fds > maxFds) {
    throw new VhostUserRequestError(
      `came with ${fds} file descriptors instead of ${minFds === maxFds ? minFds : `${minFds} to ${maxFds}`}`,
    );
  }
}

/** `bytes` holds `HEADER_SIZE` bytes. */
export function decodeHeader(bytes: Uint8Array): MessageHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_SIZE);
  const flags = view.getUint32(4, true);
  return {
    request: view.getUint32(0, true),
    version: flags & VERSION_MASK,
    reply: (flags & FLAG_REPLY) !== 0,
    needReply: (flags & FLAG_NEED_REPLY) !== 0,
    size: view.getUint32(8, true),
  };
}

/** The version that both sides must speak. */
export function isKnownVersion(header: MessageHeader): boolean {
  return header.version === VERSION;
}

/** A whole reply: header and payload. */
export function encodeReply(request: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_SIZE + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, request, true);
  view.setUint32(4, VERSION | FLAG_REPLY, true);
  view.setUint32(8, payload.length, true);
  bytes.set(payload, HEADER_SIZE);
  return bytes;
}

export function encodeU64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes;
}

export function decodeU64(payload: DataView): bigint {
  return payload.getBigUint64(0, true);
}

export function encodeVringState(state: VringState): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, state.index, true);
  view.setUint32(4, state.num, true);
  return bytes;
}

export function decodeVringState(payload: DataView): VringState {
  return { index: payload.getUint32(0, true), num: payload.getUint32(4, true) };
}

/**
 * The flags and the log address are skipped: the one flag there is asks for a log of writes, which only front ends use
 * that were offered VHOST_F_LOG_ALL.
 */
export function decodeVringAddresses(payload: DataView): VringAddresses & { readonly index: number } {
  return {
    index: payload.getUint32(0, true),
    descTable: payload.getBigUint64(8, true),
    usedRing: payload.getBigUint64(16, true),
    availRing: payload.getBigUint64(24, true),
  };
}

/** SET_VRING_KICK, _CALL and _ERR: the ring's index in bits 0–7, "no descriptor" in bit 8. */
export function decodeVringFd(payload: DataView): { readonly index: number; readonly noFd: boolean } {
  const value = payload.getBigUint64(0, true);
  return { index: Number(value & 0xffn), noFd: (value & 0x100n) !== 0n };
}

/** @throws {VhostUserRequestError} if the size doesn't fit the number of regions, or there are none or too many. */
export function decodeMemoryTable(payload: DataView): RegionDescription[] {
  const count = payload.getUint32(0, true);
  if (count === 0 || count > MAX_MEM_SLOTS) {
    throw new VhostUserRequestError(`${count} memory regions; 1 to ${MAX_MEM_SLOTS} are possible`);
  }
  const size = 8 + count * REGION_SIZE;
  if (payload.byteLength !== size) {
    throw new VhostUserRequestError(`payload of ${payload.byteLength} bytes instead of ${size} for ${count} regions`);
  }
  return Array.from({ length: count }, (_, n) => decodeRegion(payload, 8 + n * REGION_SIZE));
}

/** "Single memory region description": the payload of ADD_MEM_REG and REM_MEM_REG. */
export function decodeSingleRegion(payload: DataView): RegionDescription {
  return decodeRegion(payload, 8);
}

function decodeRegion(payload: DataView, offset: number): RegionDescription {
  return {
    guestAddress: payload.getBigUint64(offset, true),
    size: payload.getBigUint64(offset + 8, true),
    userAddress: payload.getBigUint64(offset + 16, true),
    fileOffset: payload.getBigUint64(offset + 24, true),
  };
}

/** @throws {VhostUserRequestError} if the access lies outside a space of `space` bytes or the message has not as many bytes as it says. */
export function decodeConfigAccess(payload: DataView, space: number): ConfigAccess {
  const offset = payload.getUint32(0, true);
  const size = payload.getUint32(4, true);
  if (offset + size > space) {
    throw new VhostUserRequestError(`bytes ${offset} to ${offset + size} of a configuration space of ${space}`);
  }
  if (payload.byteLength !== CONFIG_HEADER_SIZE + size) {
    throw new VhostUserRequestError(`payload of ${payload.byteLength} bytes instead of ${CONFIG_HEADER_SIZE + size}`);
  }
  return { offset, size };
}

/** The answer to GET_CONFIG: what was asked for, with the bytes of `space` filled in. */
export function encodeConfig({ offset, size }: ConfigAccess, space: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(CONFIG_HEADER_SIZE + size);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, offset, true);
  view.setUint32(4, size, true);
  bytes.set(space.subarray(offset, offset + size), CONFIG_HEADER_SIZE);
  return bytes;
}
