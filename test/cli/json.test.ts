/** The documents that commands print with `--json` are those of docs/json-schema.json and docs/json.md. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PCACHE, runCli } from '../support/cli.js';
import { schemaErrors, schemaFile } from '../support/documents.js';
import { unpackImage } from '../support/images.js';

const TRACE = 'fixtures/traces/pgbench.blktrace';
let folder: string;
let image: { cachePath: string; backingPath: string };

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pcache-json-'));
  image = await unpackImage('dirty-crc');
}, 60_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function document(name: string, args: readonly string[]): Promise<string> {
  const { stdout, stderr } = await runCli([...args, '--json']);
  expect(stdout, stderr).not.toBe('');
  expect(schemaErrors(name, stdout), name).toEqual([]);
  return stdout;
}

describe('the document of a command is valid', { timeout: 120_000 }, () => {
  it('format, info, map, fsck, writeback, grow, move and wipe', async () => {
    const { cachePath, backingPath } = image;
    await document('format', ['format', join(folder, 'new'), '--size', '1GiB', '--dry-run']);
    await document('info', ['info', cachePath, backingPath]);
    await document('map', ['map', cachePath, backingPath, '1M-1200k']);
    await document('fsck', ['fsck', cachePath, backingPath]);
    await document('writeback', ['writeback', cachePath, backingPath, '--dry-run', '--list-failed']);
    await document('grow', ['grow', cachePath, '--size', '1GiB', '--dry-run']);
    await document('move', ['move', cachePath, `${cachePath}.new`, '--size', '1GiB', '--dry-run']);
    await document('wipe', ['wipe', cachePath, '--force', '--dry-run']);
  });

  it('pack and unpack', async () => {
    const pack = join(folder, 'one.pack');
    await document('pack', ['pack', image.cachePath, pack]);
    await document('unpack', ['unpack', pack, join(folder, 'one.img')]);
  });

  it('trace info, trace convert, replay, replay --sizes and replay --diff', async () => {
    await document('trace info', ['trace', 'info', TRACE]);
    await document('trace convert', ['trace', 'convert', TRACE, join(folder, 'one.csv'), '--to', 'csv']);
    const simulate = ['replay', TRACE, '--limit', '2000', '--simulate'];
    const result = join(folder, 'result.json');
    writeFileSync(result, await document('replay', [...simulate, '--model', 'hdd']));
    await document('replay --curve', ['replay', TRACE, '--limit', '2000', '--sizes', '512MiB,1GiB']);
    await document('replay --diff', ['replay', result, result, '--diff']);
  });

  it('attach, status, tune and drain', async () => {
    const [cache, back] = [join(folder, 'cache'), join(folder, 'back')];
    await runCli(['format', cache, '--size', '512MiB']);
    execFileSync('truncate', ['-s', '16M', back]);
    const call = (command: string, more = '') =>
      `'${process.execPath}' '${PCACHE}' ${command} --socket "$PCACHE_SOCKET" ${more} --json > '${folder}/${command}.json'`;
    const commands = [call('status'), call('tune', 'gc_percent=50'), call('drain')].join(' && ');
    await document('attach', ['attach', cache, back, '--exec', commands]);
    for (const name of ['status', 'tune', 'drain']) {
      expect(schemaErrors(name, readFileSync(join(folder, `${name}.json`), 'utf8')), name).toEqual([]);
    }
  });

  it('bench crc, bench recovery and bench writeback --model', async () => {
    await document('bench crc', ['bench', 'crc']);
    await document('bench recovery', [
      'bench',
      'recovery',
      '--keys',
      '1000',
      '--cache-size',
      '512MiB',
      '--rounds',
      '1',
    ]);
    await document('bench writeback --model', ['bench', 'writeback', '--model', 'hdd', '--keys', '1000']);
  });

  it('of an error', async () => {
    await document('error', ['info', join(folder, 'missing')]);
    await document('error', ['info']);
    await document('error', ['cat', image.cachePath]);
  });
});

it('a document with another member is not valid', () => {
  expect(schemaErrors('detach', '{"schemaVersion": 1, "detached": true}')).toEqual([]);
  expect(schemaErrors('detach', '{"schemaVersion": 1, "detached": true, "more": 1}')).not.toEqual([]);
  expect(schemaErrors('detach', '{"detached": true}')).not.toEqual([]);
});

it('docs/json-schema.json is up to date', { timeout: 120_000 }, () => {
  execFileSync(process.execPath, ['scripts/json-schema.mjs', '--check'], { stdio: 'pipe' });
});

it('docs/json.md explains every code of an error', () => {
  const text = readFileSync('docs/json.md', 'utf8');
  const codes = JSON.stringify(schemaFile.documents['error']).match(/"enum":(\[[^\]]*\])/)![1];
  for (const code of JSON.parse(codes) as string[]) expect(text).toContain(`| \`${code}\``);
});
