/** A level-2 Linux on Slipway's own VMM that takes no messages (`pci=nomsi`): INTx by KVM_IRQFD with resampling. */
import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { crrRunSchema } from '../../bench/crr/result.js';
import { activitySchema } from './activity.js';
import { inLevel1 } from './level1.js';

const HANG = 600_000;

const guestSchema = z.object({
  bootMs: z.number(),
  run: crrRunSchema,
  activity: activitySchema,
  interrupts: z.string(),
});
const resultSchema = z.object({ ioApic: guestSchema, pic: guestSchema });

/** Lines such as `10: 16 0 IO-APIC 10-fasteoi virtio0`: counts by device, summed over the vCPUs. */
function virtioLines(interrupts: string, controller: string): Map<string, number> {
  const lines = interrupts.matchAll(new RegExp(String.raw`^ *\d+:((?: +\d+)+) +${controller} +(virtio\d+)$`, 'gm'));
  return new Map(
    [...lines].map(([, counts, device]) => [
      device!,
      counts!
        .trim()
        .split(/ +/)
        .reduce((sum, count) => sum + Number(count), 0),
    ]),
  );
}

describe('level 2 without MSI-X, VMM kvm', () => {
  let result: z.infer<typeof resultSchema>;

  beforeAll(async () => {
    result = resultSchema.parse(await inLevel1((level1) => level1.script('lines', [], HANG)));
    for (const [name, { bootMs, run, activity }] of Object.entries(result)) {
      const { requests, userExits } = activity;
      const boot = (bootMs / 1000).toFixed(1);
      const counts = JSON.stringify({ requests, userExits });
      process.stdout.write(`${name}: booted in ${boot} s; ${run.completed} CRRs: ${counts}\n`);
    }
  }, 3 * HANG);

  describe.each([
    ['ioApic', String.raw`IO-APIC +\d+-fasteoi`],
    ['pic', 'XT-PIC'],
  ] as const)('%s', (name, controller) => {
    it('has one line for each of its devices, with interrupts, and no message', () => {
      const { interrupts } = result[name];
      const lines = virtioLines(interrupts, controller);
      expect([...lines.keys()]).toEqual(['virtio0', 'virtio1']);
      for (const count of lines.values()) expect(count).toBeGreaterThan(0);
      expect(interrupts).not.toContain('PCI-MSI');
    });

    it('gets its address by DHCP, and every CRR succeeds', () => {
      const { run } = result[name];
      expect(run).toMatchObject({ completed: run.count, errors: {} });
    });

    it('B4 the line goes up by irqfd, not by ioctl; reads of ISR exit', () => {
      const { requests, userExits, messages } = result[name].activity;
      expect(requests).toEqual({ KVM_IRQ_LINE: 0, KVM_IRQ_LINE_STATUS: 0, KVM_SIGNAL_MSI: 0 });
      expect(messages).toBe(0);
      expect(userExits['KVM_EXIT_MMIO']).toBeGreaterThan(0);
    });
  });
});
