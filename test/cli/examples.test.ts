/** The examples, compiled and run against the packed package, which is installed in a folder of its own. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeLong } from '../support/long.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TRACE = join(ROOT, 'fixtures/traces/pgbench.blktrace');
const MIB = 2 ** 20;

describeLong('the examples, with the packed package installed elsewhere', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pcache-examples-'));
  const at = (...names: string[]): string => join(folder, ...names);
  const call = (file: string, args: string[], cwd = folder): string =>
    execFileSync(file, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  const example = (name: string, ...args: string[]): string => call('node', [at('examples', 'build', name), ...args]);
  const [cache, backing] = [at('cache.img'), at('disk.img')];

  beforeAll(() => {
    const tarball = JSON.parse(
      call('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], ROOT),
    ) as [{ filename: string }];
    writeFileSync(at('package.json'), JSON.stringify({ name: 'elsewhere', private: true, type: 'module' }));
    const packages = [at(tarball[0].filename), '@types/node@20', 'typescript@5.9'];
    call('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', ...packages]);
    cpSync(join(ROOT, 'examples'), at('examples'), {
      recursive: true,
      filter: (path) => !path.endsWith('build'),
    });
    call('npx', ['tsc', '-p', 'examples']);
    writeFileSync(backing, '');
    truncateSync(backing, 8 * MIB);
  }, 600_000);

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('request-mix runs requests and closes a clean cache', { timeout: 120_000 }, () => {
    const printed = example('request-mix.js', cache, backing);
    expect(printed).toMatch(/^3200 requests, 0 failed, \d+ bytes read from the backing device\n/);
    expect(printed).toContain('closed with 0 dirty bytes');
  });

  it('check-cache finds the cache clean, with all keys counted', { timeout: 120_000 }, () => {
    expect(example('check-cache.js', cache, backing)).toMatch(/\d+ ksets with [1-9]\d* keys: clean\n$/);
  });

  it('read-logical-device prints the sum of the drained backing device', { timeout: 120_000 }, () => {
    const [sum] = call('sha256sum', [backing]).split(' ');
    expect(example('read-logical-device.js', cache, backing)).toBe(`${sum}  ${8 * MIB} bytes\n`);
  });

  it('replay-report writes an HTML page', { timeout: 120_000 }, () => {
    expect(example('replay-report.js', TRACE, at('report.html'))).toContain('Requests: ');
    expect(readFileSync(at('report.html'), 'utf8')).toMatch(/^<!doctype html>/i);
  });
});
