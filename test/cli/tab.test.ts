/** `pcache tab`: the list of caches that are attached at boot, from a shell. */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { NbdClient } from '../nbd/client.js';
import { runCli } from '../support/cli.js';
import { schemaErrors } from '../support/documents.js';

vi.setConfig({ testTimeout: 60_000 });

let folder: string;
let tab: string;
let line: string;
const path = (name: string) => join(folder, name);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pcache-tab-'));
  tab = path('tab');
  writeFileSync(path('disk img'), '');
  truncateSync(path('disk img'), 2 ** 24);
  await runCli(['format', path('cache.img'), '--size', '512MiB']);
  line = `db ${path('cache.img')} ${path('disk\\040img')} socket=${path('s')}`;
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('tab check', () => {
  it('lists the caches, and ends with 0 when nothing is wrong', async () => {
    writeFileSync(tab, `# comment\n${line},nofail\n`);
    expect(await runCli(['tab', 'check', tab])).toEqual({
      status: 0,
      signal: null,
      stderr: '',
      stdout: expect.stringMatching(
        /^NAME +BY +AT +START\ndb +socket +\S+\/s +at boot, which goes on without it\n\S+: 1 cache, 0 errors, 0 warnings\n$/,
      ) as string,
    });
  });

  it('names file, line, cache and remedy of what is wrong, and ends with 4', async () => {
    writeFileSync(tab, `${line},gc-percent=95\n\nweb /missing ${path('disk\\040img')} ublk,speed\n`);
    const { status, stdout, stderr } = await runCli(['tab', 'check', tab]);
    expect([status, stderr]).toEqual([4, '']);
    expect(stdout).toContain(`${tab}:1: db: `);
    expect(stdout).toMatch(/95 is too large; the maximum is 90/);
    expect(stdout).toContain(`${tab}:3: web: 'speed' is not an option; see pcache-tab(5)`);
    expect(stdout).toMatch(/: 1 cache, 2 errors, 0 warnings\n$/);
  });

  it('prints one valid document with --json', async () => {
    writeFileSync(tab, `${line}\nweb /dev/sdzz ${path('cache.img')} ublk\n`);
    const { status, stdout } = await runCli(['tab', 'check', tab, '--json']);
    expect(status).toBe(4);
    expect(schemaErrors('tab check', stdout)).toEqual([]);
    const { entries, problems } = JSON.parse(stdout) as {
      entries: { name: string; device: string | null }[];
      problems: { severity: string; line: number }[];
    };
    expect(entries.map(({ name, device }) => [name, device])).toEqual([
      ['db', null],
      ['web', '/dev/pcache/web'],
    ]);
    expect(problems[0]).toMatchObject({ severity: 'warning', line: 2, name: 'web' });
  });

  it('ends with 8 when the file is missing', async () => {
    const { status, stderr } = await runCli(['tab', 'check', path('none')]);
    expect([status, stderr]).toEqual([8, `pcache: ${path('none')}: no such file; check the path\n`]);
  });
});

describe('tab attach and tab detach', () => {
  it('serve a cache as its line says, and end it', async () => {
    writeFileSync(tab, `${line},drain\n`);
    let detached: Promise<unknown> | undefined;
    const attached = await runCli(['tab', 'attach', 'db', '--tab', tab], {
      onStderr: (_, text) => {
        if (!text.includes('serving') || detached !== undefined) return;
        detached = (async () => {
          const client = await NbdClient.connect(path('s'));
          await client.write(0, Buffer.alloc(8192, 7));
          client.close();
          return runCli(['tab', 'detach', 'db', '--tab', tab]);
        })();
      },
    });
    expect(attached).toMatchObject({ status: 0, stdout: expect.stringContaining('dirty:     nothing') as string });
    expect(await detached).toMatchObject({ status: 0, stderr: '' });
  });

  it('print the document of the command that they run, with its exit status', async () => {
    writeFileSync(tab, `${line}2,data-crc\n`);
    const { status, stdout } = await runCli(['tab', 'attach', 'db', '--tab', tab, '--json']);
    expect(status).toBe(16);
    expect(schemaErrors('error', stdout)).toEqual([]);
    expect(stdout).toContain('data_crc off');
  });

  it('name the line of a cache that is wrong, and the caches that there are', async () => {
    writeFileSync(tab, `${line}\nweb relative /b nbd\n`);
    const help = "Try 'pcache tab attach --help'.\n";
    const failed = async (name: string) => {
      const { status, stderr } = await runCli(['tab', 'attach', name, '--tab', tab]);
      expect(status).toBe(16);
      return stderr;
    };
    expect(await failed('web')).toBe(
      `pcache: ${tab}:2: web: 'relative' is not an absolute path; begin it with /\n${help}`,
    );
    expect(await failed('wob')).toBe(`pcache: ${tab}: has no cache wob; it lists db\n${help}`);
  });
});
