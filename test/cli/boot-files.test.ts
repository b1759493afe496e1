/**
 * What systemd and udev run at boot (`share/`): the generator that turns /etc/pcache/tab into dependencies, the unit, and
 * the program that recognises a cache device.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readTab } from '../../src/tab/tab-file.js';
import { runCli } from '../support/cli.js';
import { describeWithClient } from '../support/clients.js';

const SHARE = new URL('../../share', import.meta.url).pathname;
const SYSTEM_UNITS = ['/usr/lib/systemd/system', '/lib/systemd/system'].find((path) => existsSync(path)) ?? '';

/** Lines that are taken, each with a name of its own. */
const TAKEN = [
  'db /dev/disk/by-id/pmem-db /dev/disk/by-id/wwn-0x5000c500a1b2c3d4 kernel,drain',
  '  web-1\t/dev/pmem0  /dev/disk/by-label/My\\134x20Disk ublk,drain,nofail',
  'img /srv/a\\040b/100%$x"y\\043.img /srv/gr\u00fcn/d\\134k nbd,nofail',
  'mixed /srv/c.img /dev/vg/lv nbd,socket=/run/s',
  'net /srv/c.img /dev/shm/d.img socket=/run/pcache-net/s',
  'hand /dev/dax0.0 /dev/s\\040p%i ublk,noauto',
  `${'n'.repeat(64)} /dev/x /dev/y ublk`,
];
/** Lines that are left out. */
const LEFT_OUT = [
  'db /dev/x /dev/y ublk',
  '../../etc/x /dev/x /dev/y ublk',
  'a/b /dev/x /dev/y ublk',
  'a\u00fc /dev/x /dev/y ublk',
  'a%i /dev/x /dev/y ublk',
  'a$b /dev/x /dev/y ublk',
  '-a /dev/x /dev/y ublk',
  '.a /dev/x /dev/y ublk',
  'control /dev/x /dev/y ublk',
  `${'n'.repeat(65)} /dev/x /dev/y ublk`,
  'c1 relative /dev/y ublk',
  'c2 /dev/x/../y /dev/y ublk',
  'c3 /dev/x /dev/./y ublk',
  'c4 /dev/x\\012Wants=evil.service /dev/y ublk',
  'c5 /dev/x\\ /dev/y ublk',
  'c6 /dev/x /dev/y',
  'c7 /dev/x /dev/y nofail',
  'c8 /dev/x /dev/y ublk,nbd',
  'c9 /dev/x /dev/y ublk more',
  'd1 /dev/x /dev/y ublk\r',
  'd2 /dev/x\u0007 /dev/y ublk',
  'd3',
];

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'pcache-boot-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Generated {
  /** Paths of all files and links, and the text of files. */
  readonly files: ReadonlyMap<string, string>;
  readonly stderr: string;
}

/** Runs the generator, by the shell of that name. */
function generate(text: string, into: string, shell = 'sh'): Generated {
  const tab = join(folder, 'tab');
  writeFileSync(tab, text);
  mkdirSync(into, { recursive: true });
  const { status, stderr } = spawnSync(shell, [join(SHARE, 'systemd/pcache-generator'), into], {
    env: { PATH: process.env.PATH, PCACHE_TAB: tab },
    encoding: 'utf8',
  });
  expect(status).toBe(0);
  const files = readdirSync(into, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry): [string, string] => {
      const path = join(entry.parentPath, entry.name);
      return [path.slice(into.length + 1), entry.isFile() ? readFileSync(path, 'utf8') : ''];
    });
  return { files: new Map(files), stderr };
}

describeWithClient('the generator for systemd', 'systemd-escape', () => {
  it('takes the lines that pcache takes, whatever is in them, and no others', () => {
    const text = `# comment\n\n${[...TAKEN, ...LEFT_OUT].join('\n')}`;
    const { files, stderr } = generate(text, join(folder, 'lines'));
    const units = [...files.keys()].map((path) => /^pcache@([^/]*)\.service\.d\//.exec(path)?.[1]).filter(Boolean);
    const { entries, problems } = readTab(text);
    expect(units.sort()).toEqual(entries.map(({ name }) => name).sort());
    expect(entries).toHaveLength(TAKEN.length);
    const told = [...stderr.matchAll(/:(\d+): /g)].map(([, line]) => Number(line));
    expect(told).toEqual([...new Set(problems.map(({ line }) => line))]);
    expect(told).toHaveLength(LEFT_OUT.length);
    for (const path of files.keys()) expect(path).toMatch(/^(?:[\x21-\x7e]+)$/);
    expect([...files.values()].join('')).not.toContain('evil');
  });

  it('makes units wait for devices by systemd\u2019s own escapes, and for the mounts that files are on', () => {
    const { files } = generate(TAKEN.join('\n'), join(folder, 'waits'));
    const unit = (name: string) => files.get(`pcache@${name}.service.d/50-tab.conf`)!;
    for (const key of ['BindsTo', 'After']) {
      expect(unit('db')).toContain(`${key}=dev-disk-by\\x2did-pmem\\x2ddb.device\n`);
      expect(unit('web-1')).toContain(`${key}=dev-disk-by\\x2dlabel-My\\x5cx20Disk.device\n`);
      expect(unit('hand')).toContain(`${key}=dev-s\\x20p\\x25i.device\n`);
    }
    expect(unit('img')).toContain(
      'RequiresMountsFor="/srv/a b/100%%$x\\"y#.img"\nRequiresMountsFor="/srv/gr\u00fcn/d\\\\k"\n',
    );
    expect(unit('net')).toContain('RequiresMountsFor="/dev/shm/d.img"');
  });

  it('orders caches before the filesystems unless they are nofail, noauto, or without a block device', () => {
    const { files } = generate(TAKEN.join('\n'), join(folder, 'order'));
    const before = (name: string) => files.get(`pcache@${name}.service.d/50-tab.conf`)!.match(/^Before=.*$/gm) ?? [];
    const always = (device: string) => ['Before=umount.target', `Before=blockdev@${device}.target`];
    const early = ['Before=local-fs-pre.target', 'Before=local-fs.target'];
    expect(before('db')).toEqual([...always('dev-mapper-db'), ...early]);
    expect(before('web-1')).toEqual(always('dev-pcache-web\\x2d1'));
    expect(before('hand')).toEqual(always('dev-pcache-hand'));
    expect(before('mixed')).toEqual([...always('dev-pcache-mixed'), 'Before=local-fs.target']);
    expect(before('net')).toEqual([]);
    const links = [...files.keys()].filter((path) => /(wants|requires)\//.test(path)).sort();
    expect(links.filter((path) => !path.includes('nnn'))).toEqual([
      'dev-mapper-db.device.requires/pcache@db.service',
      'dev-pcache-hand.device.requires/pcache@hand.service',
      'dev-pcache-img.device.requires/pcache@img.service',
      'dev-pcache-mixed.device.requires/pcache@mixed.service',
      'dev-pcache-web\\x2d1.device.requires/pcache@web-1.service',
      'local-fs.target.requires/pcache@db.service',
      'local-fs.target.requires/pcache@mixed.service',
      'local-fs.target.wants/pcache@img.service',
      'local-fs.target.wants/pcache@web-1.service',
      'multi-user.target.wants/pcache@net.service',
    ]);
  });

  it('makes the same by bash as by the system\u2019s own shell', () => {
    const text = [...TAKEN, ...LEFT_OUT].join('\n');
    const [first, second] = ['sh', 'bash'].map((shell) => generate(text, join(folder, `by-${shell}`), shell));
    expect(second).toEqual(first);
  });

  it('makes nothing without a file', () => {
    const into = join(folder, 'nothing');
    mkdirSync(into);
    execFileSync('sh', [join(SHARE, 'systemd/pcache-generator'), into], { env: { PCACHE_TAB: join(folder, 'none') } });
    expect(readdirSync(into)).toEqual([]);
  });
});

describeWithClient('systemd-analyze verify', 'systemd-analyze', (analyze) => {
  /** A root folder with the units of this system, the template, and what the generator makes. */
  function rootWith(name: string): string {
    const root = join(folder, name);
    const units = join(root, 'usr/lib/systemd/system');
    cpSync(SYSTEM_UNITS, units, { recursive: true, verbatimSymlinks: true });
    cpSync(join(SHARE, 'systemd/pcache@.service'), join(units, 'pcache@.service'));
    mkdirSync(join(root, 'usr/bin'));
    for (const program of ['pcache', 'mount', 'umount']) {
      writeFileSync(join(root, 'usr/bin', program), '#!/bin/sh\n');
      chmodSync(join(root, 'usr/bin', program), 0o755);
    }
    symlinkSync('usr/bin', join(root, 'bin'));
    generate(TAKEN.join('\n'), join(root, 'etc/systemd/system'));
    const mount = '[Unit]\nBefore=local-fs.target\n[Mount]\nWhat=/dev/pcache/hand\nWhere=/mnt\nType=ext4\n';
    writeFileSync(join(root, 'etc/systemd/system/mnt.mount'), mount);
    return root;
  }

  function verify(root: string, ...units: string[]): { status: number | null; text: string } {
    const options = [`--root=${root}`, '--man=no', '--recursive-errors=no'];
    const { status, stderr } = spawnSync(analyze, ['verify', ...options, ...units], { encoding: 'utf8' });
    return { status, text: stderr };
  }

  /** What is said of units that wait for each other at boot; only a recursive check looks for them. */
  function circles(root: string): string {
    const units = ['sysinit.target', 'local-fs.target', 'mnt.mount'];
    const { stderr } = spawnSync(analyze, ['verify', `--root=${root}`, '--man=no', ...units], { encoding: 'utf8' });
    return stderr.match(/^.*(?:cycl|pcache).*$/gim)?.join('\n') ?? '';
  }
  const names = TAKEN.map((line) => `pcache@${line.trim().split(/\s/)[0]}.service`);

  it('has nothing to say about the unit and the drop-ins, and finds no circle at boot', () => {
    const root = rootWith('good');
    expect(verify(root, ...names)).toEqual({ status: 0, text: '' });
    expect(circles(root)).toBe('');
  });

  it('finds the circle when a cache waits for the filesystems that wait for it', () => {
    const root = rootWith('circle');
    const file = join(root, 'etc/systemd/system/pcache@db.service.d/50-tab.conf');
    writeFileSync(file, readFileSync(file, 'utf8').replace('DefaultDependencies=no', 'Mistake=yes'));
    expect(circles(root)).toContain('Found ordering cycle');
    expect(verify(root, ...names)).toMatchObject({ status: 1, text: expect.stringContaining('Mistake') as string });
  });
});

it('pcache-id recognises a cache device, and nothing else', async () => {
  const image = join(folder, 'cache.img');
  const recognise = (path: string) => spawnSync('sh', [join(SHARE, 'udev/pcache-id'), path], { encoding: 'utf8' });
  const [ok, other] = [0, 1].map((status) => expect.objectContaining({ status, stdout: '', stderr: '' }) as object);
  await runCli(['format', image, '--size', '512MiB']);
  expect(recognise(image)).toEqual(ok);
  await runCli(['wipe', image]);
  expect(recognise(image)).toEqual(other);
  for (const path of [join(folder, 'none'), '/dev/null', '/dev/zero', folder]) expect(recognise(path)).toEqual(other);
});
