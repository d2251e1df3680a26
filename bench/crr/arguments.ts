/** Parsers of the benchmark's command-line values. Each throws commander's `InvalidArgumentError` with what is expected. */
import { InvalidArgumentError } from 'commander';

/** A parser of whole numbers from `lowest` to `highest`, for commander. */
export function integer(lowest: number, highest: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < lowest || value > highest)
      throw new InvalidArgumentError(`It must be a whole number from ${lowest} to ${highest}.`);
    return value;
  };
}

/** `1,2,4,8`: each number once. */
export function flowsList(text: string): readonly number[] {
  const flows = text.split(',').map(integer(1, 4_096));
  if (new Set(flows).size < flows.length) throw new InvalidArgumentError('It names a number of flows twice.');
  return flows;
}
