/** A virtqueue's plain model: random actions of both sides, each checked against lists. */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import type { MockDriver } from './mockDriver.js';

interface ModelChain {
  readonly head: number;
  readonly buffers: [number, number][];
  readonly readable: number;
}

export type Action =
  | { readonly kind: 'offer'; readonly lengths: number[]; readonly writable: number; readonly indirect: boolean }
  | { readonly kind: 'show' | 'take' | 'publish' | 'collect' }
  | { readonly kind: 'use'; readonly which: number; readonly length: number };

/** What either side may do. */
export const action: fc.Arbitrary<Action> = fc.oneof(
  fc.record({
    kind: fc.constant('offer' as const),
    lengths: fc.array(fc.integer({ min: 0, max: 300 }), { minLength: 1, maxLength: 6 }),
    writable: fc.nat(6),
    indirect: fc.boolean(),
  }),
  fc.record({ kind: fc.constantFrom('show' as const, 'take' as const, 'publish' as const, 'collect' as const) }),
  fc.record({ kind: fc.constant('use' as const), which: fc.nat(), length: fc.nat(5000) }),
);

/** Where each chain is, as plain lists: what both sides of the queue must agree with. */
export class Model {
  private readonly ended: ModelChain[] = [];
  private readonly shown: ModelChain[] = [];
  private readonly taken: ModelChain[] = [];
  private readonly used: [number, number][] = [];
  private readonly published: [number, number][] = [];
  private publishedEver = 0;

  constructor(
    private readonly mock: MockDriver,
    private readonly eventIdx: boolean,
  ) {}

  /** Does the step on the queue and here. Throws where they differ. */
  run(step: Action): void {
    if (step.kind === 'offer') this.offer(step.lengths, Math.min(step.writable, step.lengths.length), step.indirect);
    else if (step.kind === 'use') this.use(step.which, step.length);
    else this[step.kind]();
  }

  private offer(lengths: number[], firstWritable: number, indirect: boolean): void {
    const { driver, data } = this.mock;
    if (driver.freeCount < (indirect ? 1 : lengths.length)) return;
    driver.beginChain(indirect);
    for (const [n, length] of lengths.entries()) driver.addBuffer(data + 300 * n, length, n >= firstWritable);
    this.ended.push({
      head: driver.endChain(),
      buffers: lengths.map((length, n) => [this.mock.address(data + 300 * n), length]),
      readable: lengths.slice(0, firstWritable).reduce((sum, length) => sum + length, 0),
    });
  }

  private show(): void {
    this.mock.driver.publish();
    this.shown.push(...this.ended.splice(0));
  }

  private take(): void {
    const { queue } = this.mock;
    assert.equal(queue.poll(), this.shown.length);
    const chain = this.shown.shift();
    assert.equal(this.mock.takeHead(), chain?.head ?? -1);
    if (chain === undefined) return;
    assert.equal(queue.walk(chain.head, 0), true);
    assert.deepEqual(joined(this.mock.buffers()), joined(chain.buffers));
    assert.equal(queue.readableBytes, chain.readable);
    this.taken.push(chain);
  }

  private use(which: number, length: number): void {
    const [chain] = this.taken.splice(which % Math.max(this.taken.length, 1), 1);
    if (chain === undefined) return;
    this.mock.queue.pushUsed(chain.head, length);
    this.used.push([chain.head, length]);
  }

  /** The driver's used_event stays 0: the first element of all reaches it. */
  private publish(): void {
    const some = this.used.length > 0;
    assert.equal(this.mock.queue.publish(), some && (!this.eventIdx || this.publishedEver === 0));
    this.publishedEver += this.used.length;
    this.published.push(...this.used.splice(0));
  }

  private collect(): void {
    const { driver } = this.mock;
    const got = this.published.map(() => [driver.takeUsed(), driver.usedLength]);
    assert.deepEqual(got, this.published.splice(0));
    assert.deepEqual([driver.takeUsed(), driver.ringErrors], [-1, 0]);
  }
}

/** Neighbouring pieces as one: where a window ends, and pieces of nothing, are no part of the model. */
function joined(pieces: [number, number][]): [number, number][] {
  const result: [number, number][] = [];
  for (const [at, length] of pieces) {
    const last = result.at(-1);
    if (last !== undefined && last[0] + last[1] === at) last[1] += length;
    else if (length > 0) result.push([at, length]);
  }
  return result;
}
