/** What each worker counts, in shared memory: one writer, read by the main thread at any time. */

/** Names in the order of their places. */
export const COUNTER_NAMES = [
  'framesFromGuest',
  'framesToGuest',
  'bytesFromGuest',
  'bytesToGuest',
  'flowsOpened',
  'flowsClosed',
  'flowsRefused',
  'connectFailed',
  'connectTimedOut',
  'resetsSent',
  'resetsReceived',
  'retransmissions',
  'windowProbes',
  'duplicateSegments',
  'outOfOrderSegments',
  'chainsHeld',
  'datagramsFromGuest',
  'datagramsToGuest',
  // The socket was full, or had no route.
  'datagramsDropped',
  // To the guest, longer than its MTU.
  'datagramsTooLong',
  'icmpErrorsSent',
  'handoffsOut',
  'handoffsIn',
  'handoffsDropped',
  'rehomedOut',
  'rehomedIn',
  'malformedFrames',
  'malformedChains',
  'unsupportedFrames',
  'badChecksums',
  'deniedByPolicy',
  'shardFull',
  'socketFailed',
  'receiveBuffersMissing',
  'kicks',
  'interrupts',
  'cycles',
  'sleeps',
  'takeovers',
  // System calls by kind, and operations that an io_uring took instead.
  'waitCalls',
  'watchCalls',
  'signalCalls',
  'socketCalls',
  'optionCalls',
  'connectCalls',
  'sendCalls',
  'peekCalls',
  'discardCalls',
  'receiveCalls',
  'shutdownCalls',
  'closeCalls',
  'ringOperations',
] as const;

export type CounterName = (typeof COUNTER_NAMES)[number];

/** Place of each counter. */
export const C = Object.fromEntries(COUNTER_NAMES.map((name, place) => [name, place])) as Record<CounterName, number>;

export type Counters = Float64Array;

/** The counters as an object. */
export function readCounters(counters: Counters): Record<CounterName, number> {
  return Object.fromEntries(COUNTER_NAMES.map((name, place) => [name, counters[place]!])) as Record<
    CounterName,
    number
  >;
}
