/** The arrays that this thread exchanges with the addon's hot functions. */
import { addon } from '../../src/native/addon.js';

/** The most pieces that one packet's checksum is taken over. */
const MAX_IOVECS = 320;
const MAX_EVENTS = 64;

/** [region, offset, length] triples. */
export const iovecs = new Uint32Array(3 * MAX_IOVECS);
/** [token, generation, epoll event bits] triples. */
export const events = new Int32Array(3 * MAX_EVENTS);
/** CLOCK_MONOTONIC in milliseconds and in microseconds, modulo 2^32. */
export const clock = new Int32Array(2);

/** Makes the arrays this thread's scratch; before the first use of an event loop. */
export function bindDriverScratch(): void {
  addon.bindScratch(iovecs, events, clock);
  addon.readClock();
}
