/** What benchmarks need that take minutes: to be ended in order, and not to end with a path that can't be written. */
import { accessSync, constants } from 'node:fs';
import { dirname } from 'node:path';
import { SlipwayError, UsageError, describeError } from '../../src/errors.js';

/** The benchmark was ended from outside; nothing it started is left. */
export class EndedBySignal extends SlipwayError {
  override readonly name = 'EndedBySignal';

  constructor(signal: NodeJS.Signals) {
    super(`ended by ${signal}`);
  }
}

/** Aborts, with `EndedBySignal`, when this process is asked to end. */
export function endedBySignal(): AbortSignal {
  const abort = new AbortController();
  const names = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const name of names) process.once(name, () => abort.abort(new EndedBySignal(name)));
  return abort.signal;
}

/** @throws {UsageError} for a path whose folder can't be written */
export function checkWritable(...paths: readonly (string | undefined)[]): void {
  for (const path of paths) {
    if (path === undefined) continue;
    try {
      accessSync(dirname(path), constants.W_OK);
    } catch (error) {
      throw new UsageError(`cannot write ${path}: ${describeError(error)}`);
    }
  }
}
