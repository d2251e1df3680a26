/**
 * `npm run bench:nested [-- OPTION…]`: `slipway bench crr` inside level 1, small unless the options say otherwise. Rates in
 * there say little, everything is emulated; they compare back ends in one run.
 */
import { PROJECT } from './contents.js';
import { Level1 } from './level1.js';

/** Set up, three guests booted, and measured. */
const DEADLINE = 1_200_000;
const SMALL = ['--cpus', '2', '--flows', '1,4', '--count', '60', '--warmup', '10', '--rounds', '2'];

await using level1 = await Level1.start();
const options = process.argv.length > 2 ? process.argv.slice(2) : SMALL;
const command = ['node', `${PROJECT}/dist/src/cli/main.js`, 'bench', 'crr', ...options];
const { exitCode } = await level1.run(command, { stdout: process.stdout, stderr: process.stderr }, DEADLINE);
process.exitCode = exitCode;
