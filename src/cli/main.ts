#!/usr/bin/env node
/** The command `slipway`. Exit codes: the guest's command's for `run`; 2 for wrong usage; 1 for what fails at run time. */
import { CommanderError } from 'commander';
import { UsageError, describeError } from '../errors.js';
import { createProgram } from './program.js';

/** Says what went wrong in one line, and how the process is to end. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  process.stderr.write(`slipway: ${describeError(error)}\n`);
  if (process.env['SLIPWAY_DEBUG'] === '1' && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`);
  return error instanceof UsageError ? 2 : 1;
}

process.on('uncaughtException', (error) => process.exit(report(error)));

try {
  const program = await createProgram();
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}
