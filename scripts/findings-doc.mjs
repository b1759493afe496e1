/**
 * Writes docs/findings.md, the reference of what `pcache fsck` finds, from the catalogue in the sources:
 * npm run docs. `findingsDoc` is the text; `test/unit/findings-doc.test.ts` holds the file against it.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Where a code belongs, by how it begins. The first that fits. */
const SECTIONS = [
  ['Superblock', /^(DEVICE|SUPERBLOCK|METADATA)_/],
  ['cache_info', /^(CACHE|GC_PERCENT)_/],
  ['Segments', /^(SEGMENTS?|CHAIN|GENERATION)_/],
  ['Tails', /^(KEY|DIRTY)_TAIL_/],
  ['Log', /^(LOG|KSET|LAST|KEY_SEGMENT)_/],
  ['Keys and payload', /^(KEY|PAYLOAD|OLD_DATA)_/],
];

const INTRODUCTION = `# Findings of pcache fsck

<!-- Made from src/fsck/catalogue.ts by "npm run docs". Change it there. -->

Each line that \`pcache fsck\` prints begins with one of these codes. An **error**: data is lost, or the kernel
refuses or misreads it. A **warning** is safe so far. A **note** is normal. A cache with notes only is clean.
\`pcache fsck --repair\` does what is said under "Repair", after it has asked or was told to, and writes an undo
file first. A metadata-only pack (\`pcache pack\`) is checked like the cache itself.
`;

function sentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

function entryText(code, { severity, kernelRefuses, meaning, kernel, repair, noRepair }) {
  const none = noRepair === undefined ? 'None.' : sentence(`none: ${noRepair}`);
  return `### ${code}

${kernelRefuses ? `**${severity}**, and the kernel refuses the cache` : `**${severity}**`}

- Meaning: ${sentence(meaning)}
- Kernel: ${sentence(kernel)}
- Repair: ${repair === undefined ? none : sentence(repair)}
`;
}

/** @param catalogue `CATALOGUE` of src/fsck/catalogue.ts */
export function findingsDoc(catalogue) {
  const texts = new Map(SECTIONS.map(([title]) => [title, []]));
  for (const [code, entry] of Object.entries(catalogue)) {
    const section = SECTIONS.find(([, pattern]) => pattern.test(code));
    if (section === undefined) throw new Error(`${code} belongs in no section: add it to SECTIONS`);
    texts.get(section[0]).push(entryText(code, entry));
  }
  const sections = [...texts].map(([title, entries]) => `## ${title}\n\n${entries.join('\n')}`);
  return [INTRODUCTION, ...sections].join('\n');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { CATALOGUE } = await import('../dist/fsck/catalogue.js');
  mkdirSync(join(root, 'docs'), { recursive: true });
  writeFileSync(join(root, 'docs', 'findings.md'), findingsDoc(CATALOGUE));
}
