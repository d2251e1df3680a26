/**
 * Feature bits of the virtio-net device, as masks, and the rules for sets of them.
 * Sources: virtio 1.2 §5.1.3 (network device), §6 (reserved feature bits); vhost-user, "Communication".
 */

/** The device takes packets with a partial checksum. */
export const VIRTIO_NET_F_CSUM = 1n << 0n;
/** The driver takes packets with a partial checksum. */
export const VIRTIO_NET_F_GUEST_CSUM = 1n << 1n;
/** The driver can switch its offloads by the control queue. */
export const VIRTIO_NET_F_CTRL_GUEST_OFFLOADS = 1n << 2n;
export const VIRTIO_NET_F_MTU = 1n << 3n;
export const VIRTIO_NET_F_MAC = 1n << 5n;
export const VIRTIO_NET_F_GUEST_TSO4 = 1n << 7n;
export const VIRTIO_NET_F_GUEST_TSO6 = 1n << 8n;
export const VIRTIO_NET_F_HOST_TSO4 = 1n << 11n;
export const VIRTIO_NET_F_HOST_TSO6 = 1n << 12n;
export const VIRTIO_NET_F_MRG_RXBUF = 1n << 15n;
export const VIRTIO_NET_F_STATUS = 1n << 16n;
export const VIRTIO_NET_F_CTRL_VQ = 1n << 17n;
export const VIRTIO_NET_F_CTRL_RX = 1n << 18n;
export const VIRTIO_NET_F_CTRL_VLAN = 1n << 19n;
export const VIRTIO_NET_F_CTRL_RX_EXTRA = 1n << 20n;
export const VIRTIO_NET_F_GUEST_ANNOUNCE = 1n << 21n;
export const VIRTIO_NET_F_MQ = 1n << 22n;
export const VIRTIO_NET_F_CTRL_MAC_ADDR = 1n << 23n;
export const VIRTIO_F_INDIRECT_DESC = 1n << 28n;
export const VIRTIO_F_EVENT_IDX = 1n << 29n;
/** Of vhost-user alone: no driver ever sees it, the front end negotiates it for itself. */
export const VHOST_USER_F_PROTOCOL_FEATURES = 1n << 30n;
export const VIRTIO_F_VERSION_1 = 1n << 32n;
export const VIRTIO_F_RING_RESET = 1n << 40n;

/** What the device offers its driver by either front. */
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

/** What it offers where the driver's commands are sure to reach it: front ends of vhost-user serve most of the control queue themselves. */
export const PCI_DEVICE_FEATURES =
  DEVICE_FEATURES |
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS |
  VIRTIO_NET_F_CTRL_RX |
  VIRTIO_NET_F_CTRL_VLAN |
  VIRTIO_NET_F_CTRL_RX_EXTRA |
  VIRTIO_NET_F_GUEST_ANNOUNCE |
  VIRTIO_NET_F_CTRL_MAC_ADDR |
  VIRTIO_F_RING_RESET;

/**
 * Prerequisites of virtio 1.2 §5.1.3.1: each bit on the left needs the one on the right.
 *
 * Those that need CTRL_VQ are apart: QEMU and DPDK's virtio-user serve the control queue themselves, keep CTRL_VQ from the
 * back end and accept MQ without it, so the pair is complete between them and the driver.
 */
const PREREQUISITES: readonly (readonly [feature: bigint, needs: bigint, rule: string])[] = [
  [VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_CSUM, 'GUEST_TSO4 requires GUEST_CSUM'],
  [VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_CSUM, 'GUEST_TSO6 requires GUEST_CSUM'],
  [VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_CSUM, 'HOST_TSO4 requires CSUM'],
  [VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_CSUM, 'HOST_TSO6 requires CSUM'],
];

const CONTROL_PREREQUISITES: typeof PREREQUISITES = [
  [VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_F_CTRL_VQ, 'CTRL_RX requires CTRL_VQ'],
  [VIRTIO_NET_F_CTRL_VLAN, VIRTIO_NET_F_CTRL_VQ, 'CTRL_VLAN requires CTRL_VQ'],
  [VIRTIO_NET_F_CTRL_RX_EXTRA, VIRTIO_NET_F_CTRL_VQ, 'CTRL_RX_EXTRA requires CTRL_VQ'],
  [VIRTIO_NET_F_GUEST_ANNOUNCE, VIRTIO_NET_F_CTRL_VQ, 'GUEST_ANNOUNCE requires CTRL_VQ'],
  [VIRTIO_NET_F_MQ, VIRTIO_NET_F_CTRL_VQ, 'MQ requires CTRL_VQ'],
  [VIRTIO_NET_F_CTRL_MAC_ADDR, VIRTIO_NET_F_CTRL_VQ, 'CTRL_MAC_ADDR requires CTRL_VQ'],
  [VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, VIRTIO_NET_F_CTRL_VQ, 'CTRL_GUEST_OFFLOADS requires CTRL_VQ'],
];

/** Checks that a vhost-user front end accepted only what was offered (virtio 1.2 §2.2.2). Returns the other bits in words, `undefined` if there are none. */
export function featuresFault(accepted: bigint): string | undefined {
  return foreignFault(accepted, DEVICE_FEATURES);
}

/**
 * The features among those that a front end accepted that may be used: less those whose prerequisite is missing. Such sets
 * are no reason to end: QEMU with `csum=off` alone offers its guest HOST_TSO4 without CSUM, and Linux accepts that.
 * VERSION_1 is not required: legacy drivers, such as those of boot firmware, do without.
 */
export function usableFeatures(accepted: bigint): bigint {
  return PREREQUISITES.reduce(
    (left, [feature, needs]) => ((accepted & needs) === 0n ? left & ~feature : left),
    accepted,
  );
}

/** Checks a set of features that the driver of a modern PCI device accepted, which has all of the control queue (§5.1.3.1, §6.1). */
export function pciFeaturesFault(accepted: bigint): string | undefined {
  const rules = [...PREREQUISITES, ...CONTROL_PREREQUISITES];
  const broken = rules.find(([feature, needs]) => (accepted & feature) !== 0n && (accepted & needs) === 0n);
  return modernFault(accepted, PCI_DEVICE_FEATURES) ?? broken?.[2];
}

/** Checks that the driver of a modern device, of whatever type, accepted VERSION_1 (§6.1) and only what was offered (§2.2.2). */
export function modernFault(accepted: bigint, offered: bigint): string | undefined {
  if ((accepted & VIRTIO_F_VERSION_1) === 0n) return 'VERSION_1 is required: the device is no transitional one';
  return foreignFault(accepted, offered);
}

function foreignFault(accepted: bigint, offered: bigint): string | undefined {
  const foreign = accepted & ~offered;
  return foreign === 0n ? undefined : `bits 0x${foreign.toString(16)} were not offered`;
}
