/** Slipway's own VMM with a KVM that has neither irqfd nor ioeventfd, as far as the VMM knows. */
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { crrRunSchema } from '../../bench/crr/result.js';
import { activitySchema } from './activity.js';
import { inLevel1 } from './level1.js';

const HANG = 600_000;

const resultSchema = z.object({ run: crrRunSchema, activity: activitySchema });

describe('level 2 without irqfd and ioeventfd', () => {
  it(
    'gets its interrupts by KVM_SIGNAL_MSI and exits for its doorbells (B3, B4), and every CRR succeeds',
    async () => {
      const { run, activity } = resultSchema.parse(await inLevel1((level1) => level1.script('fallBacks', [], HANG)));
      expect(run).toMatchObject({ completed: run.count, errors: {} });
      expect(activity.requests['KVM_SIGNAL_MSI']).toBeGreaterThan(0);
      expect(activity.messages).toBe(activity.requests['KVM_SIGNAL_MSI']);
      expect(activity.doorbells).toBeGreaterThan(0);
      expect(activity.userExits['KVM_EXIT_MMIO']).toBe(activity.doorbells);
    },
    3 * HANG,
  );
});
