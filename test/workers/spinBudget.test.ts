import { describe, expect, it } from 'vitest';
import { SpinBudget } from '../../workers/spinBudget.js';

/** Cycles of a worker, 2 µs each while it looks, and work that comes after gaps. */
class Worker {
  readonly spin = new SpinBudget();
  now = 0x7fff_f000 | 0; // the clock wraps on the way
  /** µs spent looking. */
  looked = 0;

  /** Work comes `gap` µs after the last; a worker that sleeps is woken `wake` µs late. Whether it was awake. */
  workAfter(gap: number, wake = 20): boolean {
    let left = gap;
    let again = this.spin.again(this.now, false);
    while (again && left > 0) {
      this.pass(2);
      left -= 2;
      this.looked += 2;
      again = left > 0 && this.spin.again(this.now, false);
    }
    const awake = left <= 0;
    if (!awake) this.pass(left + wake);
    this.spin.again(this.now, true);
    return awake;
  }

  repeat(times: number, gap: number): void {
    for (let n = 0; n < times; n++) this.workAfter(gap);
  }

  pass(us: number): void {
    this.now = (this.now + us) | 0;
  }
}

describe('SpinBudget', () => {
  it('sleeps at first', () => {
    expect(new SpinBudget().again(1000, false)).toBe(false);
  });

  it('is awake when work comes, once the gaps are known to be short', () => {
    const worker = new Worker();
    worker.repeat(50, 30);
    expect(worker.workAfter(30)).toBe(true);
  });

  it('does not look where work is rare', () => {
    const worker = new Worker();
    worker.repeat(50, 1000);
    worker.looked = 0;
    worker.repeat(100, 1000);
    expect(worker.looked).toBe(0);
  });

  it('stops within its budget when work ends', () => {
    const worker = new Worker();
    worker.repeat(50, 30);
    worker.looked = 0;
    worker.workAfter(10_000_000);
    expect(worker.looked).toBeGreaterThan(0);
    expect(worker.looked).toBeLessThanOrEqual(50);
  });

  it('learns that work became rare, and that it came back', () => {
    const worker = new Worker();
    worker.repeat(50, 30);
    worker.repeat(50, 5000);
    expect(worker.workAfter(30)).toBe(false);
    worker.repeat(50, 30);
    expect(worker.workAfter(30)).toBe(true);
  });

  it('gives up for longer and longer where its CPU is taken away while it looks', () => {
    const worker = new Worker();
    const barredFor: number[] = [];
    for (let n = 0; n < 3; n++) {
      worker.repeat(50, 30);
      worker.spin.again(worker.now, false);
      worker.pass(3000); // another thread ran
      worker.spin.again(worker.now, true);
      const begun = worker.now;
      while (!worker.workAfter(30)) expect((worker.now - begun) | 0).toBeLessThan(2_000_000);
      barredFor.push((worker.now - begun) | 0);
    }
    expect(barredFor[0]).toBeGreaterThanOrEqual(9_000);
    expect(barredFor[1]).toBeGreaterThan(1.5 * barredFor[0]!);
    expect(barredFor[2]).toBeGreaterThan(1.5 * barredFor[1]!);
  });

  it('forgets penalties that lie long back', () => {
    const worker = new Worker();
    const barredFor = (): number => {
      worker.repeat(50, 30);
      worker.spin.again(worker.now, false);
      worker.pass(3000);
      worker.spin.again(worker.now, true);
      const begun = worker.now;
      while (!worker.workAfter(30));
      return (worker.now - begun) | 0;
    };
    const first = barredFor();
    barredFor();
    worker.repeat(100, 5000);
    expect(barredFor()).toBeLessThan(1.2 * first);
  });
});
