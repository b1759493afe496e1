/** What formatting a path means, decided before anything is changed, and what is left when it does not come to its end. */
import {
  existsSync,
  mkdtempSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
  openSync,
  closeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { openPmemReader } from '../../src/engine/device/open.js';
import { PcacheError } from '../../src/engine/errors.js';
import { planJob, runJob, type FormatJob, type TargetOptions } from '../../src/engine/create/format-target.js';
import { MIB } from '../../src/engine/media/geometry.js';
import { loadCacheOrThrow } from '../../src/engine/log/recovery.js';
import { KERNEL_GEOMETRY } from '../../src/engine/media/geometry.js';

const directory = mkdtempSync(join(tmpdir(), 'pcache-target-'));
const path = join(directory, 'cache.pmem');
const SIZE = 512 * MIB;
const EXT_MAGIC_OFFSET = 1080;

const options = (more: Partial<TargetOptions> = {}): TargetOptions => ({
  path,
  sizeBytes: undefined,
  force: false,
  dataCrc: false,
  gcPercent: 70,
  ...more,
});

function makeFile(sizeBytes: number): void {
  writeFileSync(path, '');
  truncateSync(path, sizeBytes);
}

/** Puts the magic of an ext filesystem where one has it. */
function makeForeign(): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, Uint8Array.of(0x53, 0xef), 0, 2, EXT_MAGIC_OFFSET);
  closeSync(fd);
}

function format(more: Partial<TargetOptions> = {}): FormatJob {
  const wanted = options(more);
  const job = planJob(wanted);
  for (const segments of runJob(wanted.path, job, wanted.force)) expect(segments).toBeGreaterThan(0);
  return job;
}

function errorOf(call: () => unknown): PcacheError {
  try {
    call();
  } catch (error) {
    expect(error).toBeInstanceOf(PcacheError);
    return error as PcacheError;
  }
  return expect.fail('nothing was thrown');
}

beforeEach(() => rmSync(path, { force: true }));
afterAll(() => rmSync(directory, { recursive: true }));

describe('a file that is not there', () => {
  it('is created with the size that was asked for, and is a cache then', () => {
    const job = format({ sizeBytes: SIZE });
    expect(job).toMatchObject({ creates: true, isFile: true, resizesFromBytes: undefined, overwrites: '' });
    expect(statSync(path)).toMatchObject({ size: SIZE, mode: 0o100600 });
    const reader = openPmemReader(path);
    const load = { geometry: KERNEL_GEOMETRY, backingBytes: Infinity, checkPayload: false };
    expect(loadCacheOrThrow(reader, load).ksetCount).toBe(0);
    reader.close();
  });

  it('has its space reserved where that writes nothing and takes no memory, or as it is asked for', () => {
    const reserved = () => statSync(path).blocks * 512 >= SIZE;
    format({ sizeBytes: SIZE });
    const { type } = statfsSync(path);
    const isInMemory = type === 0x01021994;
    expect(reserved()).toBe(!isInMemory);
    for (const preallocate of [true, false]) {
      rmSync(path);
      format({ sizeBytes: SIZE, preallocate });
      expect(reserved()).toBe(preallocate);
    }
  });

  it('needs a size, and one that a cache fits in', () => {
    expect(errorOf(() => planJob(options()))).toMatchObject({ code: 'NOT_FOUND' });
    expect(errorOf(() => planJob(options({ sizeBytes: 12_345 })))).toMatchObject({ code: 'USAGE' });
    const tooSmall = errorOf(() => planJob(options({ sizeBytes: MIB })));
    expect(tooSmall.code).toBe('TOO_SMALL');
    expect(tooSmall.message.startsWith(`${path}: `)).toBe(true);
    expect(errorOf(() => planJob(options({ sizeBytes: SIZE, gcPercent: 91 })))).toMatchObject({ code: 'USAGE' });
    expect(existsSync(path)).toBe(false);
  });

  it('is not left behind when formatting is given up or cannot be done', () => {
    const job = planJob(options({ sizeBytes: SIZE }));
    const steps = runJob(path, job, false);
    steps.next();
    expect(existsSync(path)).toBe(true);
    steps.return();
    expect(existsSync(path)).toBe(false);

    const huge = { ...job, plan: { ...job.plan, deviceBytes: 2 ** 62 } };
    expect(errorOf(() => runJob(path, huge, false).next()).message).toContain(path);
    expect(existsSync(path)).toBe(false);
  });

  it('is not taken over when somebody else has made it meanwhile', () => {
    const job = planJob(options({ sizeBytes: SIZE }));
    makeFile(MIB);
    expect(errorOf(() => runJob(path, job, false).next()).message).toContain('EEXIST');
    expect(statSync(path).size).toBe(MIB);
  });
});

describe('what is there', () => {
  it('is used as it is when it is a blank file, and gets another size only by force', () => {
    makeFile(SIZE);
    expect(errorOf(() => planJob(options({ sizeBytes: 2 * SIZE })))).toMatchObject({ code: 'USAGE' });
    expect(format({ sizeBytes: SIZE })).toMatchObject({ creates: false, resizesFromBytes: undefined, isFile: true });
    const job = format({ sizeBytes: 2 * SIZE, force: true });
    expect(job.resizesFromBytes).toBe(SIZE);
    expect(job.overwrites).toContain('a pcache of 31 segments');
    expect(statSync(path).size).toBe(2 * SIZE);
  });

  it('is refused when it is an empty file, unless it is to be given a size', () => {
    makeFile(0);
    expect(errorOf(() => planJob(options())).message).toContain('is an empty file');
    expect(errorOf(() => planJob(options({ sizeBytes: SIZE })))).toMatchObject({ code: 'USAGE' });
    expect(format({ sizeBytes: SIZE, force: true }).resizesFromBytes).toBe(0);
    expect(statSync(path).size).toBe(SIZE);
  });

  it('is refused when it is a cache or something else, unless by force, which takes all of it away', () => {
    format({ sizeBytes: SIZE });
    expect(errorOf(() => planJob(options()))).toMatchObject({ code: 'ALREADY_PCACHE' });
    makeForeign();
    expect(errorOf(() => planJob(options())).message).toMatch(/a pcache of 31 segments.*; and .*ext/);
    expect(format({ force: true }).overwrites).toContain('ext');
    expect(errorOf(() => planJob(options())).message).not.toContain('ext');

    rmSync(path);
    makeFile(SIZE);
    makeForeign();
    expect(errorOf(() => planJob(options()))).toMatchObject({ code: 'FOREIGN_SIGNATURE' });
  });

  it('is looked at again before anything is written', () => {
    makeFile(SIZE);
    const job = planJob(options());
    makeForeign();
    expect(errorOf(() => runJob(path, job, false).next())).toMatchObject({ code: 'FOREIGN_SIGNATURE' });
    expect(existsSync(path)).toBe(true);
  });

  it('is no file of another size when it has gone meanwhile', () => {
    makeFile(SIZE);
    const grows = planJob(options({ sizeBytes: 2 * SIZE, force: true }));
    makeFile(0);
    const fromNothing = planJob(options({ sizeBytes: SIZE, force: true }));
    rmSync(path);
    expect(errorOf(() => runJob(path, grows, true).next())).toMatchObject({ code: 'NOT_FOUND' });
    expect(errorOf(() => runJob(path, fromNothing, true).next())).toMatchObject({ code: 'NOT_FOUND' });
    expect(existsSync(path)).toBe(false);
  });

  it('is used whole when it is no file, and need not be there to be refused', () => {
    expect(errorOf(() => planJob(options({ path: '/dev/null', sizeBytes: SIZE }))).message).toContain('not a regular');
    makeFile(1);
    expect(errorOf(() => planJob(options({ path: join(path, 'below') }))).message).toContain('ENOTDIR');
  });
});
