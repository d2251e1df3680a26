import { hashTuple } from './hash.js';

/**
 * One shard's private hash index from a flow's key to its number: linear probing with backward-shift deletion (Knuth,
 * TAOCP vol. 3, §6.4, algorithm R), so that no tombstones slow it down. Keys are read from the flows' records: field f of
 * flow n is `records[n * stride + f]`; they mustn't change while the flow is in the index.
 * A cell holds flow + 1; zero or less is empty, so a zero-filled table is an empty index.
 */
export class FlowIndex {
  readonly #table: Int32Array;
  readonly #mask: number;
  readonly #records: Int32Array;
  readonly #stride: number;
  readonly #sourceField: number;
  readonly #destinationField: number;
  readonly #portsField: number;
  readonly #keyField: number;
  readonly #seed: number;

  /**
   * @param table Its length is a power of two greater than the number of records; twice that number or more keeps probes short.
   * @param seed Secret, see `hashTuple`.
   * @throws {RangeError} When the table's length is no such number.
   */
  constructor(
    table: Int32Array,
    records: Int32Array,
    stride: number,
    sourceField: number,
    destinationField: number,
    portsField: number,
    keyField: number,
    seed: number,
  ) {
    const flows = Math.floor(records.length / stride);
    if ((table.length & (table.length - 1)) !== 0 || table.length <= flows) {
      throw new RangeError(
        `An index of ${flows} flows needs a table whose length is a greater power of two, not ${table.length}.`,
      );
    }
    this.#table = table;
    this.#mask = table.length - 1;
    this.#records = records;
    this.#stride = stride;
    this.#sourceField = sourceField;
    this.#destinationField = destinationField;
    this.#portsField = portsField;
    this.#keyField = keyField;
    this.#seed = seed;
  }

  /** The flow with this key, -1 when there is none. */
  lookup(source: number, destination: number, ports: number, key: number): number {
    const records = this.#records;
    let at = hashTuple(this.#seed, source, destination, ports, key) & this.#mask;
    for (;;) {
      const cell = this.#table[at]!;
      if (cell <= 0) {
        return -1;
      }
      const record = (cell - 1) * this.#stride;
      if (
        records[record + this.#portsField] === ports &&
        records[record + this.#destinationField] === destination &&
        records[record + this.#sourceField] === source &&
        records[record + this.#keyField] === key
      ) {
        return cell - 1;
      }
      at = (at + 1) & this.#mask;
    }
  }

  /** Adds a flow whose key is in its record. Neither the flow nor its key may be in the index. */
  insert(flow: number): void {
    let at = this.#home(flow);
    while (this.#table[at]! > 0) {
      at = (at + 1) & this.#mask;
    }
    this.#table[at] = flow + 1;
  }

  /** Removes a flow, its key still in its record. Does nothing when it isn't in the index. */
  remove(flow: number): void {
    const table = this.#table;
    const mask = this.#mask;
    let hole = this.#home(flow);
    while (table[hole] !== flow + 1) {
      if (table[hole]! <= 0) {
        return;
      }
      hole = (hole + 1) & mask;
    }
    for (let at = (hole + 1) & mask; table[at]! > 0; at = (at + 1) & mask) {
      // A flow may move back into the hole only if the hole doesn't lie before its home.
      const home = this.#home(table[at]! - 1);
      if (((at - home) & mask) >= ((at - hole) & mask)) {
        table[hole] = table[at]!;
        hole = at;
      }
    }
    table[hole] = 0;
  }

  /** Removes all flows. */
  clear(): void {
    this.#table.fill(0);
  }

  #home(flow: number): number {
    const records = this.#records;
    const record = flow * this.#stride;
    return (
      hashTuple(
        this.#seed,
        records[record + this.#sourceField]!,
        records[record + this.#destinationField]!,
        records[record + this.#portsField]!,
        records[record + this.#keyField]!,
      ) & this.#mask
    );
  }
}
