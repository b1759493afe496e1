/**
 * The files inside the single executable (`scripts/package/executable.mjs`). The loader and worker threads take files
 * only: what they need is written to a private temporary folder first.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { getAsset } from 'node:sea';
import { pathToFileURL } from 'node:url';
import { freshModule } from './fresh-module.js';
import type { Layout } from './types.js';

/** Put in by the bundler. */
declare const PCACHE_VERSION: string;

const HELPER = `prebuilds/${process.platform}-${process.arch}.node`;
/** Where a rescue system may let files be made and code be mapped; any of them may be missing, read-only or noexec. */
const FOLDERS = [tmpdir(), '/tmp', '/dev/shm', '/run', '/root'];

/** Writes these assets below a new folder that only this user can read. */
function extract(parent: string, names: readonly string[]): string {
  const folder = mkdtempSync(join(parent, 'pcache-'));
  for (const name of names) {
    const path = join(folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, new Uint8Array(getAsset(name)));
  }
  return folder;
}

/** @returns what `use` makes of the extracted files, in the first folder where that works */
function withExtracted<Result>(names: readonly string[], use: (folder: string) => Result, keep: boolean): Result {
  let failure: unknown;
  for (const parent of FOLDERS) {
    let folder: string | undefined;
    try {
      folder = extract(parent, names);
      const result = use(folder);
      if (!keep) rmSync(folder, { recursive: true, force: true });
      return result;
    } catch (error) {
      failure ??= error;
      if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
    }
  }
  throw failure;
}

function loadHelper(folder: string): unknown {
  const loaded = { exports: {} };
  process.dlopen(loaded, join(folder, HELPER));
  return loaded.exports;
}

let workers: string | undefined;

/** The worker modules with all that they import, laid out as in the package; they are gone when the process ends. */
function workerFolder(): string {
  if (workers === undefined) {
    const names = JSON.parse(getAsset('workers.json', 'utf8')) as string[];
    const folder = withExtracted([...names, HELPER], (made) => made, true);
    workers = folder;
    process.on('exit', () => {
      rmSync(folder, { recursive: true, force: true });
    });
  }
  return workers;
}

export const singleExecutable: Layout = {
  version: () => PCACHE_VERSION,
  helperRemedy: 'set TMPDIR to a folder on a filesystem that is writable and not mounted noexec',
  useCompiledCode: () => undefined,
  loadAddon: () => withExtracted([HELPER], loadHelper, false),
  workerModule: (name) => pathToFileURL(join(workerFolder(), 'bundle', `worker-${name}.js`)),
  pageFile: (name) => getAsset(`bundle/page/${name}`, 'utf8'),
  xzDecoder: () => freshModule(getAsset('bundle/xz-decompress.cjs', 'utf8')),
};
