/** `pcache fsck` from outside: statuses, lines, JSON. What it finds is tested in test/unit/fsck-*. */
import { describe, expect, it } from 'vitest';
import { runCli } from '../support/cli.js';
import { damagedCopy, hashOf, temporaryFolder } from '../support/cli-images.js';
import { changeCacheInfo, deviceOffset, flip, ksetsOf } from '../support/damage/edit.js';
import { describeImages, unpackImage } from '../support/images.js';
import type { SparseImage } from '../support/sparse-image.js';
import type { CheckJson } from '../../src/fsck/report.js';

const folder = temporaryFolder('fsck');

describeImages('a clean cache', (image) => {
  it.each(['on', 'off'])('is clean, with the native helper %s', async (native) => {
    const { cachePath, backingPath } = await unpackImage(image);
    const result = await runCli(['fsck', cachePath, backingPath], { env: { PCACHE_NATIVE: native } });
    expect([result.status, result.stderr]).toEqual([0, '']);
    const lines = result.stdout.trimEnd().split('\n');
    expect(lines.at(-1)).toMatch(new RegExp(`^${cachePath}: clean, \\d+ ksets, \\d+ keys$`));
    expect(lines.at(-2)).toMatch(/^examined: 31 segments, 130 copies of metadata, /);
    expect(lines.filter((line) => line.startsWith('not checked'))).toHaveLength(image.dataCrc ? 0 : 1);
  });
});

describe('a damaged cache', () => {
  const cut = (image: SparseImage): void => flip(image, deviceOffset(ksetsOf(image).places[4]));

  it('is reported line by line, with status 4, and left as it is', async () => {
    const path = await damagedCopy(folder, 'dirty-crc', cut);
    const before = await hashOf(path);
    const { status, stdout, stderr } = await runCli(['fsck', path]);
    expect([status, stderr]).toEqual([4, '']);
    // Five ksets of 128 keys are cut off or broken, of 1054 keys in nine.
    expect(stdout.split('\n')[0]).toMatch(
      /^LOG_CUT_SHORT error kset 0:20576: the kset there does not match its CRC, but 4 good ksets with 414 keys \(\d+ dirty bytes\) follow from 0:25720 on \[kernel: takes the log to end at the broken kset: /,
    );
    expect(stdout).toContain(`${path}: 1 error, 0 warnings; the kernel attaches it all the same`);
    expect(await hashOf(path)).toBe(before);
  });

  it('is reported as JSON', async () => {
    const path = await damagedCopy(folder, 'dirty-crc', (image) => {
      cut(image);
      image.zero(4096, 4096);
    });
    const { status, stdout, stderr } = await runCli(['fsck', path, '--json', '--no-data']);
    expect([status, stderr]).toEqual([4, '']);
    const report = JSON.parse(stdout) as CheckJson;
    expect(report.findings.map((finding) => finding.code)).toEqual(['SUPERBLOCK_ZERO_MAGIC', 'LOG_CUT_SHORT']);
    expect(report.findings[0]).toMatchObject({ severity: 'error', where: 'superblock', kernelRefuses: false });
    expect(report.findings[0].kernel).toMatch(/FORMATS THE DEVICE/);
    expect(report).toMatchObject({ path, backing: null, clean: false, omitted: {} });
    expect(report.examined).toMatchObject({ segments: 31, ksets: 4, payloadBytes: 0 });
    expect(report.notChecked).toHaveLength(2);
  });

  it('is not called clean when its last kset may be lost', async () => {
    const path = await damagedCopy(folder, 'gc-wrap', (image) => {
      flip(image, deviceOffset(ksetsOf(image).places.at(-1)!) + 40);
    });
    const { status, stdout } = await runCli(['fsck', path]);
    expect(status).toBe(4);
    expect(stdout).toMatch(/^LOG_END_TORN warning kset /);
    expect(stdout).not.toContain(': clean, ');
  });

  it('with notes only is clean', async () => {
    const path = await damagedCopy(folder, 'dirty-crc', (image) => {
      changeCacheInfo(image, (info) => ({ ...info, flags: info.flags | (1 << 2) }));
    });
    const { status, stdout } = await runCli(['fsck', path]);
    expect(stdout).toMatch(/^CACHE_MODE_NOT_WRITEBACK note /);
    expect(stdout).toContain(`${path}: clean, `);
    expect(status).toBe(0);
  });

  it('is not called clean when ksets behind its end may belong to it', async () => {
    const path = await damagedCopy(folder, 'dirty-crc', (image) => {
      const { places } = ksetsOf(image);
      image.zero(deviceOffset(places[places.length >>> 1]), 24);
    });
    const { status, stdout } = await runCli(['fsck', path]);
    expect(stdout).toMatch(/^LOG_MAYBE_CUT_SHORT warning kset /);
    expect(status).toBe(4);
  });

  it('that an attach would destroy is said to be so', async () => {
    const path = await damagedCopy(folder, 'dirty-crc', (image) => image.zero(4096, 4096));
    const { stdout } = await runCli(['fsck', path]);
    expect(stdout).toMatch(/: 1 error, 0 warnings; DO NOT ATTACH IT: the kernel would make a new cache over it\n$/);
  });

  it('has keys beyond a backing device that is too small', async () => {
    const { cachePath } = await unpackImage('gc-wrap');
    const { backingPath } = await unpackImage('dirty-crc');
    const { status, stdout } = await runCli(['fsck', cachePath, backingPath]);
    expect(status).toBe(4);
    expect(stdout).toMatch(/^KEY_BEYOND_BACKING error kset /);
    expect(stdout).toMatch(/\nKEY_BEYOND_BACKING: \d+ more like these\n/);
    expect(stdout).toContain('the kernel refuses to attach it');
  });
});
