/** Tests: one process per file (the native helper is loaded per process), no shared state between files. */
import { defineConfig } from 'vitest/config';
import RunOrder from './test/support/run-order.js';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    reporters: ['default', './test/support/what-ran.ts'],
    pool: 'forks',
    maxWorkers: '100%', // the default leaves one processor idle, which of two is half
    sequence: { sequencer: RunOrder },
    globalSetup: ['test/support/images-cleanup.ts'],
    testTimeout: 20_000,
    hookTimeout: 60_000,
    env: { NO_COLOR: '1', LC_ALL: 'C.UTF-8' },
    // `npm run coverage`: of the engine, by its unit, property and simulation tests. CONTRIBUTING says what is left.
    coverage: {
      provider: 'v8',
      include: ['src/engine/**/*.ts'],
      thresholds: { branches: 95 },
      reporter: ['text'],
      reportsDirectory: 'node_modules/.cache/pcache-coverage',
    },
  },
});
