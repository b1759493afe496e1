/** What holds for every command: streams, exit statuses, JSON, signals. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PCACHE, runCli, SAMPLE_CLI, type CliResult } from '../support/cli.js';

const sample = (args: string[], env: NodeJS.ProcessEnv = {}): Promise<CliResult> =>
  runCli(args, { entry: SAMPLE_CLI, env });

describe('how a command ends', () => {
  it('well: the result on stdout, everything else on stderr', async () => {
    expect(await sample(['end', 'well'])).toEqual({
      status: 0,
      signal: null,
      stdout: 'a result\n',
      stderr: 'pcache: not a result\n',
    });
  });

  it('well, as JSON: one document on stdout', async () => {
    const { status, stdout, stderr } = await sample(['end', 'well', '--json']);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ schemaVersion: 1, result: [1, 2] });
    expect(stderr).toBe('pcache: not a result\n');
  });

  it('with problems found: its own status, in either form', async () => {
    expect(await sample(['end', 'found'])).toMatchObject({ status: 4, stdout: '4 problems\n' });
    const json = await sample(['end', 'found', '--json']);
    expect(json.status).toBe(4);
    expect(JSON.parse(json.stdout)).toEqual({ schemaVersion: 1, problems: 4 });
  });

  it('on the environment: one line and status 8', async () => {
    expect(await sample(['end', 'environment'])).toEqual({
      status: 8,
      signal: null,
      stdout: '',
      stderr: 'pcache: /dev/x: in use by y; stop that\n',
    });
  });

  it('on the environment, as JSON: the error on stdout and the same status', async () => {
    const { status, stdout } = await sample(['end', 'environment', '--json']);
    expect(status).toBe(8);
    expect(JSON.parse(stdout)).toEqual({
      schemaVersion: 1,
      error: { code: 'BUSY', message: '/dev/x: in use by y; stop that' },
    });
  });

  it.each(['bug', 'later'])('on a bug (%s): the stack, a request to report it, and status 8', async (how) => {
    const { status, stdout, stderr } = await sample(['end', how]);
    expect({ status, stdout }).toEqual({ status: 8, stdout: '' });
    expect(stderr).toContain('end.js:');
    expect(stderr).toContain('This is a bug in pcache; please report it');
  });

  it('on a bug, as JSON: the error on stdout, the stack on stderr', async () => {
    const { status, stdout, stderr } = await sample(['end', 'bug', '--json']);
    expect(status).toBe(8);
    expect(JSON.parse(stdout)).toEqual({
      schemaVersion: 1,
      error: { code: 'BUG', message: 'internal error: this never holds' },
    });
    expect(stderr).toContain('end.js:');
  });

  it('is not held up by a timer that it left behind', async () => {
    expect((await sample(['end', 'hanging'])).status).toBe(0);
  });

  it('PCACHE_NATIVE reaches the command', async () => {
    const parsed = async (env: NodeJS.ProcessEnv): Promise<unknown> =>
      JSON.parse((await sample(['end', 'hanging', '--json'], env)).stdout);
    expect(await parsed({ PCACHE_NATIVE: 'off' })).toEqual({ schemaVersion: 1, native: false });
    expect(await parsed({ PCACHE_NATIVE: '' })).toEqual({ schemaVersion: 1, native: true });
    expect((await sample(['end', 'well'], { PCACHE_NATIVE: 'of' })).status).toBe(16);
  });
});

describe('bad usage is status 16, one line and a hint', () => {
  it.each([
    [['nonsense'], "'nonsense' is not a command", "Try 'pcache --help'."],
    [['wiat'], "'wiat' is not a command; did you mean 'wait'?", "Try 'pcache --help'."],
    [['--nonsense'], '--nonsense precedes the command; give the command first', "Try 'pcache --help'."],
    [['end', 'well', '--nonsense'], 'unknown flag --nonsense', "Try 'pcache end --help'."],
    [['end'], 'missing argument HOW', "Try 'pcache end --help'."],
    [['end', 'well', 'more'], 'unexpected argument more', "Try 'pcache end --help'."],
    [['rows', '--count', 'x'], "--count: 'x' is not a whole number", "Try 'pcache rows --help'."],
    [['rows', '--count'], '--count needs a value', "Try 'pcache rows --help'."],
  ])('%j', async (args, line, hint) => {
    expect(await sample(args)).toEqual({ status: 16, signal: null, stdout: '', stderr: `pcache: ${line}\n${hint}\n` });
  });

  it('an argument that is not UTF-8', () => {
    const script = '"$1" "$0" info "$(printf "\\377.img")"';
    const { status, stderr } = spawnSync('sh', ['-c', script, PCACHE, process.execPath], { encoding: 'utf8' });
    expect(status).toBe(16);
    expect(stderr).toMatch(
      /^pcache: argument '.*\.img' is not UTF-8; give the file a name, or a link to it, in UTF-8\n/,
    );
  });

  it('as JSON too', async () => {
    const { status, stdout } = await sample(['end', '--json']);
    expect(status).toBe(16);
    expect(JSON.parse(stdout)).toEqual({
      schemaVersion: 1,
      error: { code: 'USAGE', message: 'missing argument HOW' },
    });
  });
});

describe('standard input', () => {
  /** @returns what `cat` reads after `command` from the same pipe */
  const rest = (command: string): string =>
    execFileSync('sh', ['-c', `${command} > /dev/null 2>&1; cat`, PCACHE, process.execPath], {
      input: 'one\ntwo\n',
      encoding: 'utf8',
    });

  it.each(['info /dev/null', 'map /dev/null', 'attach /dev/null'])('is left to others by "%s"', (line) => {
    expect(rest(`"$1" "$0" ${line}`)).toBe('one\ntwo\n');
  });

  it('does not stand for a missing argument', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'pcache-contract-'));
    const words = join(folder, 'words');
    writeFileSync(words, 'well\n');
    const { status, stderr } = await runCli(['end'], { entry: SAMPLE_CLI, stdinFrom: words });
    rmSync(folder, { recursive: true });
    expect(status).toBe(16);
    expect(stderr).toContain('missing argument HOW');
  });
});

describe('help', () => {
  it.each([[[]], [['--help']], [['help']]])('%j lists the commands', async (args) => {
    const { status, stdout } = await sample(args);
    expect(status).toBe(0);
    expect(stdout).toMatch(/Other commands\n +end/);
  });
  it.each([[['rows', '--help']], [['help', 'rows']]])('%j explains the command', async (args) => {
    const { status, stdout } = await sample(args);
    expect(status).toBe(0);
    expect(stdout).toContain('--count');
  });
});

describe('a reader that leaves early', () => {
  it('ends the command quietly, through its clean-up', async () => {
    const result = await runCli(['rows'], { entry: SAMPLE_CLI, readOnlyBytes: 1000 });
    expect(result).toMatchObject({ status: 0, signal: null, stderr: 'pcache: cleaned up early\n' });
  });

  it('is not taken for a full disk', async () => {
    const result = await runCli(['end', 'well'], { entry: SAMPLE_CLI, stdoutTo: '/dev/full' });
    expect(result.status).toBe(8);
    expect(result.stderr).toMatch(
      /^pcache: not a result\npcache: standard output: ENOSPC.*the result is incomplete\n$/,
    );
  });

  it('is one line on a full disk in the middle of many rows, too', async () => {
    const result = await runCli(['rows', '--count', '200000'], { entry: SAMPLE_CLI, stdoutTo: '/dev/full' });
    expect(result.status).toBe(8);
    expect(result.stderr).toMatch(
      /^pcache: cleaned up early\npcache: standard output: ENOSPC[^\n]*the result is incomplete\n$/,
    );
  });

  it('a reader that stays gets every row', async () => {
    const { stdout, stderr } = await runCli(['rows', '--count', '200000'], { entry: SAMPLE_CLI });
    expect(stderr).toBe('pcache: done\n');
    const lines = stdout.trimEnd().split('\n');
    expect([lines.length, lines[0], lines[200000]]).toEqual([200001, 'n', '199999']);
  });
});

/** Sends a signal each time another of `marks` shows on standard error. */
function signalling(args: string[], marks: string[], signals: NodeJS.Signals[]): Promise<CliResult> {
  let sent = 0;
  return runCli(args, {
    entry: SAMPLE_CLI,
    onStderr: (child, stderr) => {
      while (sent < marks.length && stderr.includes(marks[sent])) child.kill(signals[sent++]);
    },
  });
}

describe('signals', () => {
  it('SIGINT lets the command end by itself, with what it has, and status 130', async () => {
    const result = await signalling(['wait'], ['ready'], ['SIGINT']);
    expect(result).toMatchObject({ status: 130, signal: null, stdout: 'closed\n' });
  });

  it('and under --json its document is whole', async () => {
    const result = await signalling(['wait', '--json'], ['ready'], ['SIGINT']);
    expect(result.status).toBe(130);
    expect(JSON.parse(result.stdout)).toEqual({ schemaVersion: 1, interrupted: true });
  });

  it('SIGTERM is 143, also when the command throws', async () => {
    const result = await signalling(['wait', '--throw'], ['ready'], ['SIGTERM']);
    expect(result).toMatchObject({ status: 143, stdout: '' });
    expect(result.stderr).toContain('pcache: stopped half-way\n');
  });

  it('a command of steps ends between two of them, and what is unfinished is cleared away', async () => {
    expect(await signalling(['steps'], ['ready'], ['SIGINT'])).toMatchObject({
      status: 130,
      stdout: '',
      stderr: expect.stringMatching(/\npcache: cleared away\npcache: stopped between two steps\n$/) as string,
    });
    expect(await sample(['steps', '--count', '9'])).toMatchObject({
      status: 0,
      stdout: '9 steps\n',
      stderr: 'pcache: ready\npcache: cleared away\n',
    });
  });

  it('a second one kills a command that does not stop', async () => {
    const result = await signalling(['wait', '--stubborn'], ['ready', 'interrupt again'], ['SIGINT', 'SIGINT']);
    expect(result).toMatchObject({ status: null, signal: 'SIGINT' });
  });

  it('a command that did not ask for signals is killed by the first', async () => {
    expect(await signalling(['wait', '--deaf'], ['ready'], ['SIGINT'])).toMatchObject({
      status: null,
      signal: 'SIGINT',
    });
  });
});
