/** `slipway run` on Slipway's own VMM and true KVM: a kernel as Debian installs it, and the signals that end it. */
import { Writable } from 'node:stream';
import { beforeAll, describe, expect, it } from 'vitest';
import { Deferred } from '../../src/sandbox/deferred.js';
import { STUCK } from '../vmm/stuck.js';
import { PROJECT } from './contents.js';
import { inLevel1 } from './level1.js';
import type { Level1 } from './level1.js';

const HANG = 600_000;
const RUN = ['node', `${PROJECT}/dist/src/cli/main.js`, 'run', '--vmm', 'kvm', '--memory', '192'];

/** Runs a command on a terminal, its process id in /tmp/pid, and tells what it leaves behind. */
const SESSION = `export TMPDIR=$(mktemp -d)
stty -g > /tmp/before
sh -c 'echo $$ > /tmp/pid; exec "$@"' sh "$@"
printf '\\nexit code %s\\n' $?
stty -g > /tmp/after
cmp /tmp/before /tmp/after && echo 'terminal as before'
test -d /proc/$(cat /tmp/pid) || echo 'no process left'
ls -l /proc/[0-9]*/fd 2>&1 | grep -q kvm-v || echo 'no machine left'
ls $TMPDIR | grep . || echo 'no file left'
`;
const ENDED = ['terminal as before', 'no process left', 'no machine left', 'no file left'];

/** What the terminal is set to. */
const TERMINAL_NOW = 'stty -a < /proc/$(cat /tmp/pid)/fd/0';
const UNTIL_IT_RUNS = 'until ls -l /proc/$(cat /tmp/pid)/fd | grep -q kvm-vcpu; do sleep 0.1; done';

interface Signalled {
  readonly terminal: string;
  readonly lines: readonly string[];
}

/** Sends a signal to `slipway run` when its output has `marker`; if that is undefined, as soon as it has a vCPU. */
async function signalled(
  level1: Level1,
  signal: string,
  args: readonly string[],
  marker: string | undefined,
): Promise<Signalled> {
  const shell = async (script: string): Promise<string> => (await level1.run(['sh', '-c', script])).stdout;
  let output = '';
  const marked = new Deferred<void>();
  const stdout = new Writable({
    write(chunk: Buffer, _encoding, done) {
      output += chunk.toString('latin1');
      if (marker !== undefined && output.includes(marker)) marked.resolve();
      done();
    },
  });
  await shell('rm -f /tmp/pid');
  const command = ['sh', '-c', SESSION, 'sh', ...RUN, ...args];
  const over = level1.run(command, { stdout, terminal: { rows: 24, columns: 80 } });
  await Promise.race([marker === undefined ? shell(UNTIL_IT_RUNS) : marked.promise, over]);
  const terminal = await shell(TERMINAL_NOW);
  await shell('kill -USR1 $(cat /tmp/pid)');
  await shell(`kill -${signal} $(cat /tmp/pid)`);
  await over;
  return { terminal, lines: output.split(/\r?\n/) };
}

interface Outcome {
  readonly debian: { readonly exitCode: number; readonly stdout: string; readonly stderr: string };
  readonly running: Signalled;
  readonly booting: Signalled;
  readonly stuck: Signalled;
}

async function outcomeIn(level1: Level1): Promise<Outcome> {
  const script = 'cat /sys/kernel/boot_params/version; uname -r; ip route';
  const kernel = ['sh', '-c', 'exec "$@" --kernel /boot/vmlinuz-* -- sh -c "$SCRIPT"', 'sh', ...RUN];
  const debian = await level1.run(['env', `SCRIPT=${script}`, ...kernel]);
  await level1.run(['sh', '-c', 'cat > /tmp/stuck'], { stdin: STUCK });
  return {
    debian,
    running: await signalled(level1, 'TERM', ['--', 'sh', '-c', 'echo guest is up; sleep 1000'], 'guest is up'),
    booting: await signalled(level1, 'INT', ['--', 'sleep', '1000'], undefined),
    stuck: await signalled(level1, 'TERM', ['--kernel', '/tmp/stuck', '--console', '--', 'true'], '!'),
  };
}

describe('slipway run, VMM kvm', () => {
  let outcome: Outcome;

  beforeAll(async () => {
    outcome = await inLevel1(outcomeIn);
  }, 3 * HANG);

  it('boots the bzImage that Debian installs, by its own set-up header, on the network', () => {
    const { exitCode, stdout, stderr } = outcome.debian;
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    // An ELF file has no set-up header: version 2.12 (0x020c) stands in the one that is made up for it.
    expect(stdout).toMatch(/^0x020f\n\d+\.\d+\.\S+-amd64\ndefault via 10\.0\.2\.2 /);
  });

  it('SIGTERM while a command runs: exit code 143, the terminal as it was, nothing left', () => {
    expect(outcome.running.terminal).toContain('-icanon');
    expect(outcome.running.lines).toEqual(expect.arrayContaining(['exit code 143', ...ENDED]));
  });

  it('SIGUSR1 writes the counts of the network and of the machine, and the command goes on', () => {
    const { lines } = outcome.running;
    const state: unknown = JSON.parse(lines.slice(lines.indexOf('{'), lines.indexOf('}') + 1).join(''));
    expect(state).toMatchObject({
      network: { devices: [{ connected: true, brokenQueues: 0 }] },
      machine: { events: { doorbellExits: 0, signalledMessages: 0 }, faults: { resetsNeeded: 0 } },
    });
  });

  it('SIGINT while the guest boots: exit code 130, nothing left', () => {
    expect(outcome.booting.lines).toEqual(expect.arrayContaining(['exit code 130', ...ENDED]));
  });

  it('SIGTERM while the guest hangs with its interrupts off: exit code 143, nothing left', () => {
    expect(outcome.stuck.lines).toEqual(expect.arrayContaining(['exit code 143', ...ENDED]));
  });
});
