/** The scripts that npm runs at an installation, and what they do where it cannot succeed. */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';

const ROOT = new URL('../..', import.meta.url).pathname;

let folder: string;
/** A checkout with its scripts and native sources. */
let checkout: string;
/** A folder of programs that holds no compiler. */
let bare: string;
let helper: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'pcache-install-'));
  bare = join(folder, 'bare');
  mkdirSync(bare);
  writeFileSync(join(bare, 'broken'), '#!/bin/sh\necho "fatal error: no room" >&2\nexit 1\n', { mode: 0o755 });
});
beforeEach(() => {
  checkout = mkdtempSync(join(folder, 'checkout-'));
  for (const name of ['scripts', 'native/src', 'package.json'])
    cpSync(join(ROOT, name), join(checkout, name), { recursive: true });
  mkdirSync(join(checkout, 'src', 'commands'), { recursive: true });
  helper = join(checkout, 'native/build/Release/pcache_native.node');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function run(script: string, env: NodeJS.ProcessEnv = {}, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(checkout, 'scripts', script), ...args], {
    env: { PATH: `${bare}:/usr/bin:/bin`, ...env },
    cwd: checkout,
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}
const usePackages = () => symlinkSync(join(ROOT, 'node_modules'), join(checkout, 'node_modules'));

describe('compiling the native helper', () => {
  it('keeps the helper that works when the compiler fails, and says where its words are', () => {
    usePackages();
    mkdirSync(join(helper, '..'), { recursive: true });
    writeFileSync(helper, 'the one that works');
    expect(run('build-native.mjs', { CXX: join(bare, 'broken') }, '--force')).toEqual({
      status: 1,
      stdout: '',
      stderr:
        'pcache: the native helper was not built: broken ended with 1; see native/build/build.log, then run: npm run build:native\n',
    });
    expect(readFileSync(helper, 'utf8')).toBe('the one that works');
    expect(readFileSync(join(checkout, 'native/build/build.log'), 'utf8')).toContain('fatal error: no room');
  });

  it('names the package to install where there is no compiler', () => {
    usePackages();
    expect(run('build-native.mjs', { PATH: bare })).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('a C++ compiler was not found; install one (Debian: apt install g++)') as string,
    });
  });
});

describe('an installation', () => {
  it('goes on without a helper that cannot be compiled, and says so in one line', () => {
    usePackages();
    const { status, stderr } = run('install.mjs', { PATH: bare });
    expect(status).toBe(0);
    expect(stderr).toMatch(
      /^pcache: there is no native helper: .*commands that only read work, and others refuse\.\n$/,
    );
  });

  it('compiles nothing where a prebuilt helper fits', () => {
    const addon = join(ROOT, 'native/build/Release/pcache_native.node');
    rmSync(join(checkout, 'src'), { recursive: true });
    cpSync(addon, join(checkout, 'prebuilds', `${process.platform}-${process.arch}.node`));
    expect(run('install.mjs', { PATH: bare })).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(existsSync(helper)).toBe(false);
  });

  it('compiles where the prebuilt helper does not fit', () => {
    rmSync(join(checkout, 'src'), { recursive: true });
    mkdirSync(join(checkout, 'prebuilds'));
    writeFileSync(join(checkout, 'prebuilds', `${process.platform}-${process.arch}.node`), 'of another system');
    const { stderr } = run('install.mjs', { CXX: join(bare, 'broken') });
    expect(stderr).toContain('there is no native helper');
  });

  it('without development packages fails with what to run, also for a git URL', () => {
    expect(run('prepare.mjs')).toEqual({
      status: 1,
      stdout: '',
      stderr: 'setup: pcache cannot be compiled without its development packages; run npm ci without --omit=dev\n',
    });
    expect(run('prepare.mjs', { npm_config_global: 'true' })).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('npm pack URL') as string,
    });
  });
});

it('a checkout that is not compiled says so in one line', () => {
  cpSync(join(ROOT, 'bin'), join(checkout, 'bin'), { recursive: true });
  const { status, stderr } = spawnSync(process.execPath, [join(checkout, 'bin/run.js'), 'info', 'x'], {
    encoding: 'utf8',
  });
  expect([status, stderr]).toEqual([8, 'pcache: this checkout is not compiled; run: npm run setup\n']);
});
