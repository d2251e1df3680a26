// @ts-check
/**
 * Makes a fresh clone ready: checks for what is missing and gets it. Runs before `npm start` and `npm test`, with
 * nothing but Node.js, npm and Debian; does nothing, fast, when nothing is missing.
 */
import { installPrograms } from './apt.mjs';
import { buildAddon, compileTypeScript, installModules } from './build.mjs';
import { prepareGuest } from './guest.mjs';
import { SetupError } from './system.mjs';

const STEPS = [installPrograms, installModules, buildAddon, compileTypeScript, prepareGuest];

try {
  for (const step of STEPS) await step();
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`setup: ${message.replaceAll('\n', ' ')}\n`);
  if (!(error instanceof SetupError) && process.env['SLIPWAY_DEBUG'] === '1') throw error;
  process.exitCode = 1;
}
