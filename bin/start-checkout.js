/** Runs what is compiled in `dist/`; says in one line that nothing is. */
import { existsSync } from 'node:fs';

const COMPILED = new URL('../dist/output/start.js', import.meta.url);

export async function startCheckout(entryUrl, development = false) {
  if (!existsSync(COMPILED)) {
    process.stderr.write('pcache: this checkout is not compiled; run: npm run setup\n');
    process.exitCode = 8;
    return;
  }
  const { start } = await import(COMPILED);
  await start(entryUrl, development);
}
