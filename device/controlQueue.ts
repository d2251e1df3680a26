/**
 * Commands of the control virtqueue (virtio 1.2 §5.1.6.5). A command of a feature that was not negotiated, of a wrong size,
 * or that asks for what can't be, is answered with ERR and changes nothing.
 */
import {
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_GUEST_CSUM,
} from './features.js';
import { GUEST_OFFLOADS, type NetState, VIRTIO_NET_S_ANNOUNCE } from './netState.js';

/** Acknowledgements. */
export const VIRTIO_NET_OK = 0;
export const VIRTIO_NET_ERR = 1;

/** Classes. */
export const CTRL_RX = 0;
export const CTRL_MAC = 1;
export const CTRL_VLAN = 2;
export const CTRL_ANNOUNCE = 3;
export const CTRL_MQ = 4;
export const CTRL_GUEST_OFFLOADS = 5;

/** Commands. Those of CTRL_RX are numbered as their modes are: PROMISC 0, ALLMULTI 1, ALLUNI 2, NOMULTI 3, NOUNI 4, NOBCAST 5. */
export const RX_LAST = 5;
const RX_ALLMULTI = 1;
export const MAC_TABLE_SET = 0;
export const MAC_ADDR_SET = 1;
export const VLAN_ADD = 0;
export const VLAN_DEL = 1;
export const ANNOUNCE_ACK = 0;
export const MQ_VQ_PAIRS_SET = 0;
export const GUEST_OFFLOADS_SET = 0;

const MAC_SIZE = 6;
const VLANS = 4096;

/** What commands read and change. */
export interface ControlState {
  /** Queue pairs that the driver may use: max_virtqueue_pairs of the configuration space; 1 without MQ. */
  readonly maxPairs: number;
  /** MQ was negotiated. */
  readonly multiqueue: boolean;
  /** Queue pairs that the driver uses now. */
  activePairs: number;
  /** All that is not about queue pairs. */
  readonly net: NetState;
}

/**
 * Executes one command.
 * @param command class, command and command-specific data
 * @param length bytes of it, of which `command` holds the first
 * @returns VIRTIO_NET_OK or VIRTIO_NET_ERR
 */
export function executeControl(command: Uint8Array, length: number, state: ControlState): number {
  if (length < 2 || length > command.length) return VIRTIO_NET_ERR;
  const name = command[1]!;
  const data = command.subarray(2, length);
  return obey(command[0]!, name, data, state) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
}

function obey(group: number, name: number, data: Uint8Array, state: ControlState): boolean {
  const { net } = state;
  const has = (feature: bigint): boolean => (net.features & feature) !== 0n;
  switch (group) {
    case CTRL_RX:
      return has(name <= RX_ALLMULTI ? VIRTIO_NET_F_CTRL_RX : VIRTIO_NET_F_CTRL_RX_EXTRA) && setRxMode(net, name, data);
    case CTRL_MAC:
      if (name === MAC_TABLE_SET) return has(VIRTIO_NET_F_CTRL_RX) && setMacTable(net, data);
      return name === MAC_ADDR_SET && has(VIRTIO_NET_F_CTRL_MAC_ADDR) && setMac(net, data);
    case CTRL_VLAN:
      return has(VIRTIO_NET_F_CTRL_VLAN) && setVlan(net, name, data);
    case CTRL_ANNOUNCE:
      return has(VIRTIO_NET_F_GUEST_ANNOUNCE) && acknowledgeAnnounce(net, name, data);
    case CTRL_MQ:
      return setPairs(state, name, data);
    case CTRL_GUEST_OFFLOADS:
      return has(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) && setOffloads(net, name, data);
    default:
      return false;
  }
}

/** §5.1.6.5.1: one byte, 0 (off) or 1 (on). */
function setRxMode(net: NetState, name: number, data: Uint8Array): boolean {
  if (name > RX_LAST || data.length !== 1 || data[0]! > 1) return false;
  net.setRxMode(1 << name, data[0] === 1);
  return true;
}

/** §5.1.6.5.2: two tables, unicast and multicast, each a count (le32) and so many addresses. */
function setMacTable(net: NetState, data: Uint8Array): boolean {
  const unicast = addressTable(data, 0);
  if (unicast === undefined) return false;
  const multicast = addressTable(data, unicast.end);
  if (multicast === undefined || multicast.end !== data.length) return false;
  net.setMacTable(unicast.addresses, multicast.addresses);
  return true;
}

function addressTable(data: Uint8Array, from: number): { addresses: Uint8Array; end: number } | undefined {
  const start = from + 4;
  if (data.length < start) return undefined;
  const entries = new DataView(data.buffer, data.byteOffset).getUint32(from, true);
  const end = start + MAC_SIZE * entries;
  return end <= data.length ? { addresses: data.subarray(start, end), end } : undefined;
}

function setMac(net: NetState, data: Uint8Array): boolean {
  if (data.length !== MAC_SIZE) return false;
  net.setMac(data, 0);
  return true;
}

/** §5.1.6.5.3: le16. */
function setVlan(net: NetState, name: number, data: Uint8Array): boolean {
  if ((name !== VLAN_ADD && name !== VLAN_DEL) || data.length !== 2) return false;
  const vlan = data[0]! | (data[1]! << 8);
  if (vlan >= VLANS) return false;
  net.setVlan(vlan, name === VLAN_ADD);
  return true;
}

/** §5.1.6.5.4: the bit goes before the command is answered. */
function acknowledgeAnnounce(net: NetState, name: number, data: Uint8Array): boolean {
  if (name !== ANNOUNCE_ACK || data.length !== 0) return false;
  net.setStatus(VIRTIO_NET_S_ANNOUNCE, false);
  return true;
}

/** §5.1.6.5.6: le16, only with MQ, and from 1 to max_virtqueue_pairs. */
function setPairs(state: ControlState, name: number, data: Uint8Array): boolean {
  if (name !== MQ_VQ_PAIRS_SET || !state.multiqueue || data.length !== 2) return false;
  const pairs = data[0]! | (data[1]! << 8);
  if (pairs < 1 || pairs > state.maxPairs) return false;
  state.activePairs = pairs;
  return true;
}

/** §5.1.6.5.8: le64, offloads that were negotiated, each with what it needs (§5.1.3.1). */
function setOffloads(net: NetState, name: number, data: Uint8Array): boolean {
  if (name !== GUEST_OFFLOADS_SET || data.length !== 8) return false;
  const offloads = new DataView(data.buffer, data.byteOffset).getBigUint64(0, true);
  if ((offloads & ~(net.features & GUEST_OFFLOADS)) !== 0n) return false;
  if (offloads !== 0n && (offloads & VIRTIO_NET_F_GUEST_CSUM) === 0n) return false;
  net.setOffloads(Number(offloads));
  return true;
}
