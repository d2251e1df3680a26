/** What no machine can be made of: one clear error, and nothing left behind. */
import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { MissingPieceError, SlipwayError, UsageError } from '../../src/errors.js';
import { addon } from '../../src/native/addon.js';
import type { KvmCall } from '../../src/native/kvm.js';
import { KVM_CAP, KvmError } from '../../src/vmm/kvm.js';
import type { MachineOptions } from '../../src/vmm/machine.js';
import { withForbiddenFile } from '../ordinaryUser.js';
import { bareMachine } from './bareMachine.js';
import { BareMetal, describeOnKvm } from './bareMetal.js';

/** A KVM that answers one request otherwise: with that number, or not at all. */
function kvmWith(request: KvmCall, argument: number | undefined, answer: number | undefined): Partial<MachineOptions> {
  const kvmCall: typeof addon.kvmCall = (fd, name, value) => {
    if (name !== request || (argument !== undefined && value !== argument)) return addon.kvmCall(fd, name, value);
    if (answer === undefined) throw new Error(`${request}: Inappropriate ioctl for device`);
    return answer;
  };
  return { addon: { ...addon, kvmCall } };
}

const rows: [string, Partial<MachineOptions>, new (...args: never[]) => Error, RegExp][] = [
  ['no /dev/kvm', { device: '/nonexistent/kvm' }, KvmError, /there is no \/nonexistent\/kvm: load .* or use QEMU/],
  ['a folder', { device: '/dev' }, KvmError, /^\/dev can't be opened \(.*directory/],
  ['another device', { device: '/dev/null' }, KvmError, /^\/dev\/null is not KVM/],
  ['a KVM of another version', kvmWith('KVM_GET_API_VERSION', undefined, 11), KvmError, /not KVM with API version 12/],
  ['a KVM that makes no VM', kvmWith('KVM_CREATE_VM', undefined, undefined), KvmError, /makes no virtual machine/],
  [
    'no interrupt controller',
    kvmWith('KVM_CREATE_IRQCHIP', undefined, undefined),
    KvmError,
    /KVM_CREATE_IRQCHIP.*QEMU/,
  ],
  ['no immediate exit', kvmWith('KVM_CHECK_EXTENSION', KVM_CAP.IMMEDIATE_EXIT, 0), KvmError, /older than Linux 4\.12/],
  [
    'more vCPUs than this KVM takes',
    { cpus: 5, ...kvmWith('KVM_CHECK_EXTENSION', KVM_CAP.MAX_VCPUS, 4) },
    UsageError,
    /cpus must be .* 1 to 4, not 5/,
  ],
  ['more vCPUs than there are APIC ids', { cpus: 255 }, UsageError, /cpus must be .* not 255/],
  ['no vCPU', { cpus: 0 }, UsageError, /cpus must be .* not 0/],
  ['half a vCPU', { cpus: 1.5 }, UsageError, /cpus must be .* not 1\.5/],
  ['no memory', { memoryMiB: 0 }, UsageError, /memoryMiB must be .* not 0/],
  ['a fraction of a MiB', { memoryMiB: 16.5 }, UsageError, /memoryMiB must be .* not 16\.5/],
  ['memory that is no number', { memoryMiB: Number.NaN }, UsageError, /memoryMiB must be .* not NaN/],
  ['more memory than can be mapped', { memoryMiB: 2 ** 40 }, UsageError, /memoryMiB must be/],
  ['less memory than any kernel takes', { memoryMiB: 1 }, SlipwayError, /at least 4 MiB/],
  ['no kernel', { kernel: '/nonexistent/kernel' }, MissingPieceError, /\/nonexistent\/kernel/],
  ['what is no kernel', { kernel: '/etc/passwd' }, MissingPieceError, /\/etc\/passwd is no Linux kernel/],
  ['a program', { kernel: '/bin/sh' }, MissingPieceError, /is no kernel that starts here/],
  ['no initramfs', { initramfs: '/nonexistent/initramfs' }, MissingPieceError, /initramfs \/nonexistent\/initramfs/],
  [
    'an initramfs that is too long',
    { initramfs: process.execPath },
    SlipwayError,
    /16 MiB of guest memory are too few/,
  ],
  ['a command line that is too long', { commandLine: 'x'.repeat(5000) }, SlipwayError, /command line has 5000 bytes/],
];

describeOnKvm('no machine', () => {
  let guests: BareMetal;
  let kernel: string;
  beforeAll(() => {
    guests = new BareMetal();
    kernel = guests.build('hello');
  });
  afterAll(() => guests[Symbol.dispose]());

  const refusal = async (options: Partial<MachineOptions>): Promise<Error> => {
    try {
      const { machine } = await bareMachine(kernel, options);
      await machine.close();
    } catch (error) {
      return error as Error;
    }
    throw new Error('there is a machine');
  };

  it.each(rows)('with %s', async (_, options, type, message) => {
    await refusal(options);
    const before = readdirSync('/proc/self/fd').length;
    const error = await refusal(options);
    expect(error).toBeInstanceOf(type);
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain('\n');
    expect(readdirSync('/proc/self/fd')).toHaveLength(before);
  });

  it('without permission', async () => {
    const error = await withForbiddenFile((device) => refusal({ device }));
    expect(error).toBeInstanceOf(KvmError);
    expect(error.message).toMatch(/is not yours to open: join its group \(kvm\), or use QEMU/);
  });
});
