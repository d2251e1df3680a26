/**
 * Commands of the control virtqueue (virtio 1.2 §5.1.6.5), executed on a device that offers CTRL_VQ and MQ, but none of
 * CTRL_RX, CTRL_VLAN, GUEST_ANNOUNCE, CTRL_MAC_ADDR, CTRL_GUEST_OFFLOADS, RSS and HASH_REPORT.
 */

/** Acknowledgements. */
export const VIRTIO_NET_OK = 0;
export const VIRTIO_NET_ERR = 1;

/** Classes that a driver may have heard of; those of features that aren't offered are answered with ERR. */
export const CTRL_RX = 0;
export const CTRL_MAC = 1;
export const CTRL_VLAN = 2;
export const CTRL_ANNOUNCE = 3;
export const CTRL_MQ = 4;
export const CTRL_GUEST_OFFLOADS = 5;

export const MQ_VQ_PAIRS_SET = 0;

/** Class, command, and virtqueue_pairs (le16). */
const VQ_PAIRS_SET_SIZE = 4;

/** What commands read and change. */
export interface ControlState {
  /** Queue pairs that the driver may use: max_virtqueue_pairs of the configuration space; 1 without MQ. */
  readonly maxPairs: number;
  /** MQ was negotiated. */
  readonly multiqueue: boolean;
  /** Queue pairs that the driver uses now. */
  activePairs: number;
}

/**
 * Executes one command.
 * @param command class, command and command-specific data
 * @param length bytes of it, of which `command` holds the first
 * @returns VIRTIO_NET_OK, or VIRTIO_NET_ERR for a command that the device doesn't know, of a wrong size, or that asks for
 *   what can't be; the state is then as before
 */
export function executeControl(command: Uint8Array, length: number, state: ControlState): number {
  if (length < 2 || command[0] !== CTRL_MQ || command[1] !== MQ_VQ_PAIRS_SET) return VIRTIO_NET_ERR;
  // §5.1.6.5.5.1: only with MQ, and from 1 to max_virtqueue_pairs.
  if (!state.multiqueue || length !== VQ_PAIRS_SET_SIZE) return VIRTIO_NET_ERR;
  const pairs = command[2]! | (command[3]! << 8);
  if (pairs < 1 || pairs > state.maxPairs) return VIRTIO_NET_ERR;
  state.activePairs = pairs;
  return VIRTIO_NET_OK;
}
