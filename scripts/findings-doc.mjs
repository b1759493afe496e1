/**
 * Writes docs/findings.md, the reference of what `pcache fsck` finds, from the catalogue and the consequences in the
 * sources: npm run docs. `findingsDoc` is the text; `test/unit/findings-doc.test.ts` holds the file against it.
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

<!-- Made from src/fsck/catalogue.ts and src/fsck/consequences.ts by "npm run docs". Change them there. -->

Each line that \`pcache fsck\` prints begins with one of these codes. An **error**: data is lost, or the kernel
refuses or misreads it. A **warning** is safe so far. A **note** is normal. A cache with notes only is clean.
\`pcache fsck --repair\` does what is said under "Repair", after it has asked or was told to, and writes an undo
file first. A metadata-only pack (\`pcache pack\`) is checked like the cache itself.
[What each kernel does](#what-each-kernel-does) with a finding is in the table at the end.
`;

const KERNELS_INTRODUCTION = `## What each kernel does

What a kernel does when it attaches a cache that has this finding alone. A column is for the kernels from its version up
to that of the next; \`pcache fsck --kernel VERSION\` chooses one.

- attaches: works as with a sound cache; the finding costs nothing as long as nothing else breaks
- refuses: does not attach the cache, and changes nothing
- misreads: attaches it, and reads or writes back old or foreign data
- cuts: attaches it, and ends the log too early, or never writes a part of it back
- empties: makes a new cache over it
- crashes: oopses, or reads beyond a segment
`;

function sentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/** `, and the kernel refuses the cache`, or which kernels do. */
function refusalText(code, { kernels, effectOf }) {
  const refusing = kernels.filter((kernel) => effectOf(code, kernel) === 'refuses');
  if (refusing.length === 0) return '';
  if (refusing.length === kernels.length) return ', and the kernel refuses the cache';
  return `, and Linux ${refusing.join(' and ')} refuses the cache`;
}

function kernelsTable(codes, { kernels, effectOf }) {
  const row = (cells) => `| ${cells.join(' | ')} |`;
  const rows = codes.map((code) => row([code, ...kernels.map((kernel) => effectOf(code, kernel))]));
  const head = [
    row(['finding', ...kernels.map((kernel) => `Linux ${kernel}`)]),
    row(['---', ...kernels.map(() => '---')]),
  ];
  return `${KERNELS_INTRODUCTION}\n${[...head, ...rows].join('\n')}\n`;
}

function entryText(code, { severity, meaning, kernel, repair, noRepair }, consequences) {
  const none = noRepair === undefined ? 'None.' : sentence(`none: ${noRepair}`);
  return `### ${code}

**${severity}**${refusalText(code, consequences)}

- Meaning: ${sentence(meaning)}
- Kernel: ${sentence(kernel)}
- Repair: ${repair === undefined ? none : sentence(repair)}
`;
}

/**
 * @param catalogue `CATALOGUE` of src/fsck/catalogue.ts
 * @param consequences `kernels`: `KERNELS` of src/fsck/consequences.ts; `effectOf`: its `kernelEffect`
 */
export function findingsDoc(catalogue, consequences) {
  const texts = new Map(SECTIONS.map(([title]) => [title, []]));
  for (const [code, entry] of Object.entries(catalogue)) {
    const section = SECTIONS.find(([, pattern]) => pattern.test(code));
    if (section === undefined) throw new Error(`${code} belongs in no section: add it to SECTIONS`);
    texts.get(section[0]).push(entryText(code, entry, consequences));
  }
  const sections = [...texts].map(([title, entries]) => `## ${title}\n\n${entries.join('\n')}`);
  return [INTRODUCTION, ...sections, kernelsTable(Object.keys(catalogue), consequences)].join('\n');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { CATALOGUE } = await import('../dist/fsck/catalogue.js');
  const { kernelEffect, KERNELS } = await import('../dist/fsck/consequences.js');
  mkdirSync(join(root, 'docs'), { recursive: true });
  writeFileSync(
    join(root, 'docs', 'findings.md'),
    findingsDoc(CATALOGUE, { kernels: KERNELS, effectOf: kernelEffect }),
  );
}
