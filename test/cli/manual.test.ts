/** The man pages as they are installed (`man/`). */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { runCli } from '../support/cli.js';
import { describeWithClient } from '../support/clients.js';

const root = new URL('../..', import.meta.url).pathname;
const MAN = join(root, 'man');
const page = (file: string): string => readFileSync(join(MAN, file), 'utf8');
const pages = existsSync(MAN) ? readdirSync(MAN).sort() : [];
/** Names of flags and commands as roff escapes them. */
const escaped = (text: string): string => text.replaceAll('-', '\\-');

beforeAll(() => {
  if (pages.length === 0) throw new Error('there are no man pages; run: npm run setup');
});

describe('the man pages', () => {
  test('are those that package.json lists, one for each command and four more', async () => {
    const { man } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { man: string[] };
    expect(man).toEqual(pages.map((file) => `./man/${file}`));
    const { stdout } = await runCli(['--help']);
    const commands = [...stdout.matchAll(/^ {2}((?:bench |tab |trace )?[a-z][a-z-]*) {2,}[A-Z]/gm)].map(
      ([, name]) => name,
    );
    expect(commands).toContain('trace convert');
    const expected = commands.map((name) => `pcache-${name.replace(' ', '-')}.1`);
    expect(pages).toEqual([...expected, 'pcache.1', 'pcache-format.5', 'pcache-findings.7', 'pcache-tab.5'].sort());
  });

  test('describe every flag that the help of the command shows', async () => {
    const { stdout } = await runCli(['fsck', '--help']);
    const flags = [...stdout.matchAll(/--(?:\[no-\])?[a-z-]+(?==|  )/g)].map(([flag]) => flag);
    expect(flags.length).toBeGreaterThan(10);
    for (const flag of flags) expect(page('pcache-fsck.1')).toContain(escaped(flag));
  });

  test('list the commands by task, the exit statuses and the limits in pcache(1)', () => {
    const text = page('pcache.1');
    for (const part of ['.SS "Check, repair and rescue"', '\\fBpcache\\-fsck\\fR(1)', '.SH "LIMITS"', '130, 143']) {
      expect(text).toContain(part);
    }
  });

  test('have every finding of docs/findings.md and every section of docs/format.md', () => {
    const headings = (name: string) =>
      [...readFileSync(join(root, 'docs', name), 'utf8').matchAll(/^### (.*)$/gm)].map(([, text]) => text);
    for (const code of headings('findings.md')) expect(page('pcache-findings.7')).toContain(`.SS "${escaped(code)}"`);
    const sections = page('pcache-format.5').match(/^\.SS /gm) ?? [];
    expect(sections).toHaveLength(headings('format.md').length);
  });
});

describeWithClient('man', 'man', (man) => {
  test('formats every page without a warning', () => {
    const env = { ...process.env, LC_ALL: 'C.UTF-8', MANROFFSEQ: '', MANWIDTH: '120' };
    for (const file of pages) {
      const args = ['--warnings', '-E', 'UTF-8', '-l', '-Tutf8', '-Z', join(MAN, file)];
      const { status, stderr } = spawnSync(man, args, { env, encoding: 'utf8', maxBuffer: 2 ** 26 });
      expect({ file, status, stderr }).toEqual({ file, status: 0, stderr: '' });
    }
  });

  test('shows a page as it is meant to look', () => {
    const env = { ...process.env, LC_ALL: 'C.UTF-8', MANWIDTH: '80', MANPAGER: 'cat', MAN_KEEP_FORMATTING: '' };
    const text = execFileSync(man, ['-l', join(MAN, 'pcache-info.1')], { env, encoding: 'utf8' });
    expect(text).toMatch(/^NAME\n +pcache-info - show the geometry, metadata and contents of a cache$/m);
    expect(text).toMatch(/^SYNOPSIS\n +pcache info CACHE \[BACKING\] \[FLAGS\]$/m);
    expect(text).toMatch(/^ +-q, --quiet$/m);
  });
});
