/** Tests: one process per file (the native helper is loaded per process), no shared state between files. */
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    globalSetup: ['test/support/images-cleanup.ts'],
    testTimeout: 20_000,
    hookTimeout: 60_000,
    env: { NO_COLOR: '1' },
    coverage: { provider: 'v8', include: ['src/**/*.ts'] },
  },
});
