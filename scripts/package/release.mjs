/**
 * Releases. `npm run release` makes everything that is published, with SHA256SUMS, in `release/`; `npm run release:check`
 * says what keeps this commit from being released: version, CHANGELOG, tag, work tree, maintainer, artefacts and checksums.
 * Status 1 when there is anything. Debian: apt install gcc g++-aarch64-linux-gnu
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from './checks.mjs';
import { isLocal, maintainer } from './maintainer.mjs';
import { packageJson } from './manifest.mjs';
import { root } from './root.mjs';

const folder = join(root, 'release');
const SUMS = 'SHA256SUMS';

/** What is published of a version. */
export const artefacts = (version) => [
  `pcache-${version}.tgz`,
  `pcache-${version}-linux-x64`,
  `pcache_${version}_amd64.deb`,
  `pcache_${version}_arm64.deb`,
];

const sumOf = (path) => createHash('sha256').update(readFileSync(path)).digest('hex');

/** The version that an artefact itself says it is. */
function versionIn(name) {
  const path = join(folder, name);
  if (name.endsWith('.tgz')) return JSON.parse(run('tar', ['-xzOf', path, 'package/package.json'])).version;
  if (name.endsWith('.deb')) return run('dpkg-deb', ['-f', path, 'Version']).trim();
  return /^pcache\/(\S+)/.exec(run(path, ['--version']))?.[1];
}

function sumsIn(path) {
  if (!existsSync(path)) return undefined;
  const lines = readFileSync(path, 'utf8').split('\n').filter(Boolean);
  return Object.fromEntries(lines.map((line) => [line.slice(66), line.slice(0, 64)]));
}

/** What `releaseProblems` judges. */
function facts() {
  const { version } = packageJson();
  const git = (...args) => run('git', args, { cwd: root }).trim();
  const files = artefacts(version).map((name) => {
    const path = join(folder, name);
    return existsSync(path)
      ? { name, version: versionIn(name), sum: sumOf(path) }
      : { name, version: undefined, sum: undefined };
  });
  return {
    version,
    lockVersion: JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).version,
    changelog: readFileSync(join(root, 'CHANGELOG.md'), 'utf8'),
    today: new Date().toISOString().slice(0, 10),
    tags: git('tag', '--points-at', 'HEAD').split('\n'),
    changedFiles: git('status', '--porcelain').split('\n').filter(Boolean),
    isLocalBuild: isLocal(maintainer()),
    files,
    sums: sumsIn(join(folder, SUMS)),
  };
}

/** Problems of the version, its CHANGELOG, its tag and the work tree. */
function sourceProblems({ version, lockVersion, changelog, today, tags, changedFiles, isLocalBuild }) {
  const problems = [];
  if (!/^\d+\.\d+\.\d+$/.test(version)) problems.push(`package.json: ${version} is not the version of a release`);
  if (lockVersion !== version) problems.push(`package-lock.json has version ${lockVersion}; run: npm install`);
  const heading = changelog.split('\n').find((line) => line.startsWith(`## [${version}]`));
  const date = /^## \[[^\]]+\] - (\d{4}-\d\d-\d\d)$/.exec(heading ?? '')?.[1];
  if (date === undefined) problems.push(`CHANGELOG.md has no heading "## [${version}] - YYYY-MM-DD"`);
  else if (date > today) problems.push(`CHANGELOG.md dates ${version} ${date}, which is in the future`);
  const unreleased = /^## \[Unreleased\]\n([^]*?)(?=^## \[|$(?![^]))/m.exec(changelog)?.[1] ?? '';
  if (unreleased.trim() !== '') problems.push('CHANGELOG.md has changes under "Unreleased"');
  if (!tags.includes(`v${version}`)) problems.push(`this commit has no tag v${version}; run: git tag -s v${version}`);
  if (changedFiles.length > 0) problems.push(`the work tree has changes: ${changedFiles.slice(0, 3).join(', ')}`);
  if (isLocalBuild) problems.push('nobody answers for the Debian packages: set DEBFULLNAME and DEBEMAIL');
  return problems;
}

/** @returns a line for everything that keeps a release from being published */
export function releaseProblems(release) {
  const problems = sourceProblems(release);
  for (const { name, version, sum } of release.files) {
    if (sum === undefined) problems.push(`release/${name} is missing; run: npm run release`);
    else if (version !== release.version) problems.push(`release/${name} is of version ${version}`);
    if (sum !== undefined && release.sums && release.sums[name] !== sum)
      problems.push(`release/${SUMS} has another sum of ${name}`);
  }
  if (release.sums === undefined) problems.push(`release/${SUMS} is missing; run: npm run release`);
  return problems;
}

async function makeRelease() {
  if (isLocal(maintainer())) throw new Error('set DEBFULLNAME and DEBEMAIL: the Debian packages name a maintainer');
  const { makePackages } = await import('./debian.mjs');
  const { makeExecutable } = await import('./executable.mjs');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  run('npm', ['pack', '--pack-destination', folder], { cwd: root });
  makePackages(folder);
  await makeExecutable();
  const names = artefacts(packageJson().version);
  writeFileSync(join(folder, SUMS), names.map((name) => `${sumOf(join(folder, name))}  ${name}\n`).join(''));
  process.stdout.write(`${[...names, SUMS].map((name) => `release/${name}`).join('\n')}\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    if (process.argv[2] === '--check') {
      const problems = releaseProblems(facts());
      for (const problem of problems) process.stderr.write(`release:check: ${problem}\n`);
      if (problems.length > 0) process.exitCode = 1;
      else process.stdout.write(`release:check: ${packageJson().version} is ready to be published\n`);
    } else await makeRelease();
  } catch (error) {
    process.stderr.write(`release: ${error.message}\n`);
    process.exitCode = 1;
  }
}
