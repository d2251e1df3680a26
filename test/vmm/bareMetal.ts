/** Bare-metal guests: kilobytes of 64-bit code, compiled when the tests run, for any /dev/kvm. */
import { execFileSync } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe } from 'vitest';
import { packageRoot } from '../../src/packageRoot.js';

/** Emulators of single instructions know no SSE; a kernel's stack has no red zone. */
const FLAGS = [
  '-O2',
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

/** Why this process can use no /dev/kvm, be it one that only emulates; `undefined`: it can. */
function whyNoKvm(): string | undefined {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    return `/dev/kvm can't be used (${(error as NodeJS.ErrnoException).code})`;
  }
}

/** Tests that need a /dev/kvm. Where there is none, they are skipped, and the output says which and why. */
export function describeOnKvm(name: string, body: () => void): void {
  const reason = whyNoKvm();
  if (reason !== undefined) console.warn(`skipped: ${name}: ${reason}`);
  describe.skipIf(reason !== undefined)(`${name}`, () => {
    body();
  });
}

export class BareMetal implements Disposable {
  private readonly folder = mkdtempSync(join(tmpdir(), 'slipway-bare-'));

  /** Compiles a guest of test/vmm/bareMetal, with other files that it needs. Returns the path of its ELF file. */
  build(name: string, ...others: readonly string[]): string {
    const source = join(packageRoot(), 'test/vmm/bareMetal');
    const output = join(this.folder, name);
    const files = ['start.S', 'interrupts.c', ...others, `${name}.c`].map((file) => join(source, file));
    execFileSync('gcc', [...FLAGS, ...LINK, '-T', join(source, 'guest.ld'), '-o', output, ...files]);
    return output;
  }

  /** A guest that needs no compiler. Returns its path. */
  write(name: string, image: Buffer): string {
    const path = join(this.folder, name);
    writeFileSync(path, image);
    return path;
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
