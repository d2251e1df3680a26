/** x86-64 under QEMU: machine, processor, kernel image. */
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Accelerator, Arch } from '../arch.js';
import { bzImageRelease, elfRelease, extractVmlinux, kernelFormat } from './kernelImage.js';

export const x86_64: Arch = {
  qemu: 'qemu-system-x86_64',
  console: 'ttyS0',
  // An emulated timer may come too late for the kernel's check of it at boot, which then gives the timer up.
  kernelParameters: ['tsc=reliable', 'no_timer_check', 'mitigations=off', 'random.trust_cpu=on'],
  canUseKvm: () => obstacle() === undefined,
  kvmObstacle: () => obstacle(),
  machineOptions,
  kernelRelease,
  kernelForQemu,
};

const obstacle = (): string | undefined => kvmObstacle(readFileSync('/proc/cpuinfo', 'utf8'));

/**
 * Whether the processor itself runs guests: an openable /dev/kvm alone proves nothing, it may emulate.
 * @param cpuinfo text of /proc/cpuinfo
 */
export function hasVirtualizationFlag(cpuinfo: string): boolean {
  return /^flags\s*:.*\b(vmx|svm)\b/m.test(cpuinfo);
}

/**
 * Why this user can run no virtual machines in hardware; undefined if nothing is in the way.
 * @param cpuinfo text of /proc/cpuinfo
 * @param device what is opened as /dev/kvm
 */
export function kvmObstacle(cpuinfo: string, device = '/dev/kvm'): string | undefined {
  if (!hasVirtualizationFlag(cpuinfo)) {
    return 'the processor has no hardware virtualization, or it is turned off: neither vmx nor svm is in /proc/cpuinfo';
  }
  try {
    closeSync(openSync(device, 'r+'));
    return undefined;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EACCES') return `${device} is not yours to open: join its group, kvm`;
    // The file may be there before its driver is: ENODEV.
    return `there is no ${device} (${code}): load the kernel's module kvm_intel or kvm_amd`;
  }
}

function machineOptions(accelerator: Accelerator): string[] {
  const machine = ['-machine', 'q35,vmport=off,usb=off'];
  if (accelerator === 'kvm') return [...machine, '-accel', 'kvm', '-cpu', 'host'];
  // TCG is slow at `rep movsb` and at every change of SMAP's flag.
  return [...machine, '-accel', 'tcg,thread=multi', '-cpu', 'max,-erms,-fsrm,-smap'];
}

async function kernelRelease(image: string): Promise<string | undefined> {
  return (await kernelFormat(image)) === 'elf' ? elfRelease(image) : bzImageRelease(image);
}

/** An ELF kernel starts by PVH, straight in protected mode; a bzImage would first unpack itself, emulated. */
async function kernelForQemu(image: string, folder: string): Promise<string> {
  if ((await kernelFormat(image)) === 'elf') return image;
  const path = join(folder, 'vmlinux');
  return (await extractVmlinux(image, path)) ? path : image;
}
