/** `slipway run --vmm kvm` with what can't be: in a mount namespace whose /proc/cpuinfo has svm, and whose /dev/kvm is what a test says. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../src/packageRoot.js';
import { elf } from '../arch/x86_64/images.js';
import { BareMetal, describeOnKvm } from '../vmm/bareMetal.js';
import { STUCK } from '../vmm/stuck.js';
import { expectOneLine } from './slipway.js';

const MIB = 2 ** 20;
const UNSHARE = ['--user', '--map-root-user', '--mount', '--', 'sh', '-ec'];
const CAPABILITIES = '-dac_override,-dac_read_search';
/** Shell commands that make /dev/kvm what it is to be; `$folder` is for them. */
const DEVICES = {
  itself: '',
  another: 'mount --bind /dev/null /dev/kvm',
  forbidden: 'touch "$folder/forbidden"; chmod 0 "$folder/forbidden"; mount --bind "$folder/forbidden" /dev/kvm',
  missing: `mkdir "$folder/dev"
    for node in null zero urandom; do touch "$folder/dev/$node"; mount --bind "/dev/$node" "$folder/dev/$node"; done
    mount --rbind "$folder/dev" /dev`,
} as const;

const noNamespaces = spawnSync('unshare', [...UNSHARE, 'true']).status !== 0;
if (noNamespaces) console.warn('skipped: slipway run --vmm kvm with bad input: unshare makes no mount namespace here');

describe.skipIf(noNamespaces)('slipway run --vmm kvm (skipped where there are no mount namespaces)', () => {
  let folder = '';
  let guests: BareMetal;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'slipway-own-'));
    guests = new BareMetal();
    const cpuinfo = readFileSync('/proc/cpuinfo', 'utf8').replaceAll(/^(flags\s*:)/gm, '$1 svm');
    writeFileSync(join(folder, 'cpuinfo'), cpuinfo);
  });
  afterAll(() => {
    guests[Symbol.dispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  const env = { ...process.env, SLIPWAY_DEBUG: '' };

  /** unshare's arguments that run it without the capabilities by which root opens everything. */
  const invocation = (args: readonly string[], device: keyof typeof DEVICES = 'itself'): string[] => {
    const scratch = mkdtempSync(join(folder, 'run-'));
    const script = `folder="$1"; shift
      mount --bind "$folder/../cpuinfo" /proc/cpuinfo
      ${DEVICES[device]}
      exec setpriv --bounding-set=${CAPABILITIES} --inh-caps=${CAPABILITIES} "$@"`;
    const main = join(packageRoot(), 'dist/src/cli/main.js');
    const command = [process.execPath, main, 'run', '--vmm', 'kvm', ...args];
    return [...UNSHARE, script, 'sh', scratch, ...command];
  };

  const run = (...options: Parameters<typeof invocation>) => {
    const { status, ...output } = spawnSync('unshare', invocation(...options), {
      encoding: 'utf8',
      env,
      timeout: 50_000,
    });
    return { exitCode: status, ...output };
  };

  it.each([
    ['missing', /there is no \/dev\/kvm \(ENOENT\): load the kernel's module .*; or use qemu/],
    ['forbidden', /\/dev\/kvm is not yours to open: join its group, kvm\); or use qemu/],
    ['another', /\/dev\/kvm is not KVM/],
  ] as const)('with a /dev/kvm that is %s', (device, complaint) => {
    expectOneLine(run(['--', 'true'], device), 1, complaint);
  });

  describeOnKvm('that makes a machine', () => {
    const write = (name: string, content: Buffer, length = content.length): string => {
      const path = join(folder, name);
      writeFileSync(path, content);
      truncateSync(path, length);
      return path;
    };
    const big = elf({ segments: [{ address: 0x10_0000n, memorySize: 100n * BigInt(MIB) }] });

    it.each([
      ['SIGINT', 130],
      ['SIGTERM', 143],
      ['SIGHUP', 129],
    ] as const)('%s ends a guest that hangs with its interrupts off, with exit code %i', async (signal, exitCode) => {
      const args = ['--kernel', guests.write('stuck', STUCK), '--memory', '64', '--console', '--', 'true'];
      // unshare becomes the program itself.
      const child = spawn('unshare', invocation(args), { env, timeout: 50_000, killSignal: 'SIGKILL' });
      const ended = once(child, 'close');
      const [said] = (await once(child.stderr, 'data')) as [Buffer];
      expect(said.toString()).toBe('!');
      child.kill(signal);
      expect(await ended).toEqual([exitCode, null]);
    });

    it.each<[string, () => string[], RegExp]>([
      ['no kernel', () => ['--kernel', '/nonexistent/kernel'], /cannot read the kernel \/nonexistent\/kernel/],
      ['a kernel that is text', () => ['--kernel', write('text', Buffer.from('text\n'))], /text is no Linux kernel/],
      ['a kernel for another processor', () => ['--kernel', write('arm', elf({ machine: 183 }))], /no 64-bit ELF file/],
      ['a kernel that is cut off', () => ['--kernel', write('cut', elf(), 125)], /cut is no kernel .*: it is cut off/],
      [
        'too little memory for the kernel',
        () => ['--memory', '64', '--kernel', write('big', big)],
        /64 MiB of guest memory are too few: the kernel alone takes all up to 101 MiB; give it more/,
      ],
      [
        'too little memory for the initramfs',
        () => ['--memory', '64', '--file', `${write('file', Buffer.alloc(0), 63 * MIB)}:/file`],
        /64 MiB of guest memory are too few: the kernel with its initramfs alone takes all up to \d+ MiB; give it more/,
      ],
      ['a guest that crashes', () => ['--kernel', guests.build('crash')], /vCPU 0 can't go on: a triple fault/],
    ])('%s', (_, args, complaint) => {
      expectOneLine(run([...args(), '--', 'true']), 1, complaint);
    });
  });
});
