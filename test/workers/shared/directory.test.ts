import * as fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Directory } from '../../../workers/shared/directory.js';
import { runWorkers } from './threads.js';

const SEED = 0x5eed;
const PHASE = 3;
const TENTATIVE = 2;
const SETTLED = 3;

type Key = readonly [source: number, destination: number, ports: number, device: number];

function create(entries: number): { buffer: SharedArrayBuffer; directory: Directory } {
  const buffer = new SharedArrayBuffer(Directory.bytes(entries));
  return { buffer, directory: new Directory(buffer, SEED) };
}

/** State words that aren't empty, and all overflow counters: nothing may be left of either. */
function remains(buffer: SharedArrayBuffer): number {
  const words = new Int32Array(buffer);
  const entries = (buffer.byteLength / 132) * 8;
  let count = 0;
  for (let entry = 0; entry < entries; entry++) {
    count += (words[entry * 4]! & PHASE) === 0 ? 0 : 1;
  }
  for (const counter of words.subarray(entries * 4)) {
    count += Math.abs(counter);
  }
  return count;
}

/** Turns the settled entry of a key (known by its ports) back into one whose thread ended before it settled. */
function unsettle(buffer: SharedArrayBuffer, ports: number): void {
  const words = new Int32Array(buffer);
  for (let at = 0; at < (buffer.byteLength / 132) * 32; at += 4) {
    if ((words[at]! & PHASE) === SETTLED && words[at + 3] === ports) {
      words[at] = (words[at]! & ~PHASE) | TENTATIVE;
    }
  }
}

/** Calls `act` just before the n-th atomic operation from now on. */
function beforeAtomic(n: number, act: () => void): void {
  let step = 0;
  const count = () => {
    step++;
    if (step === n) {
      act();
    }
  };
  const { load, store, compareExchange } = Atomics;
  vi.spyOn(Atomics, 'load').mockImplementation(((array: Int32Array, at: number) => {
    count();
    return load(array, at);
  }) as typeof load);
  vi.spyOn(Atomics, 'store').mockImplementation(((array: Int32Array, at: number, value: number) => {
    count();
    return store(array, at, value);
  }) as typeof store);
  vi.spyOn(Atomics, 'compareExchange').mockImplementation(((
    array: Int32Array,
    at: number,
    from: number,
    to: number,
  ) => {
    count();
    return compareExchange(array, at, from, to);
  }) as typeof compareExchange);
}

/** Runs a rival's whole insertion of the same key at a moment of ours. False when ours was over before that moment. */
function overtake(moment: number, others: number, freed: boolean, ports: number): boolean {
  const { buffer, directory } = create(12);
  const rival = new Directory(buffer, SEED);
  for (let other = 0; other < others; other++) {
    directory.insert(9, 9, other, 0, 9);
  }
  let told: number | undefined;
  beforeAtomic(moment, () => {
    if (freed) {
      rival.remove(9, 9, 0, 0);
    }
    told = rival.insert(1, 2, ports, 0, 1);
  });
  const owner = directory.insert(1, 2, ports, 0, 0);
  vi.restoreAllMocks();
  expect(told ?? owner).toBe(owner);
  expect(directory.lookup(1, 2, ports, 0)).toBe(owner);
  expect(directory.remove(1, 2, ports, 0)).toBe(true);
  expect(directory.lookup(1, 2, ports, 0)).toBe(-1);
  for (let other = 0; other < others; other++) {
    directory.remove(9, 9, other, 0);
  }
  expect(remains(buffer)).toBe(0);
  return told !== undefined;
}

afterEach(() => vi.restoreAllMocks());

/** A step's result, the model's word against ours. */
function agree(actual: unknown, model: unknown): void {
  expect(actual).toEqual(model);
}

function behaveLikeMap(entries: number, actions: readonly (readonly [name: string, key: Key, owner: number])[]): void {
  const { buffer, directory } = create(entries);
  const room = (buffer.byteLength / 132) * 8;
  const model = new Map<string, number>();
  const keys = new Map<string, Key>();
  for (const [name, at, owner] of actions) {
    const id = at.join();
    keys.set(id, at);
    const now = model.get(id);
    if (name === 'insert') {
      const expected = now ?? (model.size < room ? owner : -1);
      agree(directory.insert(...at, owner), expected);
      if (expected >= 0) {
        model.set(id, expected);
      }
    } else if (name === 'setOwner') {
      agree(directory.setOwner(...at, owner), now !== undefined);
      if (now !== undefined) {
        model.set(id, owner);
      }
    } else if (name === 'remove') {
      agree(directory.remove(...at), model.delete(id));
    } else {
      agree(directory.lookup(...at), now ?? -1);
    }
  }
  for (const [id, at] of keys) {
    expect(directory.lookup(...at)).toBe(model.get(id) ?? -1);
    directory.remove(...at);
  }
  expect(remains(buffer)).toBe(0);
}

describe('Directory', () => {
  it('does what a Map does, in crowded tables too', () => {
    const key = fc.tuple(
      fc.constantFrom(0, -1, 0x0a000001),
      fc.constantFrom(0, -2),
      fc.integer({ min: -3, max: 4 }),
      fc.constantFrom(0, 1, 4095),
    );
    const action = fc.tuple(
      fc.constantFrom('insert', 'insert', 'setOwner', 'remove', 'lookup'),
      key,
      fc.integer({ min: 0, max: 255 }),
    );
    fc.assert(
      fc.property(fc.constantFrom(1, 10, 20), fc.array(action, { maxLength: 150, size: 'max' }), behaveLikeMap),
      {
        numRuns: 300,
      },
    );
  });

  it('holds as many entries as it was made for, through the wear of all generations', () => {
    const { buffer, directory } = create(100);
    for (let turn = 0; turn < 1200; turn++) {
      expect(directory.insert(turn, 2, 3, 4, 5)).toBe(5);
      expect(directory.remove(turn, 2, 3, 4)).toBe(true);
    }
    for (let key = 0; key < 100; key++) {
      expect(directory.insert(key, key, key, 0, key)).toBe(key);
    }
    expect(remains(buffer)).toBeGreaterThanOrEqual(100);
    expect(new Directory(buffer, SEED).lookup(99, 99, 99, 0)).toBe(99);
  });

  it('refuses owners and devices that the state word has no room for, and odd buffers', () => {
    const { directory } = create(10);
    expect(() => directory.insert(1, 2, 3, 4096, 0)).toThrow(RangeError);
    expect(() => directory.insert(1, 2, 3, 0, 256)).toThrow(RangeError);
    expect(() => directory.insert(1, 2, 3, 0, -1)).toThrow(RangeError);
    expect(() => directory.setOwner(1, 2, 3, 0, 256)).toThrow(RangeError);
    expect(() => new Directory(new SharedArrayBuffer(1000), SEED)).toThrow(/bytes\(\)/);
  });

  it('goes past an entry that a thread left busy', () => {
    const { buffer, directory } = create(10);
    expect(directory.insert(1, 2, 3, 0, 7)).toBe(7);
    const words = new Int32Array(buffer);
    const at = words.findIndex((word, index) => index % 4 === 0 && (word & PHASE) === SETTLED);
    words[at] = (words[at]! & ~PHASE) | 1;
    expect(directory.lookup(1, 2, 3, 0)).toBe(-1);
    expect(directory.insert(1, 2, 3, 0, 8)).toBe(8);
    expect(directory.lookup(1, 2, 3, 0)).toBe(8);
  });

  it('takes the place of a thread that ended before it settled, whichever entry comes first', () => {
    const { buffer, directory } = create(6);
    directory.insert(1, 2, 3, 0, 7);
    unsettle(buffer, 3);
    expect(directory.insert(1, 2, 3, 0, 8)).toBe(8);
    directory.insert(0, 0, 100, 0, 1);
    directory.insert(1, 2, 4, 0, 7);
    unsettle(buffer, 4);
    directory.remove(0, 0, 100, 0);
    expect(directory.insert(1, 2, 4, 0, 9)).toBe(9);
    expect(directory.lookup(1, 2, 3, 0)).toBe(8);
    expect(directory.lookup(1, 2, 4, 0)).toBe(9);
  });

  it('tells two threads the same owner, wherever one is overtaken by the other', () => {
    // With few and many others in two buckets, one of them full; a place may get free just before, so that the rival's
    // entry comes first.
    for (const others of [1, 14]) {
      for (const freed of [false, true]) {
        for (const ports of [1, 2, 3, 4]) {
          let moment = 1;
          while (overtake(moment, others, freed, ports)) {
            moment++;
          }
          expect(moment).toBeGreaterThan(10);
        }
      }
    }
  });

  it('has one entry a key when threads insert the same keys at once', async () => {
    const owners = 3;
    const keys = 40;
    const { buffer } = create(60);
    const shared = new SharedArrayBuffer((2 + owners * keys) * 4);
    const inputs = Array.from({ length: owners }, (_, owner) => ({
      buffer,
      seed: SEED,
      owner,
      owners,
      keys,
      rounds: 300,
      shared,
    }));
    await runWorkers('directoryWorker', inputs);
    expect(remains(buffer)).toBe(0);
  });
});
