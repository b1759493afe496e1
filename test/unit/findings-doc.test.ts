/** The reference of findings is what the catalogue in the sources makes of it. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { CATALOGUE, type FindingCode } from '../../src/fsck/catalogue.js';
import { kernelEffect, KERNELS } from '../../src/fsck/consequences.js';

const { findingsDoc } = (await import(new URL('../../scripts/findings-doc.mjs', import.meta.url).href)) as {
  findingsDoc: (catalogue: unknown, consequences: unknown) => string;
};
const CONSEQUENCES = { kernels: KERNELS, effectOf: kernelEffect };
const DOCUMENT = fileURLToPath(new URL('../../docs/findings.md', import.meta.url));

describe('docs/findings.md', () => {
  it('is up to date; if not: npm run docs', () => {
    expect(readFileSync(DOCUMENT, 'utf8')).toBe(findingsDoc(CATALOGUE, CONSEQUENCES));
  });

  it('has an entry for every code, once', () => {
    const headings = [...findingsDoc(CATALOGUE, CONSEQUENCES).matchAll(/^### (\w+)$/gm)].map(([, code]) => code);
    expect(headings.sort()).toEqual(Object.keys(CATALOGUE).sort());
  });

  it('cannot be made of a code that belongs nowhere', () => {
    const entry = { severity: 'note', kernelRefuses: false, meaning: 'm', kernel: 'k' };
    const attached = { kernels: ['1.0'], effectOf: () => 'attaches' };
    expect(() => findingsDoc({ ODD_ONE: entry }, attached)).toThrow('ODD_ONE belongs in no section');
    expect(findingsDoc({ KEY_ODD: entry }, attached)).toContain('- Meaning: M.\n- Kernel: K.\n- Repair: None.\n');
  });

  it('says in a table what each kernel does with each finding, and in its entry which of them refuse', () => {
    const document = findingsDoc(CATALOGUE, CONSEQUENCES);
    for (const code of Object.keys(CATALOGUE) as FindingCode[]) {
      const effects = KERNELS.map((kernel) => kernelEffect(code, kernel));
      expect(document).toContain(`\n| ${[code, ...effects].join(' | ')} |\n`);
    }
    const differing = findingsDoc(
      { KEY_ODD: { severity: 'error', meaning: 'm', kernel: 'k' } },
      { kernels: ['1.0', '2.0'], effectOf: (_code: string, kernel: string) => (kernel === '2.0' ? 'refuses' : 'cuts') },
    );
    expect(differing).toContain('### KEY_ODD\n\n**error**, and Linux 2.0 refuses the cache\n');
    expect(differing).toContain('| KEY_ODD | cuts | refuses |\n');
    expect(document).toContain('### SUPERBLOCK_BAD_CRC\n\n**error**, and the kernel refuses the cache\n');
  });
});
