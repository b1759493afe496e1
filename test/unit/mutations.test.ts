/** Entries of scripts/mutations.mjs follow the source: `npm run mutate` finds a lost text only when it gets there, this at once. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

interface Mutation {
  readonly name: string;
  readonly file: string;
  readonly find: string;
}

it('every mutation finds its text exactly once in its file', async () => {
  const { MUTATIONS } = (await import(join(ROOT, 'scripts/mutations.mjs'))) as { MUTATIONS: readonly Mutation[] };
  expect(MUTATIONS.length).toBeGreaterThan(80);
  const astray = MUTATIONS.filter(
    ({ file, find }) => readFileSync(join(ROOT, file), 'utf8').split(find).length !== 2,
  ).map(({ name }) => name);
  expect(astray).toEqual([]);
});
