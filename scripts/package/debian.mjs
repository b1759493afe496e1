/**
 * Makes the Debian packages `release/pcache_VERSION_ARCH.deb` for amd64 and arm64 from what `npm pack` is made of.
 * Usage: npm run deb [-- FOLDER]. Needs dpkg-deb and gzip. `maintainer.mjs` says who answers for them; SOURCE_DATE_EPOCH, or
 * else the last commit, gives the date.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { maintainer } from './maintainer.mjs';
import { packageJson } from './manifest.mjs';
import { root } from './root.mjs';

const ARCHITECTURES = { amd64: 'x64', arm64: 'arm64' };
const COMPLETIONS = {
  'pcache.bash': 'usr/share/bash-completion/completions/pcache',
  '_pcache': 'usr/share/zsh/vendor-completions/_pcache',
  'pcache.fish': 'usr/share/fish/vendor_completions.d/pcache.fish',
};
const DOC = 'usr/share/doc/pcache';
const LIB = 'usr/lib/pcache';
/** What systemd and udev find, by where it is in `share/`. */
const SYSTEM_FILES = {
  'systemd/pcache@.service': 'usr/lib/systemd/system/pcache@.service',
  'systemd/pcache-generator': 'usr/lib/systemd/system-generators/pcache-generator',
  'udev/61-pcache.rules': 'usr/lib/udev/rules.d/61-pcache.rules',
  'udev/pcache-id': 'usr/lib/udev/pcache-id',
  'tab': 'etc/pcache/tab',
};
/** Files that an administrator changes: kept at an upgrade, and removed with a purge only. */
const CONFIGURATION = ['etc/pcache/tab'];
const PROGRAMS = [`${LIB}/bundle/pcache.cjs`, SYSTEM_FILES['systemd/pcache-generator'], SYSTEM_FILES['udev/pcache-id']];
/** What lintian says and this package leaves so, with the reason. */
const OVERRIDES = `# The licences of the bundled packages are given as their authors give them, each as a whole.
pcache: copyright-file-contains-full-apache-2-license
`;

const run = (command, args) => execFileSync(command, args, { cwd: root, encoding: 'utf8' });

function builtAt() {
  const { SOURCE_DATE_EPOCH } = process.env;
  return new Date(1000 * Number(SOURCE_DATE_EPOCH ?? run('git', ['log', '-1', '--format=%ct'])));
}

function maintainerField() {
  const { name, email } = maintainer();
  return `${name} <${email}>`;
}

function filesBelow(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

function writeGzip(path, text) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, execFileSync('gzip', ['-9nc'], { input: text }));
}

/** The changelog in Debian's form; what changed is in CHANGELOG.md. */
function changelog(version, date) {
  const day = date.toUTCString().replace('GMT', '+0000');
  return `pcache (${version}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- ${maintainerField()}  ${day}\n`;
}

function copyright(version) {
  const licences = readFileSync(join(root, 'bundle', 'LICENSES.txt'), 'utf8').replaceAll('\r', '');
  const indented = licences.replace(/^/gm, ' ').replace(/^ $/gm, ' .').trimEnd();
  return `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: pcache ${version}

Files: *
Copyright: the authors of pcache
License: GPL-2.0-or-later

Files: usr/lib/pcache/bundle/*
Copyright: the authors of pcache, and of the packages listed in the licence
License: GPL-2.0-or-later and others

License: GPL-2.0-or-later
 On Debian systems the text of version 2 of the GNU General Public License is in
 /usr/share/common-licenses/GPL-2.

License: GPL-2.0-or-later and others
${indented}
`;
}

function control({ version }, architecture, sizeKib) {
  return `Package: pcache
Version: ${version}
Architecture: ${architecture}
Maintainer: ${maintainerField()}
Installed-Size: ${sizeKib}
Depends: nodejs (>= 20.19), libc6 (>= 2.28), libgcc-s1
Suggests: dmsetup, blktrace, libnbd-bin
Section: admin
Priority: optional
Description: tools for Linux dm-pcache caches on persistent memory
 Linux dm-pcache uses persistent memory as a write-back cache in front of a
 disk. pcache creates caches, checks and repairs them, gets their data out
 without the kernel, serves them over NBD, and simulates caches of many sizes
 from a recorded workload.
`;
}

function stageProgram(stage, { version }, nodeArch) {
  cpSync(join(root, 'bundle'), join(stage, LIB, 'bundle'), {
    recursive: true,
    filter: (path) => !path.endsWith('.map') && basename(path) !== 'LICENSES.txt' && basename(path) !== 'LICENSE',
  });
  const entry = join(stage, LIB, 'bundle', 'pcache.cjs');
  writeFileSync(entry, readFileSync(entry, 'utf8').replace(/^#!.*/, '#!/usr/bin/node'));
  // Says that the threads' code is modules.
  writeFileSync(
    join(stage, LIB, 'package.json'),
    `${JSON.stringify({ name: 'pcache', version, type: 'module' }, null, 2)}\n`,
  );
  mkdirSync(join(stage, LIB, 'prebuilds'));
  const helper = `linux-${nodeArch}.node`;
  copyFileSync(join(root, 'prebuilds', helper), join(stage, LIB, 'prebuilds', helper));
  mkdirSync(join(stage, 'usr/bin'), { recursive: true });
  symlinkSync('../lib/pcache/bundle/pcache.cjs', join(stage, 'usr/bin/pcache'));
  for (const [file, target] of Object.entries(SYSTEM_FILES)) {
    mkdirSync(dirname(join(stage, target)), { recursive: true });
    copyFileSync(join(root, 'share', file), join(stage, target));
  }
}

function stageDocuments(stage, { version }, date) {
  for (const file of readdirSync(join(root, 'man'))) {
    const section = file.at(-1);
    writeGzip(join(stage, `usr/share/man/man${section}/${file}.gz`), readFileSync(join(root, 'man', file)));
  }
  for (const [file, target] of Object.entries(COMPLETIONS)) {
    mkdirSync(dirname(join(stage, target)), { recursive: true });
    copyFileSync(join(root, 'completions', file), join(stage, target));
  }
  cpSync(join(root, 'docs'), join(stage, DOC, 'docs'), { recursive: true });
  for (const file of ['README.md', 'CHANGELOG.md', 'SECURITY.md']) {
    copyFileSync(join(root, file), join(stage, DOC, file));
  }
  writeGzip(join(stage, DOC, 'changelog.gz'), changelog(version, date));
  writeFileSync(join(stage, DOC, 'copyright'), copyright(version));
  mkdirSync(join(stage, 'usr/share/lintian/overrides'), { recursive: true });
  writeFileSync(join(stage, 'usr/share/lintian/overrides/pcache'), OVERRIDES);
}

/** Modes as Debian's policy has them, and one date for all. */
function settle(stage, date) {
  const programs = PROGRAMS.map((path) => join(stage, path));
  for (const entry of readdirSync(stage, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isSymbolicLink()) continue;
    chmodSync(path, entry.isDirectory() || programs.includes(path) ? 0o755 : 0o644);
    utimesSync(path, date, date);
  }
  chmodSync(stage, 0o755);
}

function makePackage(architecture, nodeArch, folder) {
  const description = packageJson();
  const { version } = description;
  const date = builtAt();
  const stage = mkdtempSync(join(tmpdir(), 'pcache-deb-'));
  try {
    stageProgram(stage, description, nodeArch);
    stageDocuments(stage, description, date);
    const files = filesBelow(stage);
    const bytes = files.reduce((sum, path) => sum + statSync(path).size, 0);
    mkdirSync(join(stage, 'DEBIAN'));
    writeFileSync(join(stage, 'DEBIAN', 'control'), control(description, architecture, Math.ceil(bytes / 1024)));
    writeFileSync(join(stage, 'DEBIAN', 'conffiles'), CONFIGURATION.map((path) => `/${path}\n`).join(''));
    const kept = files.filter((path) => !CONFIGURATION.includes(relative(stage, path)));
    const sums = kept.map((path) => {
      const sum = createHash('md5').update(readFileSync(path)).digest('hex');
      return `${sum}  ${relative(stage, path)}\n`;
    });
    writeFileSync(join(stage, 'DEBIAN', 'md5sums'), sums.join(''));
    settle(stage, date);
    const made = join(folder, `pcache_${version}_${architecture}.deb`);
    execFileSync('dpkg-deb', ['--root-owner-group', '-Zxz', '--build', stage, made], {
      env: { ...process.env, SOURCE_DATE_EPOCH: String(date.getTime() / 1000) },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    return made;
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

/** @returns the paths of the packages, by architecture */
export function makePackages(folder) {
  mkdirSync(folder, { recursive: true });
  return Object.fromEntries(
    Object.entries(ARCHITECTURES).map(([architecture, nodeArch]) => [
      architecture,
      makePackage(architecture, nodeArch, folder),
    ]),
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const made = makePackages(process.argv[2] ?? join(root, 'release'));
  process.stdout.write(`${Object.values(made).join('\n')}\n`);
}
