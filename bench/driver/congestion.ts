/** CUBIC congestion control (RFC 9438), in bytes. */

const INITIAL_SEGMENTS = 10;
const MIN_SEGMENTS = 2;
const BETA = 0.7;
/** Segments per second³. */
const C = 0.4;

export class Cubic {
  /** Congestion window, bytes. */
  cwnd = 0;
  private mss = 0;
  private ssthresh = Infinity;
  /** The window before the last reduction, segments. */
  private wMax = 0;
  /** When the present growth began, ms; with `inEpoch`. */
  private epoch = 0;
  private inEpoch = false;
  /** How long the curve takes to come back to `wMax`, s. */
  private k = 0;

  reset(mss: number): void {
    this.mss = mss;
    this.cwnd = INITIAL_SEGMENTS * mss;
    this.ssthresh = Infinity;
    this.wMax = 0;
    this.inEpoch = false;
  }

  /**
   * New data was acknowledged.
   * @param flight bytes that were in flight before
   * @param now ms, modulo 2^32
   */
  acknowledged(bytes: number, flight: number, now: number): void {
    // It grows only while it is what limits the sender (RFC 9438 §5.8).
    if (flight < this.cwnd / 2) return;
    if (this.cwnd < this.ssthresh) {
      this.cwnd += bytes;
      return;
    }
    if (!this.inEpoch) this.beginEpoch(now);
    const t = ((now - this.epoch) | 0) / 1000;
    const target = C * (t - this.k) ** 3 + this.wMax;
    const segments = this.cwnd / this.mss;
    const growth = target > segments ? Math.min((target - segments) / segments, 0.5) : 0.01 / segments;
    this.cwnd += bytes * growth;
  }

  /**
   * Loss found by duplicate acknowledgements. What counts is what was in flight, not a window that nothing filled
   * (RFC 9438 §4.6).
   * @param flight bytes
   */
  reduced(flight: number): void {
    this.wMax = flight / this.mss;
    this.ssthresh = Math.max(flight * BETA, MIN_SEGMENTS * this.mss);
    this.cwnd = this.ssthresh;
    this.inEpoch = false;
  }

  /** Loss found by the retransmission timer. */
  timedOut(flight: number): void {
    this.reduced(flight);
    this.cwnd = this.mss;
  }

  private beginEpoch(now: number): void {
    const segments = this.cwnd / this.mss;
    this.inEpoch = true;
    this.epoch = now;
    this.wMax = Math.max(this.wMax, segments);
    this.k = Math.cbrt((this.wMax - segments) / C);
  }
}
