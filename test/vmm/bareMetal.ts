/** Bare-metal guests: kilobytes of 64-bit code, compiled when the tests run, for any /dev/kvm. */
import { execFileSync } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../src/packageRoot.js';

/** Emulators of single instructions know no SSE; a kernel's stack has no red zone. */
const FLAGS = [
  '-O1',
  '-ffreestanding',
  '-nostdlib',
  '-static',
  '-mno-red-zone',
  '-mgeneral-regs-only',
  '-mcmodel=large',
];
const LINK = [
  '-fno-pie',
  '-no-pie',
  '-fno-stack-protector',
  '-fcf-protection=none',
  '-Wl,--build-id=none',
  '-Wl,-n,--no-warn-rwx-segments',
];

/** Whether this process may use a /dev/kvm, be it one that only emulates. */
export function haveKvm(): boolean {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

export class BareMetal implements Disposable {
  private readonly folder = mkdtempSync(join(tmpdir(), 'slipway-bare-'));

  /** Compiles a guest of test/vmm/bareMetal. Returns the path of its ELF file. */
  build(name: string): string {
    const source = join(packageRoot(), 'test/vmm/bareMetal');
    const output = join(this.folder, name);
    const files = ['start.S', 'interrupts.c', `${name}.c`].map((file) => join(source, file));
    execFileSync('gcc', [...FLAGS, ...LINK, '-T', join(source, 'guest.ld'), '-o', output, ...files]);
    return output;
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
