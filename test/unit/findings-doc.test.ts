/** The reference of findings is what the catalogue in the sources makes of it. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { CATALOGUE } from '../../src/fsck/catalogue.js';

const { findingsDoc } = (await import(new URL('../../scripts/findings-doc.mjs', import.meta.url).href)) as {
  findingsDoc: (catalogue: unknown) => string;
};
const DOCUMENT = fileURLToPath(new URL('../../docs/findings.md', import.meta.url));

describe('docs/findings.md', () => {
  it('is up to date; if not: npm run docs', () => {
    expect(readFileSync(DOCUMENT, 'utf8')).toBe(findingsDoc(CATALOGUE));
  });

  it('has an entry for every code, once', () => {
    const headings = [...findingsDoc(CATALOGUE).matchAll(/^### (\w+)$/gm)].map(([, code]) => code);
    expect(headings.sort()).toEqual(Object.keys(CATALOGUE).sort());
  });

  it('cannot be made of a code that belongs nowhere', () => {
    const entry = { severity: 'note', kernelRefuses: false, meaning: 'm', kernel: 'k' };
    expect(() => findingsDoc({ ODD_ONE: entry })).toThrow('ODD_ONE belongs in no section');
    expect(findingsDoc({ KEY_ODD: entry })).toContain('- Meaning: M.\n- Kernel: K.\n- Repair: None.\n');
  });
});
