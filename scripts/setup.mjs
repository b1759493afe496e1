/**
 * Makes a checkout ready to run: packages, the native helper, the compiled sources. Each step is done only
 * when it is missing or older than what it is made from. Needs node, npm and a C++ compiler; uses nothing
 * but node itself, because it runs before anything is installed.
 * Usage: node scripts/setup.mjs (or `setup()` from another script).
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from './package/root.mjs';

export { root };
const at = (...parts) => join(root, ...parts);

function mtimeMs(path) {
  return existsSync(path) ? statSync(path).mtimeMs : 0;
}

function filesBelow(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesBelow(path) : [path];
  });
}

/** Changes when any of the files is added, removed or edited. */
function fingerprint(paths) {
  const hash = createHash('sha256');
  for (const path of [...paths].sort())
    hash
      .update(`${relative(root, path)}\0`)
      .update(readFileSync(path))
      .update('\0');
  return hash.digest('hex');
}

/** Runs a step with its output on stderr, so that what comes after it has stdout to itself. */
function run(what, command, args) {
  process.stderr.write(`setup: ${what}\n`);
  const result = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (result.error !== undefined) throw new Error(`${what}: cannot start ${command}: ${result.error.message}`);
  if (result.status !== 0) throw new Error(`${what} failed (${command} ended with ${result.status ?? result.signal})`);
}

function npm(what, args) {
  const cli = process.env.npm_execpath;
  if (cli !== undefined && /npm-cli\.[cm]?js$/.test(cli)) run(what, process.execPath, [cli, ...args]);
  else run(what, 'npm', args);
}

/** Runs `make` when `inputs` or `maker` are not what they were at its last success, or `output` is missing. */
function whenStale(name, inputs, output, make, maker = '') {
  const stamp = at('node_modules', '.cache', 'pcache-setup', name);
  const print = fingerprint(inputs) + maker;
  if (existsSync(output) && existsSync(stamp) && readFileSync(stamp, 'utf8') === print) return;
  make();
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, print);
}

function installPackages() {
  const installed = at('node_modules', '.package-lock.json');
  if (mtimeMs(installed) >= mtimeMs(at('package-lock.json'))) return;
  npm('installing packages', ['ci', '--no-audit', '--no-fund']);
}

/** That script looks by itself whether there is anything to do. */
function buildNative() {
  const script = at('scripts', 'build-native.mjs');
  const built = spawnSync(process.execPath, [script], { cwd: root, stdio: ['ignore', 2, 2] });
  if (built.status !== 0) throw new Error('the native helper is needed; see the line above');
}

/** What was compiled from a source that is gone must not linger: every file in dist/commands is a command. */
function removeOrphans() {
  for (const path of filesBelow(at('dist'))) {
    const source = relative(at('dist'), path).replace(/(\.d\.ts|\.js)(\.map)?$/, '.ts');
    if (source.endsWith('.ts') && !existsSync(at('src', source))) rmSync(path);
  }
}

export function buildSources() {
  const inputs = [...filesBelow(at('src')), at('tsconfig.json'), at('package-lock.json')];
  whenStale('dist', inputs, at('dist', 'output', 'main.js'), () => {
    removeOrphans();
    run('compiling', process.execPath, [at('node_modules', 'typescript', 'bin', 'tsc'), '-p', at('tsconfig.json')]);
  });
}

/** The program as it is installed, which `npm link` puts on the PATH; its man pages and completion. */
export function buildBundle() {
  const texts = [at('README.md'), at('docs', 'format.md'), at('docs', 'findings.md')];
  const inputs = [...[at('src'), at('scripts', 'package')].flatMap(filesBelow), ...texts];
  whenStale(
    'bundle',
    [...inputs, at('package.json'), at('package-lock.json')],
    at('bundle', 'pcache.cjs'),
    () => {
      run('bundling', process.execPath, [at('scripts', 'package', 'bundle.mjs')]);
    },
    process.version,
  );
}

/** The prebuilt helpers of the package. */
export function buildPrebuilds() {
  const inputs = [at('native', 'src'), at('scripts', 'native')].flatMap(filesBelow);
  whenStale('prebuilds', [...inputs, at('package-lock.json')], at('prebuilds', 'linux-arm64.node'), () => {
    run('compiling the prebuilt helpers', process.execPath, [at('scripts', 'native', 'prebuild.mjs')]);
  });
}

export function setup() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    throw new Error(`pcache needs node 20.19 or later; this is ${process.versions.node}`);
  }
  installPackages();
  buildNative();
  buildSources();
  buildBundle();
}

/** Ends the script with one line instead of a stack: what a failed step had to say is already on the screen. */
export function orExplain(main) {
  try {
    main();
  } catch (error) {
    process.stderr.write(`setup: ${error.message}\n`);
    process.exitCode = 1;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) orExplain(setup);
