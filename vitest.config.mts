import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/build.mjs', 'test/model/summary.ts'],
    // Processes, not threads: tests count descriptors and threads of their process.
    pool: 'forks',
    testTimeout: 30_000,
    hookTimeout: 30_000,
    execArgv: ['--expose-gc'],
  },
});
