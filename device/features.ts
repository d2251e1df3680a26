/**
 * Feature bits of the virtio-net device, as masks, and the rules for sets of them.
 * Sources: virtio 1.2 §5.1.3 (network device), §6 (reserved feature bits); vhost-user, "Communication".
 */

/** The device takes packets with a partial checksum. */
export const VIRTIO_NET_F_CSUM = 1n << 0n;
/** The driver takes packets with a partial checksum. */
export const VIRTIO_NET_F_GUEST_CSUM = 1n << 1n;
export const VIRTIO_NET_F_MTU = 1n << 3n;
export const VIRTIO_NET_F_MAC = 1n << 5n;
export const VIRTIO_NET_F_GUEST_TSO4 = 1n << 7n;
export const VIRTIO_NET_F_GUEST_TSO6 = 1n << 8n;
export const VIRTIO_NET_F_HOST_TSO4 = 1n << 11n;
export const VIRTIO_NET_F_HOST_TSO6 = 1n << 12n;
export const VIRTIO_NET_F_MRG_RXBUF = 1n << 15n;
export const VIRTIO_NET_F_STATUS = 1n << 16n;
export const VIRTIO_NET_F_CTRL_VQ = 1n << 17n;
export const VIRTIO_NET_F_MQ = 1n << 22n;
export const VIRTIO_F_INDIRECT_DESC = 1n << 28n;
export const VIRTIO_F_EVENT_IDX = 1n << 29n;
/** Of vhost-user alone: no driver ever sees it, the front end negotiates it for itself. */
export const VHOST_USER_F_PROTOCOL_FEATURES = 1n << 30n;
export const VIRTIO_F_VERSION_1 = 1n << 32n;

/** What the device offers its driver. */
export const DEVICE_FEATURES =
  VIRTIO_NET_F_CSUM |
  VIRTIO_NET_F_GUEST_CSUM |
  VIRTIO_NET_F_MTU |
  VIRTIO_NET_F_MAC |
  VIRTIO_NET_F_GUEST_TSO4 |
  VIRTIO_NET_F_GUEST_TSO6 |
  VIRTIO_NET_F_HOST_TSO4 |
  VIRTIO_NET_F_HOST_TSO6 |
  VIRTIO_NET_F_MRG_RXBUF |
  VIRTIO_NET_F_STATUS |
  VIRTIO_NET_F_CTRL_VQ |
  VIRTIO_NET_F_MQ |
  VIRTIO_F_INDIRECT_DESC |
  VIRTIO_F_EVENT_IDX |
  VIRTIO_F_VERSION_1;

/**
 * Prerequisites of virtio 1.2 §5.1.3.1 that matter here: of each pair, the first can't be used without the second.
 * "MQ requires CTRL_VQ" is none of them: QEMU and DPDK's virtio-user serve the control queue themselves, keep CTRL_VQ
 * from the back end, and accept MQ without it.
 */
const PREREQUISITES: readonly (readonly [feature: bigint, needs: bigint])[] = [
  [VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_CSUM],
  [VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_CSUM],
  [VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_CSUM],
  [VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_CSUM],
];

/** Checks that a driver accepted only what was offered (virtio 1.2 §2.2.2). Returns the other bits in words, `undefined` if there are none. */
export function featuresFault(accepted: bigint): string | undefined {
  const foreign = accepted & ~DEVICE_FEATURES;
  return foreign === 0n ? undefined : `bits 0x${foreign.toString(16)} were not offered`;
}

/**
 * The features among those that a driver accepted that may be used: less those whose prerequisite is missing. Such sets
 * are no reason to end: QEMU with `csum=off` alone offers its guest HOST_TSO4 without CSUM, and Linux accepts that.
 * VERSION_1 is not required: legacy drivers, such as those of boot firmware, do without.
 */
export function usableFeatures(accepted: bigint): bigint {
  return PREREQUISITES.reduce(
    (left, [feature, needs]) => ((accepted & needs) === 0n ? left & ~feature : left),
    accepted,
  );
}
