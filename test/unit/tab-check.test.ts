/** `pcache tab check` on a machine: devices, drivers, and paths that may change. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkTab, stableLink, type Machine } from '../../src/tab/tab-check.js';
import { readTab } from '../../src/tab/tab-file.js';
import { unpackImage } from '../support/images.js';

let root: string;
let machine: Machine;
let cache: string;
let backing: string;
let empty: string;

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'pcache-tab-'));
  const at = (path: string) => join(root, path);
  ({ cachePath: cache, backingPath: backing } = await unpackImage('dirty-crc'));
  empty = at('empty.img');
  writeFileSync(empty, '');
  truncateSync(empty, 2 ** 29);
  mkdirSync(at('proc/sys/kernel'), { recursive: true });
  writeFileSync(at('proc/sys/kernel/osrelease'), '9.9.9-test\n');
  mkdirSync(at('modules/9.9.9-test'), { recursive: true });
  writeFileSync(at('modules/9.9.9-test/modules.dep'), 'kernel/drivers/block/ublk_drv.ko.xz:\n');
  writeFileSync(at('modules/9.9.9-test/modules.builtin'), 'kernel/drivers/md/dm-snapshot.ko\n');
  mkdirSync(at('dev/disk/by-id'), { recursive: true });
  machine = {
    proc: at('proc'),
    sys: at('sys'),
    dev: at('dev'),
    modules: at('modules'),
    targets: () => ['linear', 'pcache'],
  };
}, 60_000);
afterAll(() => rmSync(root, { recursive: true, force: true }));

const check = (text: string, more: Partial<Machine> = {}): string[] =>
  checkTab(readTab(text), true, { ...machine, ...more }).map(
    (problem) => `${problem.line} ${problem.severity}: ${problem.text.replaceAll(root, '')}`,
  );

describe('the check of the tab', () => {
  it('finds nothing wrong with a cache and a backing device that can be attached', () => {
    expect(check(`db ${cache} ${backing} ublk`)).toEqual([]);
  });

  it('tells a device that holds no cache, one that is missing, and one that is neither device nor file', () => {
    expect(check(`db ${empty} ${root} socket=/run/s\nweb /missing/a /missing/b ublk`)).toEqual([
      '1 error: /empty.img: holds no cache; make one with "pcache format /empty.img"',
      '1 error: : is neither a block device nor a regular file; give one of them',
      '2 error: /missing/a: no such file; check the path',
      '2 error: /missing/b: no such file; check the path',
    ]);
  });

  it('tells a device that two caches use, by whatever path', () => {
    const other = join(root, 'link');
    symlinkSync(backing, other);
    const problems = check(`db ${cache} ${backing} ublk\nweb ${cache} ${other} ublk`);
    expect(problems).toEqual([
      `2 error: ${cache}: db (line 1) uses it already; give another device`,
      `2 error: /link: db (line 1) uses it already; give another device`,
    ]);
  });

  it('tells a driver that the kernel lacks', () => {
    expect(check(`db ${cache} ${backing} nbd`)).toEqual([
      '1 error: this kernel has no nbd driver (module nbd); use ublk, or another kernel',
    ]);
    mkdirSync(join(root, 'sys/module/nbd'), { recursive: true });
    expect(check(`db ${cache} ${backing} nbd`)).toEqual([]);
  });

  it('tells files that the kernel cannot take, and a target that it lacks or that cannot be seen', () => {
    const needs = (path: string) =>
      `1 error: ${path}: is not a block device, which the kernel needs; use ublk or nbd instead of kernel`;
    const line = `db ${cache} ${backing} kernel`;
    const files = [needs(cache), needs(backing)];
    expect(check(line)).toEqual(files);
    expect(check(line, { targets: () => ['linear'] })).toEqual([
      ...files,
      '1 error: this kernel has no pcache target (CONFIG_DM_PCACHE); use ublk or nbd instead of kernel',
    ]);
    expect(check(line, { targets: () => undefined })).toEqual([
      ...files,
      '1 warning: whether this kernel has the pcache target cannot be seen; run as root, with dmsetup installed',
    ]);
  });

  it('warns of paths that are numbered anew at each start', () => {
    const warned = ['/dev/sdb', '/dev/sda1', '/dev/nvme0n1', '/dev/dm-3', '/dev/loop0', '/dev/pmem0.1s', '/dev/dax0.0'];
    for (const path of warned) {
      expect(check(`db ${cache} ${path} ublk`)[0], path).toBe(
        `1 warning: ${path} may be another device after a restart; make a link with a udev rule, and write that`,
      );
    }
    for (const path of ['/dev/disk/by-id/sda', '/dev/mapper/sda', '/dev/vg/lv', '/srv/dev/sdb']) {
      expect(check(`db ${cache} ${path} ublk`).join(), path).not.toContain('warning');
    }
  });

  it('names the best link that leads to the same device', () => {
    const dev = join(root, 'dev');
    const link = (path: string, target: string) => {
      mkdirSync(join(dev, path, '..'), { recursive: true });
      symlinkSync(target, join(dev, path));
    };
    link('disk/by-path/pci-0', cache);
    link('disk/by-id/other', backing);
    expect(stableLink(cache, dev)).toBe(join(dev, 'disk/by-path/pci-0'));
    link('disk/by-id/wwn-0x5', cache);
    link('disk/by-id/broken', '/missing/device');
    expect(stableLink(cache, dev)).toBe(join(dev, 'disk/by-id/wwn-0x5'));
    expect(stableLink(empty, dev)).toBeUndefined();
  });
});
