/** Which engine the workers use: what the user wants, as far as the kernel lets us. */
import { addon } from '../../src/native/addon.js';
import { COUNTER_NAMES } from '../counters.js';
import { EPOLLIN, EVENT_WORDS, type EngineChoice, type EngineName } from './engine.js';
import { UringEngine } from './uringEngine.js';

/** How long the probe waits for an event that is there already, ms. */
const PROBE_MS = 1_000;
const PROBE_EVENTS = 16;

/** The kernel has no io_uring for us. */
export class NoUringError extends Error {
  override readonly name = 'NoUringError';
}

/** The engine, and a line for the log. @throws {NoUringError} for `uring` where there is none */
export function chooseEngine(choice: EngineChoice, probe = probeUring): { engine: EngineName; reason: string } {
  if (choice === 'epoll') return { engine: 'epoll', reason: 'asked for' };
  const obstacle = probe();
  if (choice === 'uring') {
    if (obstacle === undefined) return { engine: 'uring', reason: 'asked for' };
    throw new NoUringError(`no io_uring here (${obstacle}): use --engine epoll, or auto`);
  }
  if (obstacle !== undefined) return { engine: 'epoll', reason: `no io_uring here: ${obstacle}` };
  return { engine: 'uring', reason: 'the kernel has io_uring' };
}

/** Makes a ring and sees two events of one poll through it. What was in the way, `undefined` when it works. */
export function probeUring(): string | undefined {
  const events = new Int32Array(EVENT_WORDS * PROBE_EVENTS);
  let engine: UringEngine;
  try {
    engine = new UringEngine(addon, new Float64Array(COUNTER_NAMES.length), events, new Int32Array(2));
  } catch (error) {
    return (error as Error).message;
  }
  const fd = addon.eventfdCreate();
  try {
    engine.watchEventfd(fd, 1, 0);
    for (let n = 0; n < 2; n++) {
      engine.signal(fd);
      if (engine.wait(PROBE_MS) !== 1 || (events[2]! & EPOLLIN) === 0) return 'multishot polls report nothing';
    }
    return undefined;
  } catch (error) {
    return (error as Error).message;
  } finally {
    engine.end();
    addon.close(fd);
  }
}
