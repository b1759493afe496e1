/**
 * `npm test`: sets the checkout up, then runs the short tests. `npm run test:all` (`--all`): the long ones too.
 * Further arguments go to vitest. The last lines of a run say what ran and what was left out.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { orExplain, root, setup } from './setup.mjs';

const runsAll = process.argv[2] === '--all';

orExplain(() => {
  setup();
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const result = spawnSync(process.execPath, [vitest, 'run', ...process.argv.slice(runsAll ? 3 : 2)], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, PCACHE_TEST_ALL: runsAll ? '1' : '' },
  });
  process.exitCode = result.status ?? 1;
});
