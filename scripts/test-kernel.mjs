/**
 * `npm run test:kernel`: the tests in a real kernel alone, which `npm test` runs among the others.
 * `--seeds N` (or `--seeds A-B`): only the round trips, for these seeds. Other arguments go to vitest.
 * PCACHE_TEST_KERNEL lists the folders of the kernels, separated by colons.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { orExplain, root, setup } from './setup.mjs';

/** The second one ends the run with a table of what ran in which kernel. */
const REPORTERS = ['--reporter=default', '--reporter=./scripts/kernel-table.mjs'];

orExplain(() => {
  const args = process.argv.slice(2);
  const at = args.indexOf('--seeds');
  const [, seeds] = at < 0 ? [] : args.splice(at, 2);
  if (at >= 0 && seeds === undefined) throw new Error('--seeds takes a number of seeds, or a range such as 5-8');
  setup();
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const env = seeds === undefined ? process.env : { ...process.env, PCACHE_KERNEL_SEEDS: seeds };
  const tests = seeds === undefined ? 'test/kernel' : 'test/kernel/round-trip';
  const result = spawnSync(process.execPath, [vitest, 'run', tests, ...REPORTERS, ...args], {
    cwd: root,
    stdio: 'inherit',
    env,
  });
  process.exitCode = result.status ?? 1;
});
