/**
 * Puts off telling the driver that small frames were sent. An interrupt costs the guest more than such a frame, and mostly
 * it isn't needed: the driver looks at its transmit queue whenever it sends, and when it receives. What was used is shown at
 * once; if the driver still waits for it a moment later, it is told (virtio 1.2 §2.7.7.2 wants the notification, and sets no
 * time).
 */
import { QUEUE_PUBLISHED, type Virtqueue } from '../device/virtqueue.js';

const MODERATION_MS = 1;
/** Frames up to this length, in bytes, are small: senders of longer ones may wait for their buffers. */
export const SMALL_FRAME = 256;
/** The part of the ring that may be used up before the driver is told. */
const RING_PART = 8;

export class InterruptModeration {
  /** A frame was sent that isn't small: the next interrupt comes at once. */
  urgent = false;
  private pending = false;
  private since = 0;
  private from = 0;

  constructor(
    private readonly virtqueue: Virtqueue,
    private readonly state: Int32Array,
  ) {}

  /** Shows the driver what is staged. Whether to interrupt it now, at `now` ms. */
  publish(now: number): boolean {
    const { state, virtqueue } = this;
    const from = state[QUEUE_PUBLISHED]!;
    const wanted = virtqueue.publish();
    if (wanted && !this.pending) {
      this.pending = true;
      this.since = now;
      this.from = from;
    }
    if (this.pending && this.mayWait(now)) return false;
    const due = this.pending && virtqueue.wantsInterrupt(this.from);
    this.pending = false;
    this.urgent = false;
    return due;
  }

  /** Ms until an interrupt that was put off is due; -1: there is none. */
  left(now: number): number {
    return this.pending ? Math.max(0, MODERATION_MS - ((now - this.since) | 0)) : -1;
  }

  private mayWait(now: number): boolean {
    const used = (this.state[QUEUE_PUBLISHED]! - this.from) & 0xffff;
    return !this.urgent && this.left(now) > 0 && used * RING_PART < this.virtqueue.size;
  }
}
