/** Word indexes in the ring's header: each side's counter has a cache line of its own. */
const TAIL = 0;
const HEAD = 16;
const HEADER_WORDS = 32;

/**
 * Ring of messages of `words` int32 each from one producer thread to one consumer thread. A zero-filled buffer is an
 * empty ring. Both counters run freely over int32 and live in the buffer, so either side can be replaced after its
 * thread ended: a new instance over the same buffer goes on where the old one was. Messages that a producer staged and
 * never published are lost with it; a message that a consumer peeked at and never released is seen again.
 * One instance serves one side of the ring in one thread (or both sides, in the same thread).
 */
export class SpscRing {
  /** Where messages are written and read, at the word indexes that `reserve` and `peek` return. */
  readonly data: Int32Array;
  readonly #counters: Int32Array;
  readonly #capacity: number;
  readonly #mask: number;
  readonly #words: number;
  /** Producer: what the consumer sees of the tail, where the next message goes, and the head as last read. */
  #published: number;
  #staged: number;
  #headSeen: number;
  /** Consumer: the head, and the tail as last read. */
  #head: number;
  #tailSeen: number;

  /** Size of the buffer for `capacity` messages of `words` int32 each, bytes. */
  static bytes(capacity: number, words: number): number {
    return (HEADER_WORDS + capacity * words) * Int32Array.BYTES_PER_ELEMENT;
  }

  /**
   * @param capacity Messages; a power of two, at most 2^30.
   * @param words int32 words of a message.
   * @throws {RangeError} When `capacity` is no such power of two or the buffer is too small.
   */
  constructor(buffer: SharedArrayBuffer, capacity: number, words: number) {
    if (!(capacity >= 1 && capacity <= 2 ** 30) || (capacity & (capacity - 1)) !== 0) {
      throw new RangeError(`A ring's capacity must be a power of two up to 2^30, not ${capacity}.`);
    }
    if (buffer.byteLength < SpscRing.bytes(capacity, words)) {
      throw new RangeError(
        `A ring of ${capacity} messages of ${words} words takes ${SpscRing.bytes(capacity, words)} bytes, the buffer has ${buffer.byteLength}.`,
      );
    }
    this.#counters = new Int32Array(buffer, 0, HEADER_WORDS);
    this.data = new Int32Array(buffer, HEADER_WORDS * Int32Array.BYTES_PER_ELEMENT, capacity * words);
    this.#capacity = capacity;
    this.#mask = capacity - 1;
    this.#words = words;
    this.#head = this.#headSeen = Atomics.load(this.#counters, HEAD);
    this.#published = this.#staged = this.#tailSeen = Atomics.load(this.#counters, TAIL);
  }

  /** Producer: word index in `data` where the next message is to be written; -1 when the ring is full. */
  reserve(): number {
    if (((this.#staged - this.#headSeen) | 0) === this.#capacity && this.free() === 0) {
      return -1;
    }
    return (this.#staged & this.#mask) * this.#words;
  }

  /** Producer: stages the message written where `reserve` said. The consumer sees it after `publish`. */
  commit(): void {
    this.#staged = (this.#staged + 1) | 0;
  }

  /** Producer: shows all staged messages to the consumer, by one store. */
  publish(): void {
    if (this.#staged !== this.#published) {
      this.#published = this.#staged;
      Atomics.store(this.#counters, TAIL, this.#staged);
    }
  }

  /** Producer: how many messages still fit. */
  free(): number {
    this.#headSeen = Atomics.load(this.#counters, HEAD);
    return this.#capacity - ((this.#staged - this.#headSeen) | 0);
  }

  /** Consumer: word index in `data` of the oldest message; -1 when there is none. It stays there until `release`. */
  peek(): number {
    if (this.#head === this.#tailSeen) {
      this.#tailSeen = Atomics.load(this.#counters, TAIL);
      if (this.#head === this.#tailSeen) {
        return -1;
      }
    }
    return (this.#head & this.#mask) * this.#words;
  }

  /** Consumer: gives the place of the message that `peek` returned back to the producer. */
  release(): void {
    this.#head = (this.#head + 1) | 0;
    Atomics.store(this.#counters, HEAD, this.#head);
  }
}
