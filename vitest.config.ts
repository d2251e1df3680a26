import { defineConfig } from 'vitest/config';

// Time limits are for hangs, never for speed: guests boot under emulation here.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
