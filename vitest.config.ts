import { defineConfig } from 'vitest/config';

// Time limits are for hangs, never for speed: guests boot under emulation here.
export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: [
      { extends: true, test: { name: 'main', include: ['test/**/*.test.ts'], exclude: ['test/nested/**'] } },
      {
        extends: true,
        test: { name: 'nested', include: ['test/nested/**/*.test.ts'], globalSetup: 'test/nested/globalSetup.ts' },
      },
    ],
  },
});
