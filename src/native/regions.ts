/** Memory that the addon maps: named by a small integer, seen through an ArrayBuffer. */

/** A mapping made by this thread. */
export interface MappedRegion {
  /** Small non-negative integer, unique among the live regions of this thread. */
  readonly region: number;
  /** The mapped bytes; detached (length 0) by `unmapRegion`. At most 4 GiB. */
  readonly buffer: ArrayBuffer;
}
