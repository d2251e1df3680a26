/** The tests of a level-2 guest's life, for a number of vCPUs; each number is a file of its own, so that they run side by side. */
import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { crrRunSchema } from '../../bench/crr/result.js';
import { activitySchema, countsSchema } from './activity.js';
import type { Vmm } from './inside/guest.js';
import { inLevel1 } from './level1.js';
import { VMMS } from './vmms.js';

/** For hangs: two guests boot one after the other, and node itself runs emulated. */
const HANG = 600_000;

const lifeSchema = z.object({
  first: z.object({
    bootMs: z.number(),
    interrupts: z.string(),
    counts: z.object({
      machine: z.object({ exits: countsSchema, events: countsSchema, faults: countsSchema }).optional(),
      device: z.object({ kicks: z.array(z.number()), interrupts: z.array(z.number()), brokenQueues: z.number() }),
    }),
    run: crrRunSchema,
    activity: activitySchema,
    output: activitySchema,
    underLoad: crrRunSchema,
    reloads: z.number(),
    afterReloads: crrRunSchema,
  }),
  second: z.object({ bootMs: z.number(), run: crrRunSchema }),
});

type Life = z.infer<typeof lifeSchema>;

export function describeLife(cpus: number, vmms: readonly Vmm[] = VMMS): void {
  describe.each(vmms)(`level 2 with ${cpus} vCPUs, VMM %s, on true KVM`, (vmm) => {
    let life: Life;

    beforeAll(async () => {
      life = lifeSchema.parse(await inLevel1((level1) => level1.script('life', [vmm, cpus], HANG)));
      process.stdout.write(`${summary(vmm, cpus, life)}\n`);
    }, 3 * HANG);

    it('boots, and every CRR succeeds', () => {
      expect(life.first.run).toMatchObject({ completed: life.first.run.count, errors: {} });
      expect(life.first.run.queues).toHaveLength(cpus);
    });

    it('has one MSI-X vector per queue, each with interrupts, and one for the configuration (B1)', () => {
      const vectors = virtioNetVectors(life.first.interrupts);
      const queues = Array.from({ length: cpus }, (_, n) => [`input.${n}`, `output.${n}`]).flat();
      expect([...vectors.keys()].toSorted()).toEqual(['config', ...queues].toSorted());
      expect(queues.filter((queue) => vectors.get(queue) === 0)).toEqual([]);
    });

    // QEMU's own way is QEMU's affair; that it does call KVM for its serial ports shows that the calls are seen.
    it.runIf(vmm === 'kvm')('raises no interrupt by ioctl and exits for no doorbell on the fast path (B1, B2)', () => {
      const { requests, userExits, doorbells, messages } = life.first.activity;
      expect(doorbells).toBeGreaterThan(0);
      expect(userExits['KVM_EXIT_MMIO'] ?? 0).toBe(0);
      expect(messages).toBeGreaterThan(0);
      expect(requests).toEqual({ KVM_IRQ_LINE: 0, KVM_IRQ_LINE_STATUS: 0, KVM_SIGNAL_MSI: 0 });
    });

    it.runIf(vmm === 'kvm')('takes 64 KiB of a command’s output without an exit for each byte', () => {
      expect(sum(Object.values(life.first.output.userExits))).toBeLessThan(100);
    });

    it('has its interrupts counted by queue, and no broken queue', () => {
      const { device } = life.first.counts;
      expect(device.interrupts.slice(0, 2 * cpus).filter((count) => count === 0)).toEqual([]);
      expect(device.brokenQueues).toBe(0);
    });

    it.runIf(vmm === 'kvm')('has its exits counted, and no fault of its kernel', () => {
      const { exits, events, faults } = life.first.counts.machine!;
      expect(exits['mmio']).toBeGreaterThan(0);
      expect([...Object.values(events), ...Object.values(faults)].filter((count) => count > 0)).toEqual([]);
    });

    it.runIf(cpus > 1)('survives `ethtool -L` down and up under load (B5)', () => {
      expect(life.first.underLoad).toMatchObject({ completed: life.first.underLoad.count, errors: {} });
    });

    it('comes back from ten unloads and loads of its driver', () => {
      expect(life.first.reloads).toBe(10);
      expect(life.first.afterReloads).toMatchObject({ completed: life.first.afterReloads.count, errors: {} });
    });

    it('has a successor in the same process', () => {
      expect(life.second.run).toMatchObject({ completed: life.second.run.count, errors: {} });
    });
  });
}

/** Interrupts of the network card by vector name, summed over the vCPUs: lines such as `25: 247 1 PCI-MSI 32769-edge virtio1-input.0`. */
function virtioNetVectors(interrupts: string): Map<string, number> {
  const lines = [...interrupts.matchAll(/^ *\d+:((?: +\d+)+) +PCI-MSI\S* +.*\b(virtio\d+)-(\S+)$/gm)];
  const card = lines.find(([, , , vector]) => vector === 'input.0')?.[2];
  return new Map(
    lines
      .filter(([, , device]) => device === card)
      .map(([, counts, , vector]) => [vector!, sum(counts!.trim().split(/ +/).map(Number))]),
  );
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, each) => total + each, 0);
}

function summary(vmm: string, cpus: number, { first, second }: Life): string {
  const { requests, userExits, exits, doorbells, messages, injections } = first.activity;
  const perCrr = (count: number): string => (count / first.run.completed).toFixed(2);
  const list = (counts: Record<string, number>): string =>
    Object.entries(counts)
      .map(([reason, count]) => `${reason} ${perCrr(count)}`)
      .join(', ') || 'none';
  const calls = Object.entries(requests).map(([request, count]) => `${request} ${count}`);
  return [
    `${vmm}, ${cpus} vCPUs: booted in ${(first.bootMs / 1000).toFixed(1)} s, again in ${(second.bootMs / 1000).toFixed(1)} s`,
    `  ${first.run.completed} CRRs; ioctls: ${calls.join(', ')}`,
    `  per CRR: doorbells ${perCrr(doorbells)}, messages ${perCrr(messages)}, injected interrupts ${perCrr(injections)}`,
    `  exits to KVM per CRR: ${perCrr(sum(Object.values(exits)))} (${list(exits)}); to user space: ${perCrr(sum(Object.values(userExits)))} (${list(userExits)})`,
  ].join('\n');
}
