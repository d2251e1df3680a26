/** Parsers of command-line values that benchmarks share. Each throws commander's `InvalidArgumentError` with what is expected. */
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

/** A parser of decimal numbers from `lowest` to `highest`. */
export function number(lowest: number, highest: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+(\.\d+)?$/.test(text) || value < lowest || value > highest) {
      throw new InvalidArgumentError(`It must be a number from ${lowest} to ${highest}.`);
    }
    return value;
  };
}

/** A parser of `1,2,4,8`: whole numbers from `lowest` to `highest`, each once. */
export function integerList(lowest: number, highest: number): (text: string) => readonly number[] {
  return (text) => distinct(text.split(',').map(integer(lowest, highest)));
}

/** A parser of some of these names, each once: `send,receive`. */
export function nameList<Name extends string>(names: readonly Name[]): (text: string) => readonly Name[] {
  return (text) =>
    distinct(
      text.split(',').map((part) => {
        const found = names.find((name) => name === part);
        if (found === undefined) throw new InvalidArgumentError(`${part} is none of ${names.join(', ')}.`);
        return found;
      }),
    );
}

function distinct<Value>(values: readonly Value[]): readonly Value[] {
  const twice = values.find((value, index) => values.indexOf(value) !== index);
  if (twice !== undefined) throw new InvalidArgumentError(`It names ${String(twice)} twice.`);
  return values;
}
