/** Makes `bundle/` anew where a source is newer: tests of the command line run it, since it starts five times as fast as `dist/`. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const PROGRAM = join(ROOT, 'bundle', 'pcache.cjs');
const SCRIPT = join(ROOT, 'scripts', 'package', 'bundle.mjs');
/** What the bundle is made from. `dist/` is not among it, but for what oclif knows of the commands. */
const SOURCES = ['src', 'scripts/package'];

function newestMs(folder: string): number {
  const times = readdirSync(folder, { recursive: true }).map((name) => statSync(join(folder, String(name))).mtimeMs);
  return Math.max(...times);
}

/** @throws Error when the bundle cannot be made; its own words are on standard error by then */
export function makeFreshBundle(): void {
  const madeMs = existsSync(PROGRAM) ? statSync(PROGRAM).mtimeMs : 0;
  if (SOURCES.every((folder) => newestMs(join(ROOT, folder)) < madeMs)) return;
  const { status } = spawnSync(process.execPath, [SCRIPT], { cwd: ROOT, stdio: ['ignore', 2, 2] });
  if (status !== 0) throw new Error('the bundle cannot be made; compile the sources first: npx tsc');
}
