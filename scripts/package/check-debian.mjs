/**
 * Makes the Debian packages, has lintian look at them, and installs, runs and removes the one for this computer with a
 * dpkg of its own in an empty folder. With `-- --trixie` it also installs, runs and removes it with apt in a fresh Debian 13,
 * which mmdebstrap makes from the network; that takes minutes and is not part of CI.
 * Usage: npm run deb:check [-- --trixie], as root. Debian: apt install lintian systemd [mmdebstrap]
 */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { check, expectThat, kernelSum, layImages, run, sha256 } from './checks.mjs';
import { makePackages } from './debian.mjs';

const REQUIRED = [
  '/usr/bin/pcache',
  '/usr/lib/pcache/bundle/pcache.cjs',
  '/etc/pcache/tab',
  '/usr/lib/systemd/system/pcache@.service',
  '/usr/lib/systemd/system-generators/pcache-generator',
  '/usr/lib/udev/pcache-id',
  '/usr/lib/udev/rules.d/61-pcache.rules',
  '/usr/share/man/man1/pcache.1.gz',
  '/usr/share/man/man5/pcache-format.5.gz',
  '/usr/share/man/man5/pcache-tab.5.gz',
  '/usr/share/man/man7/pcache-findings.7.gz',
  '/usr/share/bash-completion/completions/pcache',
  '/usr/share/doc/pcache/copyright',
  '/usr/share/doc/pcache/docs/worst-day.md',
  '/usr/share/doc/pcache/docs/monitoring/prometheus-alerts.yml',
];
const IMAGE = 'dirty-crc';

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
  run('systemd-analyze', ['verify', `--root=${target}`, '--man=no', '--recursive-errors=no', 'pcache@db.service']);
  run('dpkg', [`--root=${target}`, '--purge', 'pcache']);
  const left = installed(target);
  expectThat(left.length === 0, `left behind: ${left.join(', ')}`);
  return version;
}

/** Debian 13 as it comes, with the Node.js that it has. */
function checkInTrixie(deb, folder) {
  const target = join(folder, 'trixie');
  const install = 'chroot "$1" apt-get install -q -y --no-install-recommends /pcache.deb';
  // As hooks, since apt has its lists and the network only while the system is made.
  const hooks = [`copy-in ${deb} /`, `mv "$1/${basename(deb)}" "$1/pcache.deb"`, install];
  run('mmdebstrap', [
    '--variant=apt',
    '--mode=root',
    ...hooks.map((hook) => `--customize-hook=${hook}`),
    'trixie',
    target,
  ]);
  layImages(IMAGE, target);
  const inside = (...args) => run('chroot', [target, ...args], { encoding: 'buffer' });
  run('mount', ['-t', 'proc', 'proc', join(target, 'proc')]);
  try {
    const version = `${inside('pcache', '--version')}`.trim();
    expectThat(`${inside('pcache', 'fsck', `/${IMAGE}.pmem`, `/${IMAGE}.back`)}`.includes('clean'), 'fsck: not clean');
    const sum = sha256(inside('pcache', 'cat', `/${IMAGE}.pmem`, `/${IMAGE}.back`));
    expectThat(sum === kernelSum(IMAGE), 'cat gives other data than the kernel has');
    inside('pcache', 'bench', 'crc');
    inside('apt-get', 'purge', '-q', '-y', 'pcache');
    const left = run('find', [join(target, 'usr'), join(target, 'etc'), '-iname', '*pcache*']);
    expectThat(left === '', `left behind: ${left}`);
    return version;
  } finally {
    run('umount', [join(target, 'proc')]);
  }
}

await check('deb:check', { rootFor: 'dpkg' }, (folder) => {
  const made = makePackages(folder);
  for (const deb of Object.values(made)) {
    process.stdout.write(run('lintian', ['--allow-root', '--fail-on', 'error,warning', deb]));
  }
  const own = made[run('dpkg', ['--print-architecture']).trim()];
  const version = checkInstallation(own, folder);
  const names = Object.values(made).map((path) => basename(path));
  const trixie = process.argv.includes('--trixie') ? `; in a fresh trixie too: ${checkInTrixie(own, folder)}` : '';
  return `${names.join(', ')}: lintian is content; ${version} was installed, run and removed${trixie}`;
});
