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
        test: {
          name: 'main',
          include: ['test/**/*.test.ts'],
          exclude: ['test/nested/**'],
          env: { SLIPWAY_ENGINE: 'epoll' },
        },
      },
      {
        // Whole networks once more, over io_uring where the kernel allows it.
        extends: true,
        test: {
          name: 'uring',
          include: [
            'test/e2e/**/*.test.ts',
            'test/guests/multiqueue.test.ts',
            'test/bench/driver/slipway.test.ts',
            'test/device/controlQueueNetwork.test.ts',
            'test/device/dataQueuesNetwork.test.ts',
            'test/workers/nat/udpNetwork.test.ts',
          ],
          env: { SLIPWAY_ENGINE: 'auto' },
        },
      },
      {
        extends: true,
        test: { name: 'nested', include: ['test/nested/**/*.test.ts'], globalSetup: 'test/nested/globalSetup.ts' },
      },
    ],
  },
});
