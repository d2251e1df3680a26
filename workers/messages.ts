/** Messages between the main thread and the workers: words of the control and event rings. */

/** Control messages: [kind, ticket, device, queue, …]. Each is answered by an EVENT_DONE with its ticket. */

/** … queue pairs, MTU. */
export const CONTROL_ATTACH = 2;
/** … features low, high. */
export const CONTROL_FEATURES = 3;
/** … fd, guest address (low, high), size (low, high), file offset (low, high). */
export const CONTROL_MAP = 4;
export const CONTROL_UNMAP = 5;
/** … size, last available index, kick fd, call fd, descriptor table (low, high), available ring, used ring. */
export const CONTROL_START_QUEUE = 6;
/** Done with the next available index as value. */
export const CONTROL_STOP_QUEUE = 7;
/** … 0 or 1. */
export const CONTROL_ENABLE_QUEUE = 8;
/** … call fd. */
export const CONTROL_CALL_FD = 9;
/** Drops the device's flows. */
export const CONTROL_DROP_FLOWS = 10;
/** For tests: the worker throws in the middle of the next transmit chain. */
export const CONTROL_THROW = 11;
/** Nothing but an answer. */
export const CONTROL_PING = 12;
/** The driver notified a queue, by a VMM that has no eventfd for it. The only message without an answer. */
export const CONTROL_KICK = 13;

/** Words of a control message. */
export const KIND = 0;
export const TICKET = 1;
export const DEVICE_OF = 2;
export const QUEUE_OF = 3;
export const ARGUMENTS = 4;

/** Events: [kind, ticket or device, status or queue, value or reason]. */
export const EVENT_DONE = 1;
/** [kind, device, queue, reason]. */
export const EVENT_QUEUE_BROKEN = 2;

/** Statuses of EVENT_DONE: 0, or a positive errno. */
export const STATUS_OK = 0;

/** A worker's answer. */
export interface Answer {
  /** 0, or a positive errno. */
  readonly status: number;
  readonly value: number;
}

const TWO_32 = 4294967296;

/** Numbers below 2^53 as two words. */
export function putNumber(data: Int32Array, at: number, value: number): void {
  data[at] = (value % TWO_32) | 0;
  data[at + 1] = Math.floor(value / TWO_32);
}

export function getNumber(data: Int32Array, at: number): number {
  return (data[at]! >>> 0) + data[at + 1]! * TWO_32;
}
