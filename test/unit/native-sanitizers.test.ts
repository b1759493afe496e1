/**
 * The native helper's tests again, with the helper built for AddressSanitizer and UndefinedBehaviorSanitizer: in a copy
 * of the checkout, so that the helper in use stays as it is. Takes minutes: `npm run test:all`.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { describeLong } from '../support/long.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const SANITIZE = '-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g -O1';
const TESTS = [
  'test/unit/native.test.ts',
  'test/unit/native-limits.test.ts',
  'test/unit/device.test.ts',
  'test/unit/native-ublk.test.ts',
];

describeLong('the native helper under AddressSanitizer and UBSan', () => {
  test('passes its tests without a report', { timeout: 900_000 }, () => {
    const copy = mkdtempSync(join(tmpdir(), 'pcache-sanitizers-'));
    try {
      for (const name of ['src', 'test', 'scripts', 'package.json', 'tsconfig.json', 'vitest.config.ts']) {
        cpSync(join(root, name), join(copy, name), { recursive: true });
      }
      for (const name of ['src']) {
        cpSync(join(root, 'native', name), join(copy, 'native', name), { recursive: true });
      }
      symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
      const built = spawnSync(process.execPath, ['scripts/build-native.mjs', '--force'], {
        cwd: copy,
        env: { ...process.env, CXXFLAGS: SANITIZE, LDFLAGS: SANITIZE },
        encoding: 'utf8',
      });
      expect([built.status, built.stderr]).toEqual([0, '']);
      const library = (name: string): string =>
        execFileSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();
      const run = spawnSync(
        process.execPath,
        [
          join(root, 'node_modules/vitest/vitest.mjs'),
          'run',
          '--testTimeout=300000',
          '--no-file-parallelism',
          ...TESTS,
        ],
        {
          cwd: copy,
          env: {
            ...process.env,
            LD_PRELOAD: `${library('libasan.so')}:${library('libubsan.so')}`,
            // Leaks: Node frees nothing at its end. SIGBUS is the helper's to handle.
            ASAN_OPTIONS: 'detect_leaks=0:handle_sigbus=0:allow_user_segv_handler=1:allocator_may_return_null=1',
            UBSAN_OPTIONS: 'print_stacktrace=1',
          },
          encoding: 'utf8',
          maxBuffer: 2 ** 28,
        },
      );
      const output = `${run.stdout}${run.stderr}`;
      expect(output).not.toMatch(/ERROR: AddressSanitizer|runtime error:/);
      expect(run.status, output.slice(-4000)).toBe(0);
    } finally {
      rmSync(copy, { recursive: true, force: true });
    }
  });
});
