import { workerData } from 'node:worker_threads';
import { Directory } from '../../../workers/shared/directory.js';

interface Input {
  readonly buffer: SharedArrayBuffer;
  readonly seed: number;
  readonly owner: number;
  readonly owners: number;
  readonly keys: number;
  readonly rounds: number;
  /** Words: arrivals at the barrier, its turn, then who owns key k according to owner o at 2 + o * keys + k. */
  readonly shared: SharedArrayBuffer;
}

const input = workerData as Input;
const directory = new Directory(input.buffer, input.seed);
const shared = new Int32Array(input.shared);

function barrier(): void {
  const turn = Atomics.load(shared, 1);
  if (Atomics.add(shared, 0, 1) === input.owners - 1) {
    Atomics.store(shared, 0, 0);
    Atomics.add(shared, 1, 1);
    Atomics.notify(shared, 1);
    return;
  }
  // A short spin first, so that the threads start together.
  for (let spin = 0; spin < 2000; spin++) {
    if (Atomics.load(shared, 1) !== turn) {
      return;
    }
  }
  // Who let the last turn's go may notify only now: that is not our turn.
  while (Atomics.load(shared, 1) === turn) {
    Atomics.wait(shared, 1, turn);
  }
}

function check(condition: boolean, what: string): void {
  if (!condition) {
    throw new Error(what);
  }
}

/** All insert the same keys at once; keys of their own come and go between, so that earlier places get free meanwhile. */
function insertAll(round: number): void {
  for (let key = 0; key < input.keys; key++) {
    const own = -1 - input.owner;
    check(directory.insert(own, key, round, 1, input.owner) === input.owner, 'An own key has another owner.');
    shared[2 + input.owner * input.keys + key] = directory.insert(key, round, key, 0, input.owner);
    check(directory.lookup(own, key, round, 1) === input.owner, 'An own key is not found.');
    check(directory.remove(own, key, round, 1), 'An own key is not there to remove.');
  }
}

/** Owner o looks after keys k with k % owners = o: all were told the same, and there was one entry. */
function verify(round: number): void {
  for (let key = input.owner; key < input.keys; key += input.owners) {
    const owner = directory.lookup(key, round, key, 0);
    for (let other = 0; other < input.owners; other++) {
      const told = shared[2 + other * input.keys + key];
      check(told === owner, `Round ${round}, key ${key}: ${other} was told ${told}, the table says ${owner}.`);
    }
    check(directory.remove(key, round, key, 0), `Round ${round}, key ${key}: nothing to remove.`);
    check(directory.lookup(key, round, key, 0) === -1, `Round ${round}, key ${key}: two entries.`);
  }
}

for (let round = 0; round < input.rounds; round++) {
  barrier();
  insertAll(round);
  barrier();
  verify(round);
}
