/**
 * Builds the native helper (native/) with node-gyp, without a network: Node's headers are taken from beside
 * the running node where they are. Does nothing when the built addon matches the sources, unless `--force`.
 * On failure: one line with the remedy on stderr, the compiler's words in native/build/build.log, status 1.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const nativeDir = join(root, 'native');
const buildDir = join(nativeDir, 'build');
const addonPath = join(buildDir, 'Release', 'pcache_native.node');
const stampPath = join(buildDir, 'pcache.stamp');
const logPath = join(buildDir, 'build.log');
const require = createRequire(import.meta.url);

/** A hash of all that the built addon depends on. Node-API is stable, so Node's version is not among it. */
function fingerprint() {
  const hash = createHash('sha256');
  hash.update(`${process.platform} ${process.arch} ${require('node-addon-api/package.json').version}\n`);
  const sources = readdirSync(join(nativeDir, 'src'))
    .sort()
    .map((name) => join(nativeDir, 'src', name));
  for (const path of [fileURLToPath(import.meta.url), join(nativeDir, 'binding.gyp'), ...sources]) {
    hash.update(`${relative(root, path)}\n`).update(readFileSync(path));
  }
  return hash.digest('hex');
}

function upToDate(wanted) {
  return existsSync(addonPath) && existsSync(stampPath) && readFileSync(stampPath, 'utf8') === wanted;
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

/** Names of the tools that node-gyp needs and that are not here. */
function missingTools() {
  const missing = [];
  if (!process.env.CXX && !['c++', 'g++', 'clang++'].some(onPath)) missing.push('a C++ compiler (g++)');
  if (!onPath('make') && !onPath('gmake')) missing.push('make');
  if (!process.env.PYTHON && !process.env.npm_config_python && !onPath('python3')) missing.push('python3');
  return missing;
}

function fail(reason) {
  process.stderr.write(`pcache: the native helper was not built: ${reason}\n`);
  process.exit(1);
}

const wanted = fingerprint();
if (!process.argv.includes('--force') && upToDate(wanted)) process.exit(0);

const missing = missingTools();
if (missing.length > 0) {
  fail(
    `${missing.join(', ')} not found; install it (Debian: apt install g++ make python3) and run: npm run build:native`,
  );
}

const nodePrefix = dirname(dirname(realpathSync(process.execPath)));
const headersHere = existsSync(join(nodePrefix, 'include', 'node', 'node_api.h'));
const nodeGyp = require.resolve('node-gyp/bin/node-gyp.js');
const args = [nodeGyp, 'rebuild', '--directory', nativeDir, ...(headersHere ? ['--nodedir', nodePrefix] : [])];
const built = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8', maxBuffer: 2 ** 28 });

mkdirSync(buildDir, { recursive: true });
writeFileSync(logPath, `${built.stdout ?? ''}${built.stderr ?? ''}`);
if (built.status !== 0 || !existsSync(addonPath)) {
  const offline = headersHere
    ? ''
    : `; Node's headers are not in ${join(nodePrefix, 'include', 'node')} (install them, or allow node-gyp to fetch them)`;
  fail(
    `node-gyp ended with status ${built.status ?? built.signal ?? built.error?.message}${offline}; see ${relative(root, logPath)}, then run: npm run build:native`,
  );
}
writeFileSync(stampPath, wanted);
