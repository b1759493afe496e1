/**
 * Makes the package (`npm pack`), checks what is in it, and installs it as a user does who has neither a compiler nor
 * Python nor a network; then runs it. Usage: npm run pack:check [-- FOLDER], where the tarball is left if given.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from './root.mjs';

const REQUIRED = [
  'package.json',
  'README.md',
  'LICENSE',
  'CHANGELOG.md',
  'bundle/pcache.cjs',
  'bundle/pcache.cjs.map',
  'bundle/index.js',
  'bundle/worker-bench.js',
  'bundle/worker-curve.js',
  'bundle/page/main.js',
  'bundle/page/uplot/uPlot.iife.min.js',
  'bundle/LICENSES.txt',
  'dist/index.d.ts',
  'prebuilds/linux-x64.node',
  'prebuilds/linux-arm64.node',
  'native/src/addon.cc',
  'native/include/node_api.h',
  'native/include/LICENSE.node-addon-api',
  'scripts/install.mjs',
  'docs/findings.md',
  'man/pcache.1',
  'completions/pcache.bash',
];
const FORBIDDEN = /^(src|test|fixtures|node_modules|native\/build|\.)/;
const INSTALL_SECONDS_MAX = 10;

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 2 ** 28, ...options });
  if (result.status !== 0) {
    throw new Error(
      `${[command, ...args].join(' ')} ended with ${result.status ?? result.error}: ${result.stdout}${result.stderr}`,
    );
  }
  return result.stdout;
}

function expectThat(condition, message) {
  if (!condition) throw new Error(message);
}

/** A PATH with node, npm and a shell, and nothing to compile with. */
function bareTools(folder) {
  mkdirSync(folder);
  for (const tool of ['sh', 'env']) symlinkSync(run('which', [tool]).trim(), join(folder, tool));
  symlinkSync(process.execPath, join(folder, 'node'));
  return folder;
}

function checkContents(paths) {
  for (const path of REQUIRED) expectThat(paths.includes(path), `the package lacks ${path}`);
  const foreign = paths.filter((path) => FORBIDDEN.test(path));
  expectThat(foreign.length === 0, `the package holds ${foreign.join(', ')}`);
}

function checkInstalled(tarball, folder) {
  const prefix = join(folder, 'prefix');
  const env = { PATH: bareTools(join(folder, 'tools')), HOME: folder, npm_config_cache: join(folder, 'cache') };
  const npm = process.env.npm_execpath ?? run('realpath', [run('which', ['npm']).trim()]).trim();
  const startedMs = Date.now();
  run(process.execPath, [npm, 'install', '--global', '--offline', '--prefix', prefix, tarball], { env, cwd: folder });
  const seconds = (Date.now() - startedMs) / 1000;
  expectThat(
    process.env.CI !== 'true' || seconds <= INSTALL_SECONDS_MAX,
    `the installation took ${seconds.toFixed(1)} s; ${INSTALL_SECONDS_MAX} s are allowed`,
  );
  const packages = readdirSync(join(prefix, 'lib', 'node_modules'));
  expectThat(packages.join() === 'pcache', `the installation made ${packages.join(', ')}`);
  expectThat(!existsSync(join(prefix, 'lib', 'node_modules', 'pcache', 'node_modules')), 'it brought packages along');
  expectThat(!existsSync(join(prefix, 'lib', 'node_modules', 'pcache', 'native', 'build')), 'it compiled something');
  const pcache = (...args) => run(join(prefix, 'bin', 'pcache'), args, { env, cwd: folder });
  expectThat(existsSync(join(prefix, 'share', 'man', 'man1', 'pcache-fsck.1')), 'it linked no man pages');
  const version = pcache('--version').trim();
  pcache('format', 'cache.img', '--size', '512MiB');
  pcache('fsck', 'cache.img');
  expectThat(pcache('bench', 'crc', '--json').includes('bytes'), 'bench crc printed no figures');
  return { version, seconds };
}

const folder = mkdtempSync(join(tmpdir(), 'pcache-package-'));
try {
  const [made] = Object.values(JSON.parse(run('npm', ['pack', '--json', '--pack-destination', folder], { cwd: root })));
  checkContents(made.files.map(({ path }) => path));
  const tarball = join(folder, made.filename);
  run(process.execPath, [join(root, 'node_modules', 'publint', 'src', 'cli.js'), tarball, '--strict']);
  const { version, seconds } = checkInstalled(tarball, folder);
  const mib = (made.size / 2 ** 20).toFixed(1);
  process.stdout.write(
    `${made.filename}: ${made.files.length} files, ${mib} MiB; ${version} installed in ${seconds.toFixed(1)} s\n`,
  );
  if (process.argv[2] !== undefined) copyFileSync(tarball, join(process.argv[2], made.filename));
} catch (error) {
  process.stderr.write(`pack:check: ${error.message}\n`);
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
