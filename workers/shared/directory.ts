import { hashTuple } from './hash.js';

/** Words of an entry: state, source, destination, ports. */
const ENTRY_WORDS = 4;
const BUCKET_ENTRIES = 8;
const BUCKET_WORDS = BUCKET_ENTRIES * ENTRY_WORDS;
/** A bucket's entries and its overflow counter; the counters lie together behind all entries. */
const BUCKET_BYTES = (BUCKET_WORDS + 1) * Int32Array.BYTES_PER_ELEMENT;
/** How far an entry may be from its home bucket, buckets. */
const MAX_PROBES = 64;

/**
 * State word: bits 0–1 phase, 2–9 owner, 10–21 device, 22–31 generation. The generation changes each time the entry is
 * claimed, so that an unchanged state word vouches for the key read between.
 */
const EMPTY = 0;
/** Claimed by a thread that is writing the key, or was told by another to give it up. */
const BUSY = 1;
/** The key is there, but another thread may be inserting the same one. */
const TENTATIVE = 2;
const SETTLED = 3;
const PHASE = 3;
const OWNER_SHIFT = 2;
const OWNERS = 256;
const DEVICE_SHIFT = 10;
const DEVICES = 4096;
const DEVICE_AND_PHASE = ((DEVICES - 1) << DEVICE_SHIFT) | PHASE;
const GENERATION_SHIFT = 22;

/** How often a thread looks at a rival's tentative entry before it takes the rival for dead. */
const PATIENCE = 10_000;

/** What settling came to, where it isn't another's owner. */
const WON = -1;
const BEATEN = -2;

function ownerOf(state: number): number {
  return (state >>> OWNER_SHIFT) & (OWNERS - 1);
}

/**
 * Map from a flow's key to the worker that owns it, shared by all workers, lock-free. Keys are (source, destination,
 * ports, device): IPv4 addresses, source port << 16 | destination port, all int32, and the device's number 0 … 4095.
 * A zero-filled buffer is an empty directory.
 *
 * An entry lies in its key's home bucket or, when that is full, in one of the following. A bucket's overflow counter
 * says how many entries went past it: a search ends at the first bucket with none, and removal leaves nothing behind.
 *
 * Insertion is in two steps, for two threads may insert the same key at once: the entry is first tentative, then looks
 * for rivals, then settles by compare-and-swap. Of two entries, at least one's thread sees the other's (each is written
 * before the search). A settled one wins; of two tentative ones, the earlier in probe order, whose thread turns the other
 * busy. Look-ups see settled entries only.
 *
 * A thread that ends in the middle of a call leaves at most one entry unusable and some counters too high (longer
 * searches); others neither wait for it nor miss anything.
 */
export class Directory {
  readonly #cells: Int32Array;
  readonly #overflow: Int32Array;
  readonly #mask: number;
  readonly #probes: number;
  readonly #seed: number;
  /** State word that the last successful search saw, and the probe distance of its bucket. */
  #foundState = 0;
  #foundDistance = 0;

  /** Size of the buffer for a number of entries that then fill at most three quarters of it, bytes. */
  static bytes(entries: number): number {
    let buckets = 1;
    while (buckets * BUCKET_ENTRIES * 0.75 < entries) {
      buckets *= 2;
    }
    return buckets * BUCKET_BYTES;
  }

  /**
   * @param buffer Of a size that `bytes` returned.
   * @param seed Secret (see `hashTuple`), and the same for all users of the buffer.
   * @throws {RangeError} When the buffer has another size.
   */
  constructor(buffer: SharedArrayBuffer, seed: number) {
    const buckets = Math.floor(buffer.byteLength / BUCKET_BYTES);
    if (buckets < 1 || (buckets & (buckets - 1)) !== 0 || buckets * BUCKET_BYTES !== buffer.byteLength) {
      throw new RangeError(
        `A directory's buffer must have a size that Directory.bytes() returned, not ${buffer.byteLength} bytes.`,
      );
    }
    this.#cells = new Int32Array(buffer, 0, buckets * BUCKET_WORDS);
    this.#overflow = new Int32Array(buffer, this.#cells.byteLength, buckets);
    this.#mask = buckets - 1;
    this.#probes = Math.min(buckets, MAX_PROBES);
    this.#seed = seed;
  }

  /** The owner of a key, -1 when it isn't in the directory. */
  lookup(source: number, destination: number, ports: number, device: number): number {
    const home = this.#home(source, destination, ports, device);
    return this.#find(home, source, destination, ports, device) < 0 ? -1 : ownerOf(this.#foundState);
  }

  /**
   * Adds a key unless it is there.
   * @param owner 0 … 255.
   * @returns The owner that the key now has, `owner` or that of who was first; -1 when there is no room.
   * @throws {RangeError} When the owner or the device is out of range.
   */
  insert(source: number, destination: number, ports: number, device: number, owner: number): number {
    if (owner >>> 0 >= OWNERS || device >>> 0 >= DEVICES) {
      throw new RangeError(`Owner ${owner} or device ${device} is out of range: below ${OWNERS} and ${DEVICES}.`);
    }
    const home = this.#home(source, destination, ports, device);
    for (;;) {
      if (this.#find(home, source, destination, ports, device) >= 0) {
        return ownerOf(this.#foundState);
      }
      const at = this.#claim(home);
      if (at < 0) {
        return -1;
      }
      const distance = this.#foundDistance;
      const generation = this.#foundState & (-1 << GENERATION_SHIFT);
      const tentative = generation | (device << DEVICE_SHIFT) | (owner << OWNER_SHIFT) | TENTATIVE;
      this.#cells[at + 1] = source;
      this.#cells[at + 2] = destination;
      this.#cells[at + 3] = ports;
      Atomics.store(this.#cells, at, tentative);
      const outcome = this.#settle(home, at, tentative);
      if (outcome === WON) {
        return owner;
      }
      Atomics.store(this.#cells, at, generation | EMPTY);
      this.#uncount(home, distance);
      if (outcome !== BEATEN) {
        return outcome;
      }
    }
  }

  /** Gives a key another owner, 0 … 255. False when it isn't in the directory. */
  setOwner(source: number, destination: number, ports: number, device: number, owner: number): boolean {
    if (owner >>> 0 >= OWNERS) {
      throw new RangeError(`Owner ${owner} is out of range: below ${OWNERS}.`);
    }
    const home = this.#home(source, destination, ports, device);
    for (;;) {
      const at = this.#find(home, source, destination, ports, device);
      if (at < 0) {
        return false;
      }
      const state = this.#foundState;
      const changed = (state & ~((OWNERS - 1) << OWNER_SHIFT)) | (owner << OWNER_SHIFT);
      if (Atomics.compareExchange(this.#cells, at, state, changed) === state) {
        return true;
      }
    }
  }

  /** Removes a key. False when it isn't in the directory. */
  remove(source: number, destination: number, ports: number, device: number): boolean {
    const home = this.#home(source, destination, ports, device);
    for (;;) {
      const at = this.#find(home, source, destination, ports, device);
      if (at < 0) {
        return false;
      }
      const state = this.#foundState;
      const distance = this.#foundDistance;
      const emptied = (state & (-1 << GENERATION_SHIFT)) | EMPTY;
      if (Atomics.compareExchange(this.#cells, at, state, emptied) === state) {
        this.#uncount(home, distance);
        return true;
      }
    }
  }

  #home(source: number, destination: number, ports: number, device: number): number {
    return hashTuple(this.#seed, source, destination, ports, device) & this.#mask;
  }

  /** Word index of the settled entry with this key, -1 when there is none. */
  #find(home: number, source: number, destination: number, ports: number, device: number): number {
    const cells = this.#cells;
    const wanted = (device << DEVICE_SHIFT) | SETTLED;
    for (let distance = 0; distance < this.#probes; distance++) {
      const bucket = (home + distance) & this.#mask;
      const end = (bucket + 1) * BUCKET_WORDS;
      for (let at = bucket * BUCKET_WORDS; at < end; at += ENTRY_WORDS) {
        let state = Atomics.load(cells, at);
        while (
          (state & DEVICE_AND_PHASE) === wanted &&
          cells[at + 3] === ports &&
          cells[at + 2] === destination &&
          cells[at + 1] === source
        ) {
          const before = state;
          state = Atomics.load(cells, at);
          if (state === before) {
            this.#foundState = state;
            this.#foundDistance = distance;
            return at;
          }
        }
      }
      if (Atomics.load(this.#overflow, bucket) === 0) {
        return -1;
      }
    }
    return -1;
  }

  /** Claims the first empty entry from a bucket on, busy and of a new generation. Its word index, -1 when there is none. */
  #claim(home: number): number {
    const cells = this.#cells;
    for (let distance = 0; distance < this.#probes; distance++) {
      const bucket = (home + distance) & this.#mask;
      const end = (bucket + 1) * BUCKET_WORDS;
      for (let at = bucket * BUCKET_WORDS; at < end; at += ENTRY_WORDS) {
        const state = Atomics.load(cells, at);
        if ((state & PHASE) === EMPTY) {
          const busy = ((state + (1 << GENERATION_SHIFT)) & (-1 << GENERATION_SHIFT)) | BUSY;
          if (Atomics.compareExchange(cells, at, state, busy) === state) {
            this.#foundState = busy;
            this.#foundDistance = distance;
            return at;
          }
        }
      }
      // Counted before the entry is visible, so that no search stops short of it.
      Atomics.add(this.#overflow, bucket, 1);
    }
    this.#uncount(home, this.#probes);
    return -1;
  }

  /** Takes an entry that lay `distance` buckets from its home out of the overflow counters. */
  #uncount(home: number, distance: number): void {
    for (let passed = 0; passed < distance; passed++) {
      Atomics.sub(this.#overflow, (home + passed) & this.#mask, 1);
    }
  }

  /**
   * Settles the tentative entry at `mine` against all rivals with the same key.
   * @returns WON when it is settled, BEATEN when a rival turned it busy, or else the owner of the rival that was first.
   */
  #settle(home: number, mine: number, tentative: number): number {
    const cells = this.#cells;
    const wanted = tentative & DEVICE_AND_PHASE & ~PHASE;
    let earlier = true;
    for (let distance = 0; distance < this.#probes; distance++) {
      const bucket = (home + distance) & this.#mask;
      const end = (bucket + 1) * BUCKET_WORDS;
      for (let at = bucket * BUCKET_WORDS; at < end; at += ENTRY_WORDS) {
        if (at === mine) {
          earlier = false;
          continue;
        }
        let state = Atomics.load(cells, at);
        while (
          (state & PHASE) >= TENTATIVE &&
          (state & DEVICE_AND_PHASE & ~PHASE) === wanted &&
          this.#equal(at, mine)
        ) {
          if ((state & PHASE) === TENTATIVE) {
            state = this.#challenge(at, state, earlier ? PATIENCE : 0);
          } else if (Atomics.load(cells, at) === state) {
            return ownerOf(state);
          } else {
            state = Atomics.load(cells, at);
          }
        }
      }
      if (Atomics.load(this.#overflow, bucket) === 0) {
        break;
      }
    }
    const settled = (tentative & ~PHASE) | SETTLED;
    return Atomics.compareExchange(cells, mine, tentative, settled) === tentative ? WON : BEATEN;
  }

  #equal(a: number, b: number): boolean {
    const cells = this.#cells;
    return cells[a + 3] === cells[b + 3] && cells[a + 2] === cells[b + 2] && cells[a + 1] === cells[b + 1];
  }

  /** Looks at a rival's tentative entry until it changes, or `patience` times, and then turns it busy. Its new state. */
  #challenge(at: number, tentative: number, patience: number): number {
    for (let look = 0; look < patience; look++) {
      const state = Atomics.load(this.#cells, at);
      if (state !== tentative) {
        return state;
      }
    }
    const busy = (tentative & ~PHASE) | BUSY;
    const state = Atomics.compareExchange(this.#cells, at, tentative, busy);
    return state === tentative ? busy : state;
  }
}
