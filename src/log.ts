/** Logging to standard error: JSON lines for machines, plain lines on a terminal. */
import { writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { pino } from 'pino';
import type { Logger } from 'pino';
import type { LogLevel } from './config.js';

export type { Logger };

const LEVEL_NAMES: Readonly<Record<number, string>> = { 10: 'trace', 20: 'debug', 30: 'info', 40: 'warn', 50: 'error' };

/** Fields of every line that a person needs no reminder of. */
const STANDARD_FIELDS = new Set(['level', 'time', 'msg']);

/**
 * One log line for a person: `12:00:00.000 warn message key=value`.
 * @param line a line of JSON from pino
 */
function readableLine(line: string): string {
  const entry = JSON.parse(line) as Record<string, unknown>;
  const time = new Date(Number(entry['time'])).toISOString().slice(11, 23);
  const level = LEVEL_NAMES[Number(entry['level'])] ?? 'fatal';
  const rest = Object.entries(entry)
    .filter(([key]) => !STANDARD_FIELDS.has(key))
    .map(([key, value]) => ` ${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  return `${time} ${level} ${String(entry['msg'] ?? '')}${rest.join('')}\n`;
}

const STDERR_FD = 2;
/** Bytes that may wait for who reads standard error; lines beyond are dropped: a reader that stopped must not cost memory. */
const MAX_BACKLOG = 1 << 20;

/**
 * Writes to standard error at once: nothing is lost when the process ends. What can't be written is lost: a full disk is
 * no reason to end. Node.js would give a file up for good after the first error, so files are written by hand.
 */
function writeStandardError(text: string): void {
  if (process.stderr instanceof Socket) {
    if (process.stderr.writableLength < MAX_BACKLOG) process.stderr.write(text);
    return;
  }
  try {
    writeSync(STDERR_FD, text);
  } catch {
    // There is nobody to tell.
  }
}

/** A logger that writes to standard error. */
export function createLogger(level: LogLevel): Logger {
  const readable = process.stderr.isTTY;
  const destination = {
    write: (line: string): void => writeStandardError(readable ? readableLine(line) : line),
  };
  return pino({ level, base: null }, destination);
}
