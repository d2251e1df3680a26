/** Which engine the workers get. */
import { describe, expect, it } from 'vitest';
import { NoUringError, chooseEngine } from '../../../workers/engine/chooseEngine.js';

const there = (): undefined => undefined;
const forbidden = (): string => 'io_uring_setup: Operation not permitted';
const broken = (): never => {
  throw new Error('nobody wants to know');
};

describe('chooseEngine', () => {
  it('takes epoll unseen when asked to', () => {
    expect(chooseEngine('epoll', broken).engine).toBe('epoll');
  });

  it('takes io_uring where it is allowed', () => {
    expect(chooseEngine('uring', there).engine).toBe('uring');
    expect(chooseEngine('auto', there).engine).toBe('uring');
  });

  it('falls back to epoll, and says why', () => {
    const { engine, reason } = chooseEngine('auto', forbidden);
    expect(engine).toBe('epoll');
    expect(reason).toContain('Operation not permitted');
  });

  it('says what to do where io_uring was asked for and is forbidden', () => {
    expect(() => chooseEngine('uring', forbidden)).toThrow(NoUringError);
    expect(() => chooseEngine('uring', forbidden)).toThrow(/Operation not permitted.*--engine epoll/);
  });
});
