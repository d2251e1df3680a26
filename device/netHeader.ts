/** struct virtio_net_hdr (virtio 1.2 §5.1.6), little-endian. */

export const HDR_FLAGS = 0;
export const HDR_GSO_TYPE = 1;
export const HDR_HDR_LEN = 2;
export const HDR_GSO_SIZE = 4;
export const HDR_CSUM_START = 6;
export const HDR_CSUM_OFFSET = 8;
export const HDR_NUM_BUFFERS = 10;

/** Bytes of the header with VERSION_1 or MRG_RXBUF, and of the legacy one without num_buffers. */
export const NET_HDR_SIZE = 12;
export const NET_HDR_SIZE_LEGACY = 10;

export const HDR_F_NEEDS_CSUM = 1;

export const GSO_NONE = 0;
export const GSO_TCPV4 = 1;
export const GSO_TCPV6 = 4;
export const GSO_ECN = 0x80;
