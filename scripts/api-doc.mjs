/**
 * Writes docs/api.md, the reference of the library, from the docstrings of src/index.ts and what it exports: npm run docs.
 * `node scripts/api-doc.mjs --check` compares instead, and exits 1 when the file is not up to date.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { root } from './setup.mjs';

const DOCUMENT = join(root, 'docs', 'api.md');
const INTRODUCTION = `# The library

<!-- Made from the docstrings of src/index.ts by "npm run docs". Change it there. -->

    import { openCache, checkCache } from 'pcache';

Complete programs are in [examples/](../examples/README.md). Every error is a \`PcacheError\` with a stable \`code\` and a
message of one line. What is not listed here is internal and may change.
`;

function apiDoc() {
  const folder = mkdtempSync(join(tmpdir(), 'pcache-api-doc-'));
  try {
    const typedoc = join(dirname(createRequire(import.meta.url).resolve('typedoc/package.json')), 'bin', 'typedoc');
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [typedoc, '--out', folder, '--logLevel', 'Warn', '--treatWarningsAsErrors'],
      { cwd: root, encoding: 'utf8', env: { ...process.env, NO_COLOR: '1' } },
    );
    if (status !== 0) throw new Error(`typedoc failed:\n${stdout}${stderr}`);
    return `${INTRODUCTION}\n${readFileSync(join(folder, 'api.md'), 'utf8').replace(/^# .*\n+/, '')}`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const text = apiDoc();
if (process.argv[2] !== '--check') writeFileSync(DOCUMENT, text);
else if (readFileSync(DOCUMENT, 'utf8') !== text) {
  process.stderr.write('docs/api.md is not up to date; run: npm run docs\n');
  process.exitCode = 1;
}
