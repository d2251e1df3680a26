/**
 * zod, by `require`: Node.js reads all files of an `import` at once, a descriptor for each, and zod has a hundred. A process
 * that may have 64 descriptors could not start.
 */
import { createRequire } from 'node:module';
import type * as zod from 'zod';

export const { z } = createRequire(import.meta.url)('zod') as typeof zod;
