/** How a level-2 guest ends, and what its user is told. */
import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { inLevel1 } from './level1.js';
import { VMMS } from './vmms.js';

const HANG = 600_000;

const endingSchema = z.object({ name: z.string(), message: z.string(), consoleTail: z.array(z.string()) });
const endingsSchema = z.object({ reboot: endingSchema, powerOff: endingSchema, panic: endingSchema });

describe('level 1', () => {
  it(
    'has hardware virtualization and a /dev/kvm that does nested paging',
    async () => {
      const command = 'grep -c -w svm /proc/cpuinfo; cat /sys/module/kvm_amd/parameters/npt; test -c /dev/kvm';
      const { exitCode, stdout } = await inLevel1((level1) => level1.run(['sh', '-c', command]));
      expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: '1\nY\n' });
    },
    HANG,
  );
});

describe.each(VMMS)('the end of a level-2 guest, VMM %s', (vmm) => {
  let endings: z.infer<typeof endingsSchema>;

  beforeAll(async () => {
    endings = endingsSchema.parse(await inLevel1((level1) => level1.script('endings', [vmm], HANG)));
  }, 3 * HANG);

  it.each(['reboot', 'powerOff'] as const)('%s is reported as the end of the sandbox', (ending) => {
    expect(endings[ending].name).toBe('SandboxError');
  });

  it('a panic is reported with what the kernel said last', () => {
    expect(endings.panic.name).toBe('GuestPanicError');
    expect(endings.panic.message).toMatch(/sysrq/i);
    expect(endings.panic.consoleTail.join('\n')).toMatch(/Kernel panic - not syncing: sysrq triggered crash/);
  });
});
