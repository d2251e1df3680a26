/** A process ends at once, whatever its guests are doing. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { packageRoot } from '../../src/packageRoot.js';
import { BareMetal, describeOnKvm } from './bareMetal.js';

/** A machine whose first vCPU spins and whose second is halted, in a process that then does `ending`. */
function program(kernel: string, ending: string): string {
  const at = (path: string): string => JSON.stringify(join(packageRoot(), 'dist', path));
  return `
    import { x86_64Machine } from ${at('arch/x86_64/machine.js')};
    import { addon } from ${at('src/native/addon.js')};
    import { Machine } from ${at('src/vmm/machine.js')};
    let output = '';
    const machine = await Machine.create({
      addon, arch: x86_64Machine, cpus: 2, memoryMiB: 16, kernel: ${JSON.stringify(kernel)},
      onConsole: (bytes) => {
        output += bytes;
        if (output.includes('vCPU 1')) setImmediate(() => { ${ending} });
      },
    });
    machine.start();`;
}

describeOnKvm('a process with a running guest', () => {
  let guests: BareMetal;
  let hello: string;
  beforeAll(() => {
    guests = new BareMetal();
    hello = guests.build('hello');
  });
  afterAll(() => guests[Symbol.dispose]());

  it.each([
    ['calls process.exit()', 'process.exit(7);', { code: 7, signal: null }],
    ['throws', "throw new Error('nobody catches this');", { code: 1, signal: null }],
    ['is told to terminate', "process.kill(process.pid, 'SIGTERM');", { code: null, signal: 'SIGTERM' }],
    ['closes the machine, and has nothing more to do', 'void machine.close();', { code: 0, signal: null }],
  ])('ends when it %s', async (_, ending, expected) => {
    const outcome = await new Promise((resolve) => {
      const args = ['--input-type=module', '--eval', program(hello, ending)];
      const child = execFile(process.execPath, args, { timeout: 20_000, killSignal: 'SIGKILL' });
      child.once('exit', (code, signal) => resolve({ code, signal }));
    });
    expect(outcome).toEqual(expected);
  });
});
