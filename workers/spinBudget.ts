/**
 * Whether a worker that has nothing to do looks again at once, or sleeps. To sleep and be woken costs tens of microseconds
 * on both sides, and a driver that is looked at need not notify.
 *
 * It pays where the next piece of work is likely to come soon, so the gaps between pieces are learnt. It costs where there
 * is no CPU to spare: a worker that loses its CPU while it looks takes it from those who work for it, so it gives up for a
 * while, and for longer each time.
 */

/** The most that is spent on one gap, µs: about what it saves. */
const MAX_SPIN_US = 50;
/** Gaps are measured with the cost of having slept in them: twice the budget still counts as short. */
const SHORT_GAP_US = 2 * MAX_SPIN_US;
/** What a long gap counts as, µs: a few short ones make up for it. */
const LONG_GAP_US = 4 * MAX_SPIN_US;
/** Weight of the latest gap in the moving average: 1/8. */
const GAP_SHIFT = 3;
/** A look takes a microsecond or two: between two that lie this far apart, in µs, another thread had the CPU. */
const PREEMPTED_US = 200;
const FIRST_PENALTY_US = 10_000;
const MAX_PENALTY_US = 1_000_000;

export class SpinBudget {
  /** Moving average of the gaps, µs << GAP_SHIFT. */
  private gaps = LONG_GAP_US << GAP_SHIFT;
  private idle = false;
  private looking = false;
  private lastWork = 0;
  private lastCycle = 0;
  private barred = false;
  private barredUntil = 0;
  private penalty = FIRST_PENALTY_US;

  /**
   * Ends a cycle that began at `now` (µs, modulo 2^32) and found work or not.
   * @returns whether to look again at once
   */
  again(now: number, worked: boolean): boolean {
    if (this.looking && ((now - this.lastCycle) | 0) > PREEMPTED_US) this.bar(now);
    this.lastCycle = now;
    if (worked) {
      if (this.idle) this.learn((now - this.lastWork) >>> 0);
      this.lastWork = now;
    }
    this.idle = !worked;
    const spin = this.likely(now) && ((now - this.lastWork) | 0) < MAX_SPIN_US;
    this.looking = spin && !worked;
    return spin;
  }

  private learn(gap: number): void {
    this.gaps += Math.min(gap, LONG_GAP_US) - (this.gaps >> GAP_SHIFT);
  }

  private likely(now: number): boolean {
    if (this.barred && ((now - this.barredUntil) | 0) >= 0) this.barred = false;
    return !this.barred && this.gaps <= SHORT_GAP_US << GAP_SHIFT;
  }

  /** The CPU was taken away. A penalty that lies long back is forgotten. */
  private bar(now: number): void {
    const since = (now - this.barredUntil) >>> 0;
    this.penalty = since > 8 * this.penalty ? FIRST_PENALTY_US : Math.min(2 * this.penalty, MAX_PENALTY_US);
    this.barred = true;
    this.barredUntil = (now + this.penalty) | 0;
  }
}
