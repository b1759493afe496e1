/** docs/api.md is what TypeDoc makes of the docstrings. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { itLong } from '../support/long.js';

itLong('docs/api.md is up to date; if not: npm run docs', { timeout: 300_000 }, () => {
  const script = fileURLToPath(new URL('../../scripts/api-doc.mjs', import.meta.url));
  const { status, stderr } = spawnSync(process.execPath, [script, '--check'], { encoding: 'utf8' });
  expect(stderr).toBe('');
  expect(status).toBe(0);
});
