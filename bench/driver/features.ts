/** What the driver takes of the features that a back end offers, and what that means for its hot path. */
import {
  VHOST_USER_F_PROTOCOL_FEATURES,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
} from '../../device/features.js';

/** The features the driver knows what to do with, by the names of virtio 1.2 §5.1.3 and §6. */
const KNOWN = {
  CSUM: VIRTIO_NET_F_CSUM,
  GUEST_CSUM: VIRTIO_NET_F_GUEST_CSUM,
  MTU: VIRTIO_NET_F_MTU,
  MAC: VIRTIO_NET_F_MAC,
  GUEST_TSO4: VIRTIO_NET_F_GUEST_TSO4,
  GUEST_TSO6: VIRTIO_NET_F_GUEST_TSO6,
  HOST_TSO4: VIRTIO_NET_F_HOST_TSO4,
  HOST_TSO6: VIRTIO_NET_F_HOST_TSO6,
  MRG_RXBUF: VIRTIO_NET_F_MRG_RXBUF,
  STATUS: VIRTIO_NET_F_STATUS,
  MQ: VIRTIO_NET_F_MQ,
  INDIRECT_DESC: VIRTIO_F_INDIRECT_DESC,
  EVENT_IDX: VIRTIO_F_EVENT_IDX,
  PROTOCOL_FEATURES: VHOST_USER_F_PROTOCOL_FEATURES,
  VERSION_1: VIRTIO_F_VERSION_1,
} as const;

export type FeatureName = keyof typeof KNOWN;

/** Those that may be refused: without the others the driver can't work. */
export const REFUSABLE: readonly FeatureName[] = [
  'CSUM',
  'GUEST_CSUM',
  'MTU',
  'GUEST_TSO4',
  'GUEST_TSO6',
  'HOST_TSO4',
  'HOST_TSO6',
  'MRG_RXBUF',
  'MQ',
  'INDIRECT_DESC',
  'EVENT_IDX',
];

/** The negotiated features as the hot path asks for them. */
export interface Offloads {
  readonly csum: boolean;
  readonly guestCsum: boolean;
  readonly hostTso4: boolean;
  readonly guestTso4: boolean;
  readonly mergeable: boolean;
  readonly indirect: boolean;
  readonly eventIdx: boolean;
}

/** All known features of `offered` but the refused and those whose prerequisites are missing (virtio 1.2 §5.1.3.1). */
export function acceptFeatures(offered: bigint, refused: readonly FeatureName[]): bigint {
  let accepted = 0n;
  for (const bit of Object.values(KNOWN)) accepted |= offered & bit;
  for (const name of refused) accepted &= ~KNOWN[name];
  if (!has(accepted, 'CSUM')) accepted &= ~(KNOWN.HOST_TSO4 | KNOWN.HOST_TSO6);
  // Large segments are taken in mergeable buffers only: whole ones of 64 KiB would be wasted on small packets.
  if (!has(accepted, 'GUEST_CSUM') || !has(accepted, 'MRG_RXBUF')) accepted &= ~(KNOWN.GUEST_TSO4 | KNOWN.GUEST_TSO6);
  return accepted;
}

export function has(features: bigint, name: FeatureName): boolean {
  return (features & KNOWN[name]) !== 0n;
}

/** Names of the known bits and numbers of the others. */
export function featureNames(features: bigint): string[] {
  const names = Object.entries(KNOWN).filter(([, bit]) => (features & bit) !== 0n);
  const known = names.reduce((sum, [, bit]) => sum | bit, 0n);
  const rest = Array.from({ length: 64 }, (_, n) => n).filter((n) => ((features & ~known) >> BigInt(n)) & 1n);
  return [...names.map(([name]) => name), ...rest.map((n) => `bit ${n}`)];
}

export function offloads(features: bigint): Offloads {
  return {
    csum: has(features, 'CSUM'),
    guestCsum: has(features, 'GUEST_CSUM'),
    hostTso4: has(features, 'HOST_TSO4'),
    guestTso4: has(features, 'GUEST_TSO4'),
    mergeable: has(features, 'MRG_RXBUF'),
    indirect: has(features, 'INDIRECT_DESC'),
    eventIdx: has(features, 'EVENT_IDX'),
  };
}
