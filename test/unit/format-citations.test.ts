/** Comments cite docs/format.md as `format §N` or `format §N "Heading"`; each citation leads to such a section. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CITATION = /format\s(?:\*\s)?§([\d.]+\d|\d)(?:\s(?:\*\s)?"([^"]+)")?/g;

interface Citation {
  readonly from: string;
  readonly section: string;
  readonly heading: string | undefined;
}

function citationsBelow(folder: string): Citation[] {
  const files = readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' });
  return files
    .filter((file) => /\.(ts|cc|h)$/.test(file))
    .flatMap((file) =>
      [...readFileSync(join(ROOT, folder, file), 'utf8').matchAll(CITATION)].map(([, section, heading]) => ({
        from: join(folder, file),
        section,
        heading,
      })),
    );
}

/** Text of each numbered section of docs/format.md with all below it, in lower case. */
function sections(): Map<string, string> {
  const text = readFileSync(join(ROOT, 'docs/format.md'), 'utf8').toLowerCase();
  const found = new Map<string, string>();
  for (const { 1: marks, 2: number, index } of text.matchAll(/^(#+) (\d[\d.]*?)\.? /gm)) {
    const rest = text.slice(index + marks.length);
    const end = rest.search(new RegExp(`^#{2,${marks.length}} `, 'm'));
    found.set(number, end < 0 ? rest : rest.slice(0, end));
  }
  return found;
}

describe('docs/format.md', () => {
  const known = sections();
  const citations = [...citationsBelow('src'), ...citationsBelow('native/src'), ...citationsBelow('test')];

  it('has the six sections that comments cite, and tables in each', () => {
    expect([...known.keys()].filter((number) => !number.includes('.'))).toEqual(['1', '2', '3', '4', '5', '6']);
    for (const number of ['1', '2', '3', '4', '5', '6']) expect(known.get(number), number).toContain('| ---');
  });

  it('has every section that a comment cites', () => {
    expect(citations.length).toBeGreaterThan(35);
    for (const { from, section } of citations) expect([...known.keys()], from).toContain(section);
  });

  it('has a heading in that section for what a comment cites it for', () => {
    const named = citations.filter(({ heading }) => heading !== undefined);
    expect(named.length).toBeGreaterThan(15);
    for (const { from, section, heading } of named) {
      const headings = known
        .get(section)
        ?.match(/^#+ .*$/gm)
        ?.join('\n');
      expect(headings, from).toContain(heading?.toLowerCase());
    }
  });
});
