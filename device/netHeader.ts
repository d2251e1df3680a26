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

/**
 * Writes the header of a frame for the driver.
 * @param size NET_HDR_SIZE or NET_HDR_SIZE_LEGACY
 * @param csumStart where the checksum begins in the frame, 0 if it is complete (virtio 1.2 §5.1.6.4.1)
 * @param headers bytes of the headers before what is to be segmented
 * @param buffers how many the frame fills
 */
export function writeNetHeader(
  h: Uint8Array,
  o: number,
  size: number,
  csumStart: number,
  csumOffset: number,
  gsoType: number,
  gsoSize: number,
  headers: number,
  buffers: number,
): void {
  const hdrLen = gsoType === GSO_NONE ? 0 : headers;
  h[o + HDR_FLAGS] = csumStart === 0 ? 0 : HDR_F_NEEDS_CSUM;
  h[o + HDR_GSO_TYPE] = gsoType;
  h[o + HDR_HDR_LEN] = hdrLen;
  h[o + HDR_HDR_LEN + 1] = hdrLen >> 8;
  h[o + HDR_GSO_SIZE] = gsoSize;
  h[o + HDR_GSO_SIZE + 1] = gsoSize >> 8;
  h[o + HDR_CSUM_START] = csumStart;
  h[o + HDR_CSUM_START + 1] = csumStart >> 8;
  h[o + HDR_CSUM_OFFSET] = csumOffset;
  h[o + HDR_CSUM_OFFSET + 1] = csumOffset >> 8;
  if (size <= HDR_NUM_BUFFERS) return;
  h[o + HDR_NUM_BUFFERS] = buffers;
  h[o + HDR_NUM_BUFFERS + 1] = buffers >> 8;
}
