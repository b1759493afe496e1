/**
 * `npm test`: sets the checkout up, then runs the short tests. `npm run test:all` (`--all`): the long ones too.
 * Further arguments go to vitest. The last lines of a run say what ran and what was left out.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { orExplain, root, setup } from './setup.mjs';

/**
 * The files whose short tests take longest: they run the program dozens of times, or real clients. `npm test` without
 * arguments leaves them out.
 */
const LONG_FILES = [
  'browser/report',
  'cli/attach',
  'cli/attach-backing',
  'cli/attach-ends',
  'cli/attach-service',
  'cli/backing-record',
  'cli/bench',
  'cli/bundle',
  'cli/completion',
  'cli/contract',
  'cli/curve',
  'cli/dump-keys',
  'cli/format',
  'cli/fsck',
  'cli/fsck-undo',
  'cli/grow',
  'cli/inspection',
  'cli/json',
  'cli/kernel-device',
  'cli/locale',
  'cli/map',
  'cli/metadata-backup',
  'cli/move',
  'cli/pack',
  'cli/progress',
  'cli/replay',
  'cli/replay-report',
  'cli/simulate',
  'cli/status-watch',
  'cli/trace',
  'cli/wipe',
  'cli/writeback',
  'nbd/clients',
  'nbd/hostile',
  'nbd/kill',
  'nbd/silent-backing',
  'nbd/slow-backing',
  'nbd/tls',
  'unit/pack-format',
  'unit/simulate-lockstep',
].map((name) => `test/${name}.test.ts`);

const runsAll = process.argv[2] === '--all';
const more = process.argv.slice(runsAll ? 3 : 2);
const leftOut = runsAll || more.length > 0 ? [] : LONG_FILES;

orExplain(() => {
  const missing = LONG_FILES.filter((file) => !existsSync(join(root, file)));
  if (missing.length > 0) throw new Error(`scripts/test.mjs names files that do not exist: ${missing.join(', ')}`);
  setup();
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const exclude = leftOut.map((file) => `--exclude=${file}`);
  const result = spawnSync(process.execPath, [vitest, 'run', ...exclude, ...more], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, PCACHE_TEST_ALL: runsAll ? '1' : '', PCACHE_TEST_FILES_LEFT_OUT: String(leftOut.length) },
  });
  process.exitCode = result.status ?? 1;
});
