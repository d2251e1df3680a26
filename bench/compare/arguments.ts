/** Parsers of the values of `slipway bench compare`'s options. Each throws commander's `InvalidArgumentError`. */
import { availableParallelism } from 'node:os';
import { InvalidArgumentError } from 'commander';
import { integer } from '../arguments.js';
import { NAMED_ENGINES } from './contenders.js';
import type { Engine } from './contenders.js';

/** `epoll`, or several, each once. */
export function engineList(text: string): readonly Engine[] {
  return [...new Set(text.split(','))].map((name) => {
    const engine = NAMED_ENGINES.find((each) => each === name);
    if (engine === undefined) throw new InvalidArgumentError(`${name} is none of ${NAMED_ENGINES.join(', ')}.`);
    return engine;
  });
}

/** `1,2,4`: numbers of workers, each once. */
export function workersList(text: string): readonly number[] {
  return [...new Set(text.split(',').map(integer(1, 31)))];
}

/** 1, 2, 4 and so on below the number of CPUs, and that number. */
export function defaultWorkers(cpus = availableParallelism()): readonly number[] {
  const doubled = Array.from({ length: 5 }, (_, n) => 2 ** n).filter((workers) => workers < cpus);
  return [...doubled, Math.min(cpus, 31)];
}
