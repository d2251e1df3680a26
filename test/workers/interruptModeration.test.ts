import { afterEach, describe, expect, it } from 'vitest';
import { InterruptModeration } from '../../workers/interruptModeration.js';
import { MockDriver } from '../device/mockDriver.js';

const SIZE = 64;

describe('interrupts for small frames that were sent (virtio 1.2 §2.7.7.2, §2.7.10)', () => {
  const mocks: MockDriver[] = [];
  afterEach(() => {
    for (const mock of mocks.splice(0)) mock[Symbol.dispose]();
  });

  function open(eventIdx = true): { mock: MockDriver; moderation: InterruptModeration; use: (n?: number) => void } {
    const mock = new MockDriver({ size: SIZE, eventIdx });
    mocks.push(mock);
    const use = (n = 1): void => {
      for (; n > 0; n--) mock.queue.pushUsed(0, 0);
    };
    return { mock, moderation: new InterruptModeration(mock.queue, mock.state), use };
  }

  it('shows what was used at once, and tells the driver that waits for it a moment later', () => {
    const { mock, moderation, use } = open();
    use();
    expect(moderation.publish(100)).toBe(false);
    expect(mock.usedIdx).toBe(1);
    expect(moderation.left(100)).toBe(1);
    expect(moderation.publish(101)).toBe(true);
    expect(moderation.left(101)).toBe(-1);
    expect(moderation.publish(102)).toBe(false);
  });

  it('tells nothing to a driver that has looked meanwhile', () => {
    const { mock, moderation, use } = open();
    use();
    moderation.publish(100);
    mock.usedEvent = 1; // it saw index 1, and waits for the next
    expect(moderation.publish(101)).toBe(false);
    use();
    expect(moderation.publish(102)).toBe(false);
    expect(moderation.publish(103)).toBe(true);
  });

  it('does not lose the interrupt of a driver that waited for an earlier element', () => {
    const { moderation, use } = open();
    use();
    moderation.publish(100);
    use(3); // used_event is 0 still: only the first crossed it
    expect(moderation.publish(100)).toBe(false);
    expect(moderation.publish(101)).toBe(true);
  });

  it('comes at once for frames that are not small', () => {
    const { moderation, use } = open();
    use();
    moderation.urgent = true;
    expect(moderation.publish(100)).toBe(true);
    use();
    expect(moderation.publish(100)).toBe(false);
  });

  it('comes at once when an eighth of the ring is used up', () => {
    const { moderation, use } = open();
    use(SIZE / 8 - 1);
    expect(moderation.publish(100)).toBe(false);
    use();
    expect(moderation.publish(100)).toBe(true);
  });

  it('never comes if the driver wants none', () => {
    const { mock, moderation, use } = open(false);
    mock.availFlags = 1; // VIRTQ_AVAIL_F_NO_INTERRUPT
    use();
    moderation.urgent = true;
    expect(moderation.publish(100)).toBe(false);
    expect(moderation.left(100)).toBe(-1);
  });

  it('obeys a driver that wants none any more', () => {
    const { mock, moderation, use } = open(false);
    use();
    moderation.publish(100);
    mock.availFlags = 1;
    expect(moderation.publish(101)).toBe(false);
    expect(moderation.left(101)).toBe(-1);
  });
});
