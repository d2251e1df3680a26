import { beforeEach, describe, expect, it } from 'vitest';
import * as message from '../../workers/messages.js';
import { Obeyed } from '../../workers/obeyed.js';

const DEVICE = 3;
let obeyed: Obeyed;

const note = (kind: number, queue: number, ...args: number[]): void => obeyed.note([kind, 1, DEVICE, queue, ...args]);
/** A number as two words. */
const words = (...numbers: number[]): number[] =>
  numbers.flatMap((number) => {
    const pair = new Int32Array(2);
    message.putNumber(pair, 0, number);
    return [...pair];
  });
const start = (queue: number): void => {
  note(message.CONTROL_START_QUEUE, queue, 256, 7, 20, 21, ...words(2 ** 33, 2 ** 33 + 4096, 2 ** 33 + 8192));
};
const setup = (callFd: number): object => ({
  size: 256,
  lastAvailIdx: 7,
  kickFd: 20,
  callFd,
  descTable: 2 ** 33,
  availRing: 2 ** 33 + 4096,
  usedRing: 2 ** 33 + 8192,
});

beforeEach(() => {
  obeyed = new Obeyed();
  note(message.CONTROL_ATTACH, 0, 2, 1500);
});

describe('Obeyed', () => {
  it('says what a successor starts from', () => {
    note(message.CONTROL_FEATURES, 0, -5, 1);
    note(message.CONTROL_MAP, 0, 9, ...words(2 ** 32, 2 ** 31, 4096));
    start(1);
    note(message.CONTROL_ENABLE_QUEUE, 1, 1);
    note(message.CONTROL_CALL_FD, 1, 30);
    expect(obeyed.snapshot()).toEqual([
      {
        device: DEVICE,
        pairs: 2,
        mtu: 1500,
        features: [-5, 1],
        windows: [{ fd: 9, guestAddress: 2 ** 32, size: 2 ** 31, fileOffset: 4096 }],
        queues: [{ index: 1, setup: setup(30), enabled: true }],
      },
    ]);
  });

  it('forgets what was stopped, unmapped or broken', () => {
    note(message.CONTROL_MAP, 0, 9, ...words(0, 4096, 0));
    for (const queue of [0, 1, 2]) start(queue);
    note(message.CONTROL_STOP_QUEUE, 0);
    obeyed.queueBroken(DEVICE, 2);
    note(message.CONTROL_UNMAP, 0);
    const [device] = obeyed.snapshot();
    expect(device?.windows).toEqual([]);
    expect(device?.queues).toEqual([{ index: 1, setup: setup(21), enabled: false }]);
  });

  it('ignores a queue that does not run', () => {
    note(message.CONTROL_ENABLE_QUEUE, 1, 1);
    note(message.CONTROL_CALL_FD, 1, 30);
    expect(obeyed.snapshot()[0]?.queues).toEqual([]);
  });
});
