/**
 * Makes the Debian packages, has lintian look at them, and installs, runs and removes the one for this computer with a
 * dpkg of its own in an empty folder. Usage: npm run deb:check, as root. Debian: apt install lintian
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { makePackages } from './debian.mjs';

const REQUIRED = [
  '/usr/bin/pcache',
  '/usr/lib/pcache/bundle/pcache.cjs',
  '/usr/share/man/man1/pcache.1.gz',
  '/usr/share/man/man5/pcache-format.5.gz',
  '/usr/share/man/man7/pcache-findings.7.gz',
  '/usr/share/bash-completion/completions/pcache',
  '/usr/share/doc/pcache/copyright',
  '/usr/share/doc/pcache/docs/worst-day.md',
];

function run(command, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', ...options });
  if (status !== 0) {
    throw new Error(`${[command, ...args].join(' ')} ended with ${status ?? error?.message}: ${stdout}${stderr}`);
  }
  return stdout;
}

function expectThat(condition, message) {
  if (!condition) throw new Error(message);
}

/** Files below a folder, without the database of dpkg. */
function installed(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length))
    .filter((path) => !path.startsWith('/var/lib/dpkg/') && path !== '/var/log/dpkg.log');
}

function checkInstallation(deb, folder) {
  const target = join(folder, 'target');
  const database = join(target, 'var', 'lib', 'dpkg');
  for (const name of ['info', 'updates']) mkdirSync(join(database, name), { recursive: true });
  mkdirSync(join(target, 'var', 'log'), { recursive: true });
  for (const name of ['status', 'available']) writeFileSync(join(database, name), '');
  // The folder has no Node.js: that of this computer runs the program.
  run('dpkg', [`--root=${target}`, '--force-depends', '--install', deb]);
  const paths = installed(target);
  for (const path of REQUIRED) expectThat(paths.includes(path), `the package lacks ${path}`);
  const pcache = (...args) => run(process.execPath, [join(target, 'usr', 'bin', 'pcache'), ...args], { cwd: folder });
  const version = pcache('--version').trim();
  pcache('format', 'cache.img', '--size', '512MiB');
  expectThat(pcache('fsck', 'cache.img').includes('clean'), 'fsck does not say clean');
  pcache('bench', '--jobs', '2', '--seconds', '1', '--cache-size', '512MiB', '--span', '64MiB');
  run('dpkg', [`--root=${target}`, '--purge', 'pcache']);
  expectThat(!existsSync(join(target, 'usr')), `left behind: ${installed(target).join(', ')}`);
  return version;
}

if (process.getuid() !== 0) {
  process.stdout.write('deb:check: skipped: needs root, for dpkg\n');
} else {
  const folder = mkdtempSync(join(tmpdir(), 'pcache-debian-'));
  try {
    const made = makePackages(folder);
    for (const deb of Object.values(made)) {
      const said = run('lintian', ['--allow-root', '--fail-on', 'error,warning', deb]);
      process.stdout.write(said);
    }
    const version = checkInstallation(made[run('dpkg', ['--print-architecture']).trim()], folder);
    const names = Object.values(made).map((path) => basename(path));
    process.stdout.write(`${names.join(', ')}: lintian is content; ${version} was installed, run and removed\n`);
  } catch (error) {
    process.stderr.write(`deb:check: ${error.message}\n`);
    process.exitCode = 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
