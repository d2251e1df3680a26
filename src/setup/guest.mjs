// @ts-check
/** What the guest is made of: kernel, modules, busybox and our agent, in `.cache/guest`. */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { dependencyOf, unpackPackage } from './apt.mjs';
import { SetupError, progress, root, run } from './system.mjs';

const guestFolder = join(root, '.cache/guest');

export async function prepareGuest() {
  mkdirSync(join(guestFolder, 'bin'), { recursive: true });
  await fetchKernel();
  await fetchBusybox();
  await extractKernel();
  await compileAgent();
}

/** Debian's cloud kernel: `vmlinuz` and `modules/VERSION`. */
async function fetchKernel() {
  const vmlinuz = join(guestFolder, 'vmlinuz');
  if (existsSync(vmlinuz)) return;
  const meta = 'linux-image-cloud-amd64';
  progress(`downloading the guest's kernel (Debian's ${meta})`);
  const name = await dependencyOf(meta, /^linux-image-.*cloud-amd64(-unsigned)?$/);
  await withUnpacked(name, (folder) => {
    const modules = [join(folder, 'lib/modules'), join(folder, 'usr/lib/modules')].find((path) => existsSync(path));
    const image = readdirSync(join(folder, 'boot')).find((entry) => entry.startsWith('vmlinuz-'));
    if (modules === undefined || image === undefined) throw new SetupError(`the package ${name} holds no kernel`);
    rmSync(join(guestFolder, 'modules'), { recursive: true, force: true });
    renameSync(modules, join(guestFolder, 'modules'));
    renameSync(join(folder, 'boot', image), vmlinuz);
  });
}

async function fetchBusybox() {
  const busybox = join(guestFolder, 'bin/busybox');
  if (existsSync(busybox)) return;
  progress("downloading the guest's user space (Debian's busybox-static)");
  await withUnpacked('busybox-static', (folder) => {
    const path = ['bin/busybox', 'usr/bin/busybox']
      .map((entry) => join(folder, entry))
      .find((entry) => existsSync(entry));
    if (path === undefined) throw new SetupError('the package busybox-static holds no busybox');
    renameSync(path, busybox);
  });
}

/**
 * @param {string} name of a Debian package
 * @param {(folder: string) => void} take moves what is wanted out of the unpacked package
 */
async function withUnpacked(name, take) {
  const folder = join(guestFolder, `unpacked-${process.pid}`);
  try {
    await unpackPackage(name, folder);
    take(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The kernel as an ELF file, which QEMU starts directly: a bzImage would decompress itself under emulation first. */
async function extractKernel() {
  const [vmlinuz, vmlinux] = [join(guestFolder, 'vmlinuz'), join(guestFolder, 'vmlinux')];
  if (existsSync(vmlinux) && statSync(vmlinux).mtimeMs >= statSync(vmlinuz).mtimeMs) return;
  progress("unpacking the guest's kernel");
  const compiled = pathToFileURL(join(root, 'dist/arch/x86_64/kernelImage.js')).href;
  /** @type {typeof import('../../arch/x86_64/kernelImage.js')} */
  const { extractVmlinux } = await import(compiled);
  const scratch = `${vmlinux}.${process.pid}`;
  if (!(await extractVmlinux(vmlinuz, scratch))) {
    throw new SetupError(`cannot unpack the guest's kernel ${vmlinuz}; install lz4, xz-utils and zstd, then try again`);
  }
  renameSync(scratch, vmlinux);
}

/** The agent is static: it runs whatever else the guest holds. */
async function compileAgent() {
  const source = join(root, 'src/guest/agent.c');
  const program = join(guestFolder, 'bin/agent');
  if (existsSync(program) && statSync(program).mtimeMs >= statSync(source).mtimeMs) return;
  progress("compiling the guest's agent");
  const scratch = `${program}.${process.pid}`;
  await run('gcc', ['-static', '-O2', '-Wall', '-Wextra', '-o', scratch, source], {
    failure: `cannot compile ${source}`,
  });
  renameSync(scratch, program);
}
