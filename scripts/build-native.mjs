/**
 * Compiles the native helper (native/) with the C++ compiler, without a network. Does nothing when the helper that is
 * there matches the sources, unless `--force`. On failure: one line with the remedy on standard error, the compiler's
 * words in native/build/build.log, status 1; a helper that was there before stays.
 */
import { createHash } from 'node:crypto';
import { accessSync, constants, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compileHelper, includeFolders, nativeFolder, root, writeLog } from './native/recipe.mjs';

const helperPath = join(nativeFolder, 'build', 'Release', 'pcache_native.node');
const stampPath = join(nativeFolder, 'build', 'pcache.stamp');

/** A hash of all that the helper depends on. Node-API is stable, so the version of Node.js is not among it. */
function fingerprint() {
  const hash = createHash('sha256').update(`${process.platform} ${process.arch}\n`);
  const folders = [join(nativeFolder, 'src'), join(root, 'scripts', 'native'), ...includeFolders()];
  const files = folders.flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => /\.(cc|h|mjs)$/.test(name))
      .sort()
      .map((name) => join(folder, name)),
  );
  for (const path of [fileURLToPath(import.meta.url), ...files]) {
    hash.update(`${relative(root, path)}\n`).update(readFileSync(path));
  }
  return hash.digest('hex');
}

function onPath(command) {
  return (process.env.PATH ?? '').split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Throws an Error whose message is the one line to show. */
export async function buildNative({ force = false } = {}) {
  const wanted = fingerprint();
  const isFresh = existsSync(helperPath) && existsSync(stampPath) && readFileSync(stampPath, 'utf8') === wanted;
  if (isFresh && !force) return;
  const compiler = process.env.CXX ?? ['c++', 'g++', 'clang++'].find(onPath);
  if (compiler === undefined) {
    throw new Error(
      'a C++ compiler was not found; install one (Debian: apt install g++) and run: npm run build:native',
    );
  }
  try {
    writeLog(await compileHelper({ compiler, output: helperPath }));
  } catch (error) {
    const log = writeLog(error.output ?? error.stack);
    throw new Error(`${error.message}; see ${relative(root, log)}, then run: npm run build:native`, { cause: error });
  }
  writeFileSync(stampPath, wanted);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await buildNative({ force: process.argv.includes('--force') });
  } catch (error) {
    process.stderr.write(`pcache: the native helper was not built: ${error.message}\n`);
    process.exitCode = 1;
  }
}
