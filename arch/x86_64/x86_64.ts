/** x86-64 under QEMU: machine, processor, kernel image. */
import { accessSync, constants, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Accelerator, Arch, BootableKernel } from '../arch.js';
import { bzImageRelease, elfRelease, extractVmlinux, kernelFormat } from './kernelImage.js';

export const x86_64: Arch = {
  qemu: 'qemu-system-x86_64',
  console: 'ttyS0',
  kernelParameters: ['tsc=reliable', 'mitigations=off', 'random.trust_cpu=on'],
  canUseKvm: () => hasVirtualizationFlag(readFileSync('/proc/cpuinfo', 'utf8')) && kvmOpens(),
  machineOptions,
  bootableKernel,
};

/**
 * Whether the processor itself runs guests: an openable /dev/kvm alone proves nothing, it may emulate.
 * @param cpuinfo text of /proc/cpuinfo
 */
export function hasVirtualizationFlag(cpuinfo: string): boolean {
  return /^flags\s*:.*\b(vmx|svm)\b/m.test(cpuinfo);
}

function kvmOpens(): boolean {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function machineOptions(accelerator: Accelerator): string[] {
  const machine = ['-machine', 'q35,vmport=off,usb=off'];
  if (accelerator === 'kvm') return [...machine, '-accel', 'kvm', '-cpu', 'host'];
  // TCG is slow at `rep movsb` and at every change of SMAP's flag.
  return [...machine, '-accel', 'tcg,thread=multi', '-cpu', 'max,-erms,-fsrm,-smap'];
}

/** An ELF kernel starts by PVH, straight in protected mode; a bzImage would first unpack itself. */
async function bootableKernel(image: string, folder: string): Promise<BootableKernel> {
  if ((await kernelFormat(image)) === 'elf') return { path: image, release: await elfRelease(image) };
  const release = await bzImageRelease(image);
  const path = join(folder, 'vmlinux');
  return { path: (await extractVmlinux(image, path)) ? path : image, release };
}
