/** Runs the compiled command line as a user would, and judges how it complains. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { expect } from 'vitest';
import { packageRoot } from '../../src/packageRoot.js';

export interface Outcome {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Invocation {
  readonly child: ChildProcess;
  /** Resolves when the process has ended. */
  readonly outcome: Promise<Outcome>;
}

/** Starts `slipway` with standard input from `stdin` (nothing if left out). */
export function startSlipway(args: readonly string[], stdin = '', env: NodeJS.ProcessEnv = {}): Invocation {
  const main = join(packageRoot(), 'dist/src/cli/main.js');
  const child = spawn(process.execPath, [main, ...args], { env: { ...process.env, SLIPWAY_DEBUG: '', ...env } });
  child.stdin.on('error', () => {});
  child.stdin.end(stdin);
  const outcome = Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]).then(
    ([stdout, stderr]) => ({ exitCode: child.exitCode, signal: child.signalCode, stdout, stderr }),
  );
  return { child, outcome };
}

export function slipway(args: readonly string[], stdin = '', env: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  return startSlipway(args, stdin, env).outcome;
}

/** One line that says what was wrong, and no trace of where in our code. */
export function expectOneLine(
  { exitCode, stdout, stderr }: Omit<Outcome, 'signal'>,
  code: number,
  complaint: RegExp,
): void {
  expect(stderr).toMatch(complaint);
  expect(stderr).toMatch(/^slipway: [^\n]+\n$/);
  expect(stderr).not.toMatch(/ at .*:\d+/);
  expect(exitCode).toBe(code);
  expect(stdout).toBe('');
}
