/** The completion as it is installed (`completions/`), in the shells themselves. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { describeWithClient } from '../support/clients.js';

const COMPLETIONS = new URL('../../completions', import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), 'pcache-completion-test-'));
const env = { ...process.env, HOME: folder, LC_ALL: 'C.UTF-8', TERM: 'dumb' };

beforeAll(() => {
  if (!existsSync(COMPLETIONS)) throw new Error('there is no completion; run: npm run setup');
  mkdirSync(join(folder, 'images'));
  for (const name of ['cache one.img', 'cache-two.img', 'images/a.img']) writeFileSync(join(folder, name), '');
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const sorted = (text: string): string[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .sort();

type Complete = (...words: string[]) => string[];

/** What every shell must answer. `=` is a word of its own in bash. */
function itCompletes(complete: Complete): void {
  test('offers the commands', () => {
    expect(complete('')).toEqual(expect.arrayContaining(['attach', 'dump-keys', 'fsck', 'trace']));
    expect(complete('fs')).toEqual(['fsck']);
    expect(complete('trace', '')).toEqual(['convert', 'info']);
    expect(complete('trace', 'c')).toEqual(['convert']);
    expect(complete('bench', 're')).toEqual(['recovery']);
  });

  test('offers the flags of the command', () => {
    expect(complete('fsck', '--pre')).toEqual(['--preen']);
    expect(complete('fsck', '--no-')).toEqual(['--no-data']);
    expect(complete('bench', 'scale', '--ax')).toEqual(['--axis']);
    expect(complete('info', '--preen')).toEqual([]);
  });

  test('offers the values of a flag', () => {
    expect(complete('format', '--mode', 'write')).toEqual(['writearound', 'writeback', 'writeonly', 'writethrough']);
    expect(complete('bench', 'scale', '--axis', '')).toEqual(['backing', 'cache', 'keys']);
    expect(complete('dump-keys', 'x.img', '--format', '')).toEqual(['csv', 'ndjson', 'table']);
    expect(complete('trace', 'convert', '--to', 'vscsi')).toEqual(['vscsi1', 'vscsi2']);
    expect(complete('tune', 'pc', 'gc')).toEqual(['gc_percent=']);
  });

  test('offers files where a device or a file is to follow', () => {
    expect(complete('info', 'cache-')).toEqual(['cache-two.img']);
    expect(complete('fsck', '--undo', 'cache-')).toEqual(['cache-two.img']);
    expect(complete('info', 'images/')).toEqual(['images/a.img']);
  });
}

function blockDevices(): string[] {
  return readdirSync('/dev')
    .filter((name) => /^([hsv]d[a-z]|nvme\d+n|md)/.test(name))
    .map((name) => join('/dev', name))
    .filter((path) => statSync(path).isBlockDevice());
}

function itOffersDevices(complete: Complete): void {
  const devices = blockDevices();
  test.skipIf(devices.length === 0)('offers the block devices of the machine for BACKING', () => {
    expect(complete('attach', 'cache-two.img', '')).toEqual(expect.arrayContaining(devices));
    expect(complete('attach', 'cache-two.img', '')).not.toContain('/dev/null');
  });
}

describeWithClient('bash', 'bash', (bash) => {
  const script = `source ${COMPLETIONS}/pcache.bash
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); _pcache
(( \${#COMPREPLY[@]} > 0 )) && printf '%s\\n' "\${COMPREPLY[@]}" || true`;
  const complete = (...words: string[]): string[] =>
    sorted(execFileSync(bash, ['--norc', '-c', script, 'bash', 'pcache', ...words], { cwd: folder, env }).toString());
  itCompletes(complete);
  itOffersDevices(complete);

  test('takes a value behind "=", which bash makes a word of its own', () => {
    expect(complete('format', '--mode', '=', 'writeo')).toEqual(['writeonly']);
    expect(complete('format', '--mode', '=')).toHaveLength(4);
  });

  test('keeps names with spaces together', () => {
    expect(complete('info', 'cache')).toEqual(['cache one.img', 'cache-two.img']);
  });
});

describeWithClient('fish', 'fish', (fish) => {
  const complete = (...words: string[]): string[] => {
    const script = `source ${COMPLETIONS}/pcache.fish; complete -C ${JSON.stringify(`pcache ${words.join(' ')}`)}`;
    const found = execFileSync(fish, ['--no-config', '-c', script], { cwd: folder, env }).toString();
    return sorted(found.replaceAll(/\t.*$/gm, ''));
  };
  itCompletes(complete);
  itOffersDevices(complete);
});

/** Types into an interactive shell in a terminal of its own, and returns what it shows. */
function typed(shell: string, lines: readonly string[]): string {
  const input = [...lines, 'exit', ''].join('\n');
  return execFileSync('script', ['-qec', shell, '/dev/null'], { cwd: folder, env, input, timeout: 20_000 }).toString();
}

const SHOW_WORDS = 'pcache() { printf "<%s>" "$@"; echo; }';
const KEYS = 'pcache form\t--mode writet\tcache-t\t';
const WORDS = '<format><--mode><writethrough><cache-two.img>';

describeWithClient('an interactive bash', 'script', () => {
  test('completes a command, a value and a file at the tab key', () => {
    const lines = [`source ${COMPLETIONS}/pcache.bash`, SHOW_WORDS, KEYS];
    expect(typed('bash --norc --noprofile -i', lines)).toContain(WORDS);
  });
});

describeWithClient('an interactive zsh', 'zsh', (zsh) => {
  const prepared = [`fpath=(${COMPLETIONS} $fpath)`, 'autoload -Uz compinit; compinit -u -D', SHOW_WORDS];
  test('completes a command, a value and a file at the tab key', () => {
    expect(typed(`${zsh} -f -i`, [...prepared, KEYS])).toContain(WORDS);
  });

  test('completes the commands of a topic and their flags', () => {
    const keys = 'pcache tr\tconv\t--max-m\t3 cache-t\t';
    expect(typed(`${zsh} -f -i`, [...prepared, keys])).toContain('<trace><convert><--max-malformed=3><cache-two.img>');
  });
});

describe('the completion', () => {
  test('is there for bash, zsh and fish', () => {
    expect(readdirSync(COMPLETIONS).sort()).toEqual(['_pcache', 'pcache.bash', 'pcache.fish']);
  });
});
