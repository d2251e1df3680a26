/** What inside/kvmTrace.ts tells of KVM, as it comes out of level 1. */
import { z } from 'zod';

export const countsSchema = z.record(z.string(), z.number());

export const activitySchema = z.object({
  requests: countsSchema,
  userExits: countsSchema,
  exits: countsSchema,
  doorbells: z.number(),
  messages: z.number(),
  injections: z.number(),
});
