/** Options that no sandbox can be made of are refused before anything is started. */
import { expect, it } from 'vitest';
import { hostArch } from '../../arch/host.js';
import { SandboxError, UsageError } from '../../src/errors.js';
import { Sandbox, type SandboxOptions } from '../../src/sandbox/sandbox.js';

const user = { kind: 'user' } as const;
const rows: [SandboxOptions, RegExp][] = [
  [{ cpus: 0 }, /^cpus must be a whole number from 1 to 64, not 0$/],
  [{ cpus: 65 }, /^cpus must be/],
  [{ cpus: 1.5 }, /^cpus must be/],
  [{ memoryMiB: 63 }, /^memoryMiB must be a whole number from 64 to 65536, not 63$/],
  [{ memoryMiB: -512 }, /^memoryMiB must be/],
  [{ memoryMiB: Number.POSITIVE_INFINITY }, /^memoryMiB must be/],
  [{ queues: 0 }, /^queues must be/],
  [{ vmm: 'kvm', net: user }, /^vmm kvm is Slipway's own, which takes a network/],
  [{ vmm: 'kvm', accelerator: 'tcg' }, /^vmm kvm is Slipway's own, .* no accelerator but kvm/],
];

it.each(rows)('%j', async (options, message) => {
  const start = Sandbox.start(options);
  await expect(start).rejects.toThrow(UsageError);
  await expect(start).rejects.toThrow(message);
});

it.skipIf(hostArch().canUseKvm()).each([
  [{ vmm: 'kvm' }, /^Slipway's own VMM needs hardware KVM \(.+: .+\); or use qemu$/],
  [{ accelerator: 'kvm' }, /^no hardware KVM here \(.+: .+\); or use tcg$/],
] as const)('%j where there is no hardware KVM (skipped where there is)', async (options, message) => {
  const start = Sandbox.start(options);
  await expect(start).rejects.toThrow(SandboxError);
  await expect(start).rejects.toThrow(message);
});
