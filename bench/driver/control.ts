/** Words in shared memory by which the main thread directs the driver's threads, and they report back. */

/** Index of the word that holds `Command` bits; written by the main thread. */
export const COMMANDS = 0;

export const Command = {
  /** Run the main flows; without it they end with their present operation, if they ever end one. */
  RUN: 1,
  /** Connect to the silent port. */
  STALL: 2,
  /** Open the idle connections. */
  IDLE: 4,
  /** Send one byte over each idle connection, once. */
  PING: 8,
  /** Leave the event loop. */
  STOP: 16,
} as const;

/** Indices of the words that all threads add to. */
export const Status = {
  /** Idle connections that are open, that could not be opened, and that have answered. */
  IDLE_OPEN: 1,
  IDLE_FAILED: 2,
  IDLE_ANSWERED: 3,
  /** Transfers that ended with all bytes right, and those that didn't. */
  TRANSFERS_DONE: 4,
  TRANSFERS_FAILED: 5,
} as const;

const WORDS = 8;

export function createControl(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(4 * WORDS));
}
