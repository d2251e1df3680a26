/** Fine level: slots of one tick; the tick's bits are dropped from a time by the mask. */
const TICK_SHIFT = 4;
const TICK_MS = 1 << TICK_SHIFT;
const FINE_SLOTS = 256;
/** Coarse level: each slot spans all of the fine level. */
const GROUP_SHIFT = 12;
const GROUP_MS = 1 << GROUP_SHIFT;
const COARSE_SLOTS = 2048;

/** Word indexes in `wheel`. Slots hold the first flow + 1, so that zeros are an empty wheel. */
const CLOCK = 0;
const ARMED = 1;
const BITS = 2;
const COARSE_BITS = BITS + FINE_SLOTS / 32;
const SLOTS = COARSE_BITS + COARSE_SLOTS / 32;
const WORDS = SLOTS + FINE_SLOTS + COARSE_SLOTS;

const NONE = -1;

/**
 * Timers of flows, one each, in a hierarchical wheel of two levels (Varghese & Lauck, 1987): 256 slots of 16 ms, and
 * 2,048 of 4,096 ms (2 h 19 min) that are spread over the fine ones when their time comes. Slots are doubly linked lists
 * through the flows' records: field f of flow n is `records[n * stride + f]`.
 *
 * Times are int32 ms from a monotonic clock and may wrap. Timers fire in the first tick that begins at or after the
 * deadline, never early. A deadline beyond the horizon waits in the last slot and is put right when that slot's time
 * comes. Times must be less than 2^31 ms ahead of the last `advance`.
 *
 * Slot numbers are 0 … 255 fine, 256 … 2303 coarse. The clock is a multiple of 16 ms: armed timers lie in the ticks from
 * it on. All state is in `wheel` and `records`: a new instance over the same ones goes on with them (after a thread that
 * ended in the middle of a call: `clear`, the lists may be broken).
 */
export class TimerWheel {
  readonly #wheel: Int32Array;
  readonly #records: Int32Array;
  readonly #stride: number;
  readonly #next: number;
  readonly #prev: number;
  readonly #slot: number;
  readonly #deadline: number;

  /** Length of `wheel`. */
  static words(): number {
    return WORDS;
  }

  /**
   * @param wheel `words()` int32; zeros are an empty wheel.
   * @param slotField Holds -1 while the flow's timer isn't armed: to be set so by the caller before the first `arm`.
   * @throws {RangeError} When `wheel` is too short.
   */
  constructor(
    wheel: Int32Array,
    records: Int32Array,
    stride: number,
    nextField: number,
    prevField: number,
    slotField: number,
    deadlineField: number,
  ) {
    if (wheel.length < WORDS) {
      throw new RangeError(`A timer wheel takes ${WORDS} words, not ${wheel.length}.`);
    }
    this.#wheel = wheel;
    this.#records = records;
    this.#stride = stride;
    this.#next = nextField;
    this.#prev = prevField;
    this.#slot = slotField;
    this.#deadline = deadlineField;
  }

  /** Arms the flow's timer, or moves it when it is armed. A deadline that has passed fires at the next `advance`. */
  arm(flow: number, deadline: number, now: number): void {
    const wheel = this.#wheel;
    const record = flow * this.#stride;
    if (wheel[ARMED] === 0) {
      wheel[CLOCK] = now & -TICK_MS;
    }
    this.#records[record + this.#deadline] = deadline;
    const slot = this.#slotFor(((deadline - now) | 0) <= 0 ? wheel[CLOCK]! : deadline);
    if (this.#records[record + this.#slot] !== slot) {
      this.cancel(flow);
      this.#link(flow, slot);
    }
  }

  /** Disarms the flow's timer; does nothing when it isn't armed. */
  cancel(flow: number): void {
    const slot = this.#records[flow * this.#stride + this.#slot]!;
    if (slot !== NONE) {
      this.#unlink(flow, slot);
    }
  }

  /**
   * Moves expired flows to `fired`, disarmed, at most as many as it holds: when it comes back full, call again with the
   * same time for the rest.
   * @returns How many.
   */
  advance(now: number, fired: Int32Array): number {
    const wheel = this.#wheel;
    const target = now & -TICK_MS;
    let count = 0;
    for (;;) {
      const clock = wheel[CLOCK]!;
      const slot = (clock >> TICK_SHIFT) & (FINE_SLOTS - 1);
      while (wheel[SLOTS + slot] !== 0) {
        if (count === fired.length) {
          return count;
        }
        const flow = wheel[SLOTS + slot]! - 1;
        this.#unlink(flow, slot);
        fired[count++] = flow;
      }
      const span = (target - clock) | 0;
      if (span <= 0) {
        return count;
      }
      const step = this.#nextStep(clock);
      if (step === NONE || step > span) {
        wheel[CLOCK] = target;
        return count;
      }
      wheel[CLOCK] = clock + step;
      if ((wheel[CLOCK]! & (GROUP_MS - 1)) === 0) {
        this.#cascade();
      }
    }
  }

  /** ms until the next slot that may expire (some of its timers may have been put off); 0 when overdue, -1 when no timer is armed. */
  timeout(now: number): number {
    const wheel = this.#wheel;
    if (wheel[ARMED] === 0) {
      return -1;
    }
    const clock = wheel[CLOCK]!;
    if (wheel[SLOTS + ((clock >> TICK_SHIFT) & (FINE_SLOTS - 1))] !== 0) {
      return 0;
    }
    return Math.max(0, (clock + this.#nextStep(clock) - now) | 0);
  }

  /** Forgets all timers; the caller has set the slot fields of all records to -1. The clock is set anew by the next `arm`. */
  clear(): void {
    this.#wheel.fill(0, 0, WORDS);
  }

  /** The slot that a deadline belongs in, seen from the clock. */
  #slotFor(deadline: number): number {
    const clock = this.#wheel[CLOCK]!;
    // Whole ticks, rounded up; the subtraction first, so that a wrap between the two doesn't matter.
    const ahead = (deadline - clock) | 0;
    if (ahead <= 0) {
      return (clock >> TICK_SHIFT) & (FINE_SLOTS - 1);
    }
    if (ahead <= GROUP_MS - TICK_MS) {
      return ((clock + ahead + TICK_MS - 1) >> TICK_SHIFT) & (FINE_SLOTS - 1);
    }
    // In groups from the clock's own; one that is a whole turn ahead would fall onto the clock's.
    const groups = ((clock & (GROUP_MS - 1)) + ahead + TICK_MS - 1) / GROUP_MS;
    const group = (clock >> GROUP_SHIFT) + Math.min(Math.floor(groups), COARSE_SLOTS - 1);
    return FINE_SLOTS + (group & (COARSE_SLOTS - 1));
  }

  /** Spreads the coarse slot that begins at the clock. Timers put off, and those beyond the horizon, go back into the coarse level. */
  #cascade(): void {
    const wheel = this.#wheel;
    const slot = FINE_SLOTS + ((wheel[CLOCK]! >> GROUP_SHIFT) & (COARSE_SLOTS - 1));
    while (wheel[SLOTS + slot] !== 0) {
      const flow = wheel[SLOTS + slot]! - 1;
      this.#unlink(flow, slot);
      this.#link(flow, this.#slotFor(this.#records[flow * this.#stride + this.#deadline]!));
    }
  }

  /** ms from the clock to the next occupied tick or group, -1 when there is none; the clock's own tick is empty. */
  #nextStep(clock: number): number {
    const tick = (clock >> TICK_SHIFT) + 1;
    const group = (clock >> GROUP_SHIFT) + 1;
    const ticks = this.#distance(BITS, FINE_SLOTS, tick & (FINE_SLOTS - 1));
    const groups = this.#distance(COARSE_BITS, COARSE_SLOTS, group & (COARSE_SLOTS - 1));
    const fine = ticks === NONE ? NONE : (ticks + 1) * TICK_MS;
    const coarse = groups === NONE ? NONE : (groups + 1) * GROUP_MS - (clock & (GROUP_MS - 1));
    return fine === NONE || (coarse !== NONE && coarse < fine) ? coarse : fine;
  }

  /** How many slots of a level from slot `from` on, wrapping, are empty before an occupied one; -1 when all are. */
  #distance(bits: number, slots: number, from: number): number {
    const wheel = this.#wheel;
    const words = slots >>> 5;
    let occupied = wheel[bits + (from >>> 5)]! & (-1 << (from & 31));
    for (let turn = 0; turn <= words; turn++) {
      const word = ((from >>> 5) + turn) & (words - 1);
      if (turn > 0) {
        occupied = wheel[bits + word]!;
      }
      if (occupied !== 0) {
        const lowest = 31 - Math.clz32(occupied & -occupied);
        return (word * 32 + lowest - from) & (slots - 1);
      }
    }
    return NONE;
  }

  #link(flow: number, slot: number): void {
    const wheel = this.#wheel;
    const records = this.#records;
    const record = flow * this.#stride;
    const first = wheel[SLOTS + slot]! - 1;
    records[record + this.#slot] = slot;
    records[record + this.#prev] = NONE;
    records[record + this.#next] = first;
    if (first === NONE) {
      // The bitmaps adjoin: fine slot numbers end where coarse ones begin.
      wheel[BITS + (slot >>> 5)]! |= 1 << (slot & 31);
    } else {
      records[first * this.#stride + this.#prev] = flow;
    }
    wheel[SLOTS + slot] = flow + 1;
    wheel[ARMED]!++;
  }

  #unlink(flow: number, slot: number): void {
    const wheel = this.#wheel;
    const records = this.#records;
    const record = flow * this.#stride;
    const next = records[record + this.#next]!;
    const prev = records[record + this.#prev]!;
    if (next !== NONE) {
      records[next * this.#stride + this.#prev] = prev;
    }
    if (prev !== NONE) {
      records[prev * this.#stride + this.#next] = next;
    } else {
      wheel[SLOTS + slot] = next + 1;
      if (next === NONE) {
        wheel[BITS + (slot >>> 5)]! &= ~(1 << (slot & 31));
      }
    }
    records[record + this.#slot] = NONE;
    wheel[ARMED]!--;
  }
}
