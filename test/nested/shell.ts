/** `node dist/test/nested/shell.js COMMAND…`: boots level 1, runs each command in a shell there, and exits with the last one's code. */
import { Level1 } from './level1.js';

const started = performance.now();
const report = (what: string): void => {
  process.stderr.write(`level 1: ${((performance.now() - started) / 1000).toFixed(1)} s: ${what}\n`);
};

await using level1 = await Level1.start({
  console: process.env['LEVEL1_CONSOLE'] === '1' ? process.stderr : undefined,
});
report('booted');
for (const command of process.argv.slice(2)) {
  const streams = { stdout: process.stdout, stderr: process.stderr };
  const { exitCode } = await level1.run(['sh', '-c', command], streams);
  report(`exit code ${exitCode}: ${command}`);
  process.exitCode = exitCode;
}
