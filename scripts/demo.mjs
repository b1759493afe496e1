/**
 * `npm run demo`: sets the checkout up, then replays a recorded PostgreSQL run on a cache that lives only as
 * long as the replay, and prints the report. Further arguments go to `pcache replay`.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { orExplain, root, setup } from './setup.mjs';

orExplain(() => {
  setup();
  const args = ['replay', join('fixtures', 'traces', 'pgbench.blktrace'), ...process.argv.slice(2)];
  process.stderr.write(`\n$ pcache ${args.join(' ')}\n\n`);
  const result = spawnSync(process.execPath, [join(root, 'bin', 'run.js'), ...args], { cwd: root, stdio: 'inherit' });
  process.exitCode = result.status ?? 1;
});
