/** The device configuration space of a virtio-net device (virtio 1.2 §5.1.4). */
import type { DeviceConfig } from './dataPlane.js';
import { VIRTIO_NET_S_LINK_UP } from './netState.js';

/** Bytes of configuration space that a front end may ask for (VHOST_USER_MAX_CONFIG_SIZE); what lies behind the fields is zero. */
export const NET_CONFIG_SIZE = 256;

export const OFFSET_MAC = 0;
export const OFFSET_STATUS = 6;
const OFFSET_MAX_VIRTQUEUE_PAIRS = 8;
const OFFSET_MTU = 10;

/** Bytes of the fields that there are. */
export const NET_CONFIG_FIELDS = 12;

/** `struct virtio_net_config`, little-endian, padded with zeroes to `NET_CONFIG_SIZE` bytes. */
export function netConfigSpace(config: DeviceConfig): Uint8Array {
  const space = new Uint8Array(NET_CONFIG_SIZE);
  const view = new DataView(space.buffer);
  space.set(config.mac, OFFSET_MAC);
  view.setUint16(OFFSET_STATUS, VIRTIO_NET_S_LINK_UP, true);
  view.setUint16(OFFSET_MAX_VIRTQUEUE_PAIRS, config.pairs, true);
  view.setUint16(OFFSET_MTU, config.mtu, true);
  return space;
}
