/** What keeps a version from being released. */
import { expect, it } from 'vitest';

interface Person {
  readonly name: string;
  readonly email: string;
}

interface Artefact {
  readonly name: string;
  readonly version: string | undefined;
  readonly sum: string | undefined;
}

const load = (name: string) =>
  import(new URL(`../../scripts/package/${name}.mjs`, import.meta.url).href) as Promise<unknown>;
const { isLocal, maintainer } = (await load('maintainer')) as {
  isLocal: (person: Person) => boolean;
  maintainer: (environment: NodeJS.ProcessEnv, packageJson: { author?: Person }) => Person;
};
const { artefacts, releaseProblems } = (await load('release')) as {
  artefacts: (version: string) => string[];
  releaseProblems: (facts: object) => string[];
};

const version = '1.2.3';
const files: Artefact[] = artefacts(version).map((name, at) => ({ name, version, sum: String(at) }));
const ready = {
  version,
  lockVersion: version,
  changelog: '# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-05-04\n\n### Added\n\n- Something.\n',
  today: '2026-05-04',
  tags: ['v1.2.3'],
  changedFiles: [],
  isLocalBuild: false,
  files,
  sums: Object.fromEntries(files.map(({ name, sum }) => [name, sum])),
};

it('a tagged, dated version with all artefacts and their sums is ready', () => {
  expect(releaseProblems(ready)).toEqual([]);
});

it.each([
  ['a version before a release', { version: '1.2.3-rc1' }, /not the version of a release/],
  ['another version in the lock file', { lockVersion: '1.2.2' }, /package-lock\.json/],
  ['no heading in CHANGELOG', { changelog: '# Changelog\n' }, /no heading/],
  ['a heading without a date', { changelog: '## [1.2.3]\n' }, /no heading/],
  ['a date in the future', { today: '2026-05-03' }, /in the future/],
  ['unreleased changes', { changelog: `## [Unreleased]\n\n- More.\n\n${ready.changelog.slice(29)}` }, /Unreleased/],
  ['no tag', { tags: ['v1.2.2'] }, /no tag v1\.2\.3/],
  ['changed files', { changedFiles: [' M README.md'] }, /README\.md/],
  ['nobody who answers for it', { isLocalBuild: true }, /DEBEMAIL/],
  [
    'a missing artefact',
    { files: [{ ...files[0], version: undefined, sum: undefined }, ...files.slice(1)] },
    /tgz is m/,
  ],
  ['an artefact of another version', { files: [{ ...files[0], version: '1.2.2' }, ...files.slice(1)] }, /of version 1/],
  ['a wrong sum', { sums: { ...ready.sums, [files[2].name]: 'x' } }, /another sum of pcache_1\.2\.3_amd64\.deb/],
  ['no sums', { sums: undefined }, /SHA256SUMS is missing/],
])('%s is a problem', (_, change, problem) => {
  expect(releaseProblems({ ...ready, ...change }).join('\n')).toMatch(problem);
});

it('the maintainer of a package is who the environment or package.json names, and a local build otherwise', () => {
  const author = { name: 'A', email: 'a@pcache.dev' };
  expect(maintainer({ DEBFULLNAME: 'B', DEBEMAIL: 'b@pcache.dev' }, { author })).toEqual({
    name: 'B',
    email: 'b@pcache.dev',
  });
  expect(maintainer({ DEBEMAIL: 'b@pcache.dev' }, { author })).toEqual(author);
  expect(isLocal(author)).toBe(false);
  expect(isLocal(maintainer({}, {}))).toBe(true);
});
