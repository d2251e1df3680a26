import { defineConfig } from 'vitest/config';

// Time limits are for hangs, never for speed: guests boot under emulation here.
export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: { name: 'epoll', include: ['test/**/*.test.ts'], env: { SLIPWAY_ENGINE: 'epoll' } },
      },
      {
        // Whatever has a network in it once more, over io_uring where the kernel allows it.
        extends: true,
        test: {
          name: 'auto',
          include: [
            'test/{e2e,guests}/**/*.test.ts',
            'test/bench/driver/slipway.test.ts',
            'test/device/controlQueueNetwork.test.ts',
          ],
          env: { SLIPWAY_ENGINE: 'auto' },
        },
      },
    ],
  },
});
