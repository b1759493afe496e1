/** `pcache fsck` from outside: statuses, lines, JSON. What it finds is tested in test/unit/fsck-*. */
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { lockDevice } from '../../src/engine/device/lock.js';
import { CRC_SEED, crc32cRaw } from '../../src/engine/media/crc32c.js';
import type { LossSummary } from '../../src/fsck/repair/losses.js';
import type { RepairJson } from '../../src/fsck/repair/repair-report.js';
import { runCli } from '../support/cli.js';
import { damagedCopy, hashOf, temporaryFolder } from '../support/cli-images.js';
import { makeOver } from '../support/damage/damagers.js';
import { changeCacheInfo, deviceOffset, flip, ksetAt, ksetsOf, writeTail } from '../support/damage/edit.js';
import { describeImages, unpackImage } from '../support/images.js';
import type { SparseImage } from '../support/sparse-image.js';
import type { CheckJson } from '../../src/fsck/check-report.js';

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
    expect(stdout).toContain(`${path}: 1 error, 0 warnings; DO NOT ATTACH IT: the kernel would end the log too early`);
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
      makeOver(image);
    });
    const { status, stdout } = await runCli(['fsck', path, '--no-data']);
    expect(stdout).toMatch(/^LOG_MAYBE_CUT_SHORT warning kset /);
    expect(status).toBe(4);
  });

  it('that an attach would destroy is said to be so', async () => {
    const path = await damagedCopy(folder, 'dirty-crc', (image) => image.zero(4096, 4096));
    const { stdout } = await runCli(['fsck', path]);
    expect(stdout).toMatch(
      /: 1 error, 0 warnings; DO NOT ATTACH IT: the kernel would make a new cache over it, and lose all that is in it\n$/,
    );
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

describe('a repair', () => {
  /** Superblock, both tails and a kset; the kset only in part. */
  const damage = (image: SparseImage): void => {
    const { places } = ksetsOf(image);
    image.zero(4096, 4096);
    image.zero(16384, 64);
    image.zero(deviceOffset(places[4]), 512);
  };
  const made = async (): Promise<{ path: string; backingPath: string; undo: string; before: string }> => {
    const own = mkdtempSync(join(folder, 'repair-'));
    const path = await damagedCopy(own, 'dirty-crc', damage);
    const { backingPath } = await unpackImage('dirty-crc');
    return { path, backingPath, undo: `${path}.undo`, before: await hashOf(path) };
  };

  it('is made with -y, told line by line, and taken back byte for byte', async () => {
    const { path, backingPath, undo, before } = await made();
    const { status, stdout, stderr } = await runCli(['fsck', path, backingPath, '-y']);
    expect([status, stderr]).toEqual([4, '']);
    const lines = stdout.trimEnd().split('\n');
    const at = (pattern: RegExp): number => lines.findIndex((line) => pattern.test(line));
    const order = [
      at(/^SUPERBLOCK_ZERO_MAGIC error superblock: /),
      at(/^fixed: set key_tail to 0:0 \(assumed: /),
      at(/^perhaps lost: kset 0:20576: .*cannot be relied on/),
      at(/^fixed: put a kset of the same length /),
      at(/^fixed: write the superblock again, with 31 segments$/),
      at(/^undo file: .*; to take the repair back: pcache fsck --undo-apply /),
      at(/: clean, 9 ksets, 1054 keys$/),
      at(/^perhaps lost: .*; there may be more$/),
    ];
    expect(order.every((line) => line >= 0)).toBe(true);
    expect([...order].sort((a, b) => a - b)).toEqual(order);
    expect(lines).toContain(`undo file: ${undo}; to take the repair back: pcache fsck --undo-apply ${undo} ${path}`);
    expect((await runCli(['fsck', path, backingPath])).status).toBe(0);
    expect((await runCli(['cat', path, backingPath], { stdoutTo: '/dev/null' })).status).toBe(0);
    expect(await runCli(['fsck', path, backingPath, '--repair'])).toMatchObject({ status: 0, stderr: '' });

    const back = await runCli(['fsck', '--undo-apply', undo, path]);
    expect([back.status, back.stderr]).toEqual([0, '']);
    expect(back.stdout).toMatch(/: repair undone: \d+ changes, /);
    expect(await hashOf(path)).toBe(before);
  });

  it('with -p makes what loses nothing, leaves what may lose data, and exits 4', async () => {
    const { path, backingPath } = await made();
    const { status, stdout, stderr } = await runCli(['fsck', '-f', '-p', path, backingPath]);
    expect([status, stderr]).toEqual([4, '']);
    expect(stdout).toContain('fixed: write the superblock again, with 31 segments\n');
    expect(stdout).not.toMatch(/^fixed: put a kset of the same length/m);
    expect(stdout).not.toMatch(/^(?:perhaps )?lost: /m);
  });

  it('is one document as JSON, with every range that is lost', async () => {
    const { path, backingPath, undo } = await made();
    const result = await runCli(['fsck', path, backingPath, '--repair', '--json']);
    expect([result.status, result.stderr]).toEqual([4, '']);
    const report = JSON.parse(result.stdout) as CheckJson & { repair: RepairJson; losses: LossSummary };
    expect(report).toMatchObject({ path, backing: backingPath, clean: false });
    expect(report.findings.map(({ code }) => code)).toContain('SUPERBLOCK_ZERO_MAGIC');
    const { repair } = report;
    expect(repair).toMatchObject({ undo, declined: [], stopped: false, after: { clean: true, findings: [] } });
    const losses = repair.made.flatMap((fix) => fix.losses);
    expect(new Set(losses.map(({ kind }) => kind))).toEqual(new Set(['perhaps-lost']));
    expect(losses.some(({ ranges }) => ranges.length > 32)).toBe(true);
    expect(report.losses).toEqual({ certain: [], possible: losses, complete: false });
    expect(repair.losses).toEqual(report.losses);
  });

  it('ends with status 1 when nothing is or may be lost, or --accept-loss is given', async () => {
    const { path, backingPath } = await made();
    const accepted = await runCli(['fsck', path, backingPath, '-y', '--accept-loss']);
    expect([accepted.status, accepted.stderr]).toEqual([1, '']);
    const lossless = await damagedCopy(mkdtempSync(join(folder, 'lossless-')), 'dirty-crc', (image) =>
      image.zero(4096, 4096),
    );
    const result = await runCli(['fsck', lossless, backingPath, '-y', '--json']);
    expect(result.status).toBe(1);
    const report = JSON.parse(result.stdout) as { losses: LossSummary };
    expect(report.losses).toEqual({ certain: [], possible: [], complete: true });
  });

  it('leaves corrupt data, with status 4, unless --drop-corrupt is given', async () => {
    const corrupt = (image: SparseImage): void => {
      const kset = ksetAt(image, ksetsOf(image).places[0]);
      const dirty = Array.from({ length: kset.keyCount }, (_, n) => n).find((n) => !kset.keyIsClean(n))!;
      flip(image, deviceOffset({ segment: kset.keySegment(dirty), offsetBytes: kset.keySegmentOffsetBytes(dirty) }));
    };
    const path = await damagedCopy(mkdtempSync(join(folder, 'corrupt-')), 'dirty-crc', corrupt);
    const before = await hashOf(path);
    const first = await runCli(['fsck', path, '-y']);
    expect(first.status).toBe(4);
    expect(first.stdout).toMatch(/\nnot fixed: drop 1 key in the kset 0:0 \(needs --drop-corrupt\)\n/);
    expect(existsSync(`${path}.undo`)).toBe(false);
    expect(await hashOf(path)).toBe(before);
    const second = await runCli(['fsck', path, '-y', '--drop-corrupt', '--undo', join(folder, 'dropped.undo')]);
    expect(second.status).toBe(4);
    expect(second.stdout).toMatch(
      /\nlost: kset 0:0: .* in 1 range: the payload does not match its CRC\n {2}bytes \d+ to \d+\nfixed: drop 1 key /,
    );
  });

  it('is not begun when the undo file is in the way or cannot be written, and goes on where one was cut off', async () => {
    const { path, undo, before } = await made();
    writeFileSync(undo, 'mine');
    const inTheWay = await runCli(['fsck', path, '-y', '--undo', undo]);
    expect([inTheWay.status, inTheWay.stdout]).toEqual([16, '']);
    expect(inTheWay.stderr).toContain(`${undo}: exists already, and is not overwritten`);
    expect(readFileSync(undo, 'utf8')).toBe('mine');
    const missing = await runCli(['fsck', path, '-y', '--undo', join(folder, 'none', 'undo')]);
    expect([missing.status, missing.stderr]).toEqual([
      8,
      expect.stringMatching(/^pcache: .*no such file; check the path; nothing was changed\n$/),
    ]);
    expect(await hashOf(path)).toBe(before);

    // A repair that is cut off leaves its undo file unfinished: here, by its header.
    const other = join(folder, 'whole.undo');
    expect((await runCli(['fsck', path, '-y', '--undo', other])).status).toBe(4);
    const bytes = readFileSync(other);
    bytes.writeUInt32LE(0, 48);
    bytes.writeUInt32LE(crc32cRaw(CRC_SEED, bytes, 0, 124), 124);
    writeFileSync(undo, bytes);
    const goesOn = await runCli(['fsck', path, '-y']);
    expect([goesOn.status, goesOn.stderr]).toEqual([
      4, // nothing is left to repair, but the first one lost data
      expect.stringContaining(`${undo}: kept; its repair was cut off`),
    ]);
    const back = await runCli(['fsck', '--undo-apply', undo, path]);
    expect([back.status, back.stdout]).toEqual([0, expect.stringContaining('interrupted repair undone')]);
    expect(await hashOf(path)).toBe(before);
  });

  it('is not begun on a cache that is in use, and does not touch one that is no cache', async () => {
    const { path } = await made();
    const fd = openSync(path, 'r');
    try {
      lockDevice(path, fd, { exclusive: false });
      const busy = await runCli(['fsck', path, '-y']);
      expect([busy.status, busy.stdout]).toEqual([8, '']);
      expect(busy.stderr).toMatch(/in use by/);
    } finally {
      closeSync(fd);
    }
    const foreign = join(folder, 'foreign');
    writeFileSync(foreign, Buffer.alloc(1 << 20, 'something else '));
    const result = await runCli(['fsck', foreign, '-y']);
    expect([result.status, result.stderr]).toEqual([8, expect.stringContaining('not a pcache device')]);
    expect(existsSync(`${foreign}.undo`)).toBe(false);
  });

  it.each([
    [['-y', '-n'], '--dry-run'],
    [['-y', '-i'], '--interactive'],
    [['--drop-corrupt'], '--drop-corrupt needs --repair or --interactive'],
    [['--accept-loss'], '--accept-loss needs --repair or --interactive'],
    [['--undo', 'x'], '--undo needs --repair'],
    [['-i'], '--interactive needs a terminal; use --repair without one'],
    [['-i', '--json'], '--interactive cannot be used with --json'],
    [['-y', '--undo-apply', 'x'], '--undo-apply'],
  ])('takes no contradictions: %j', async (flags, message) => {
    const { cachePath } = await unpackImage('fresh');
    const result = await runCli(['fsck', cachePath, ...flags]);
    expect(result.status).toBe(16);
    expect(result.stderr + result.stdout).toContain(message);
  });

  it('says what is wrong with an undo file in one line', async () => {
    const { path, undo } = await made();
    const missing = await runCli(['fsck', '--undo-apply', undo, path]);
    expect([missing.status, missing.stderr]).toEqual([8, `pcache: ${undo}: no such file; check the path\n`]);
    writeFileSync(undo, 'no undo file');
    const none = await runCli(['fsck', '--undo-apply', undo, path]);
    expect([none.status, none.stderr]).toEqual([
      8,
      `pcache: ${undo}: is not an undo file of pcache; nothing was changed\n`,
    ]);
  });
});

describe('a backup of the metadata', () => {
  it('restores what is lost, and nothing else, and can be taken back', async () => {
    const own = mkdtempSync(join(folder, 'backup-'));
    const { cachePath, backingPath } = await unpackImage('dirty-crc');
    const file = join(own, 'metadata');
    const made = await runCli(['fsck', cachePath, '--backup-metadata', file]);
    expect([made.status, made.stderr]).toEqual([0, '']);
    expect(statSync(file).size).toBe(64 + 20480 + 31 * 64);
    // Everything before the log is gone, which is still there.
    const path = await damagedCopy(own, 'dirty-crc', (image) => image.zero(0, 20480 + 12288));
    const before = await hashOf(path);
    const result = await runCli(['fsck', path, backingPath, '--restore-metadata', file]);
    expect([result.status, result.stderr]).toEqual([0, '']);
    for (const part of ['superblock', 'cache_info', 'info of physical segment 0']) {
      expect(result.stdout).toContain(`restored: ${part}\n`);
    }
    expect(result.stdout).toContain('restored: key_tail (possibly an old version)\n');
    expect(result.stdout).toMatch(/: clean, 9 ksets, 1054 keys\n$/);
    const sound = await runCli(['fsck', path, '--restore-metadata', file]);
    expect([sound.status, sound.stdout.split('\n')[0]]).toEqual([
      0,
      `${path}: no metadata is lost; nothing was restored`,
    ]);
    expect((await runCli(['fsck', '--undo-apply', `${path}.undo`, path])).status).toBe(0);
    expect(await hashOf(path)).toBe(before);
  });

  it('is not made of a damaged cache, over another file, or taken from what is none', async () => {
    const own = mkdtempSync(join(folder, 'backup-'));
    const path = await damagedCopy(own, 'dirty-crc', (image) => image.zero(16384, 64));
    const file = join(own, 'metadata');
    const damaged = await runCli(['fsck', path, '--backup-metadata', file]);
    expect([damaged.status, damaged.stderr]).toEqual([
      8,
      expect.stringMatching(/: key_tail is damaged, .*run "pcache fsck/),
    ]);
    expect(existsSync(file)).toBe(false);
    writeFileSync(file, 'mine');
    const { cachePath } = await unpackImage('dirty-crc');
    const taken = await runCli(['fsck', cachePath, '--backup-metadata', file]);
    expect([taken.status, taken.stderr]).toEqual([16, expect.stringContaining('exists already')]);
    const foreign = await runCli(['fsck', path, '--restore-metadata', file]);
    expect([foreign.status, foreign.stderr]).toEqual([
      8,
      `pcache: ${file}: is not a backup of pcache metadata; nothing was changed\n`,
    ]);
  });
});

describe('what a kernel does with a cache', () => {
  it('is said for the kernel that is asked for, and for all in JSON', async () => {
    const path = await damagedCopy(mkdtempSync(join(folder, 'kernel-')), 'dirty-crc', (image) => {
      writeTail(image, 'KEY_TAIL', { segment: 0, offsetBytes: 16764928 - 8 });
    });
    const { stdout } = await runCli(['fsck', path, '--kernel', '7.3']);
    expect(stdout).toMatch(/; DO NOT ATTACH IT: the kernel would crash on it\n$/);
    const json = JSON.parse((await runCli(['fsck', path, '--json', '--no-data'])).stdout) as CheckJson;
    expect(json.kernels).toEqual({ '6.18': 'crashes', '7.2': 'crashes', '7.3': 'crashes' });
  });
});
