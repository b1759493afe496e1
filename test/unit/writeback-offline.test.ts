/** Offline write-back on small simulated devices: which version of a byte is written, in which order, and what when not. */
import { describe, expect, it } from 'vitest';
import type { Pmem, PmemReader } from '../../src/engine/device/pmem.js';
import { bestCrc32c } from '../../src/engine/device/native.js';
import { decodePosition, encodeGeneration, POSITION_BYTES, type Position } from '../../src/engine/media/codecs.js';
import { readDual } from '../../src/engine/media/dual.js';
import { DIRTY_TAIL_COPIES, generationCopies } from '../../src/engine/media/geometry.js';
import { structCrc } from '../../src/engine/media/crc32c.js';
import { KEY_BYTES, KEY_FLAG_CLEAN, KeyField, KSET_HEADER_BYTES } from '../../src/engine/media/kset.js';
import { LogWalker } from '../../src/engine/media/log-walker.js';
import { readMetadata } from '../../src/engine/media/metadata.js';
import { Random } from '../../src/engine/sim/random.js';
import type { SimBacking } from '../../src/engine/sim/sim-backing.js';
import type { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { checkCache } from '../../src/fsck/check.js';
import { writeBack, type WritebackHooks, type WritebackOptions } from '../../src/rescue/offline-writeback.js';
import { DrivenBacking, type DrivenCall, type Verdict } from '../support/driven-backing.js';
import { geometryOf } from '../support/sim-device.js';
import { withBadPlaces } from '../support/bad-places.js';
import { SMALL, SmallCache } from '../support/small-cache.js';

const geometry = geometryOf(SMALL);
const SECTOR = 512;

interface KeyPlace {
  /** Byte offset on the device of the kset, of the key in it, and of the key's payload. */
  readonly kset: number;
  readonly at: number;
  readonly payload: number;
  readonly segment: number;
  readonly sector: number;
}

/** Every key of the log, in order. */
function keysOf(pmem: PmemReader): KeyPlace[] {
  const { chain, keyTail } = readMetadata(pmem, geometry);
  const walker = new LogWalker(pmem, geometry, chain, keyTail.value!);
  const keys: KeyPlace[] = [];
  while (walker.next()) {
    const kset = chain.dataOffsetBytes[walker.segment] + walker.offsetBytes;
    for (let i = 0; i < walker.kset.keyCount; i++) {
      const segment = walker.kset.keySegment(i);
      keys.push({
        kset,
        at: kset + KSET_HEADER_BYTES + i * KEY_BYTES,
        payload: chain.dataOffsetBytes[segment] + walker.kset.keySegmentOffsetBytes(i),
        segment,
        sector: walker.kset.keyOffsetBytes(i) / SECTOR,
      });
    }
  }
  return keys;
}

function dirtyTail(pmem: PmemReader): Position {
  const { segment, offsetBytes } = readDual(pmem, DIRTY_TAIL_COPIES, POSITION_BYTES, decodePosition).value!;
  return { segment, offsetBytes };
}

function keyHead(small: SmallCache): Position {
  return small.load().keyHead;
}

interface Run {
  readonly options?: Partial<WritebackOptions>;
  readonly judge?: (call: DrivenCall) => Verdict;
  readonly cache?: PmemReader;
  /** Backing device, where not the cache's own. */
  readonly on?: SimBacking;
  readonly hooks?: Partial<WritebackHooks>;
}

function start(small: SmallCache, { options, judge, cache, on, hooks }: Run = {}) {
  const backing = new DrivenBacking(on ?? small.backing, judge);
  const all = {
    geometry,
    crc: bestCrc32c(),
    dryRun: false,
    keepMetadata: false,
    acceptLoss: false,
    forceBacking: false,
    retries: 2,
    ...options,
  };
  const writable: Pmem | undefined = all.dryRun || all.keepMetadata ? undefined : small.pmem;
  const pauses: number[] = [];
  const result = writeBack({ cache: cache ?? small.pmem, writable, backing }, all, {
    begins: () => undefined,
    progress: () => undefined,
    breathe: () => new Promise((resolve) => setImmediate(resolve)),
    stopRequested: () => false,
    pause: (milliseconds) => {
      pauses.push(milliseconds);
      return Promise.resolve();
    },
    nowMs: () => 0,
    ...hooks,
  });
  return { backing, pauses, result };
}

describe('which version is written', () => {
  it.each([false, true])('the newest of every sector, whatever its kset; data_crc %s', async (dataCrc) => {
    const small = new SmallCache({ dataCrc });
    small.writeFua(10, 8, 1);
    small.writeFua(12, 2, 2);
    small.writeFua(8, 3, 3);
    small.writeFua(8000, 4, 4);
    const head = keyHead(small);
    const { result, backing } = start(small);
    expect(await result).toMatchObject({
      complete: true,
      // A write across a segment of 16 sectors makes two keys.
      dirtyKeys: 5,
      dirtyKeyBytes: 17 * SECTOR,
      dirtyBytes: 14 * SECTOR,
      supersededBytes: 3 * SECTOR,
      writtenBytes: 14 * SECTOR,
      writes: 2,
      failed: [],
      dirtyTailAfter: head,
    });
    expect(small.durableIds(8, 10)).toEqual([3, 3, 3, 1, 2, 2, 1, 1, 1, 1]);
    expect(small.durableIds(8000, 4)).toEqual([4, 4, 4, 4]);
    expect(dirtyTail(small.pmem)).toEqual(head);
    expect(backing.calls.map(({ kind, offsetBytes }) => [kind, offsetBytes / SECTOR])).toEqual([
      ['write', 8],
      ['write', 8000],
      ['flush', 0],
    ]);
    const check = checkCache(small.pmem, { geometry, backingBytes: backing.sizeBytes, data: true });
    expect(check.findings).toEqual([]);
  });

  it('nothing that came from a read miss, nor what it lies over', async () => {
    const small = new SmallCache();
    small.writeFua(10, 4, 1);
    small.writeFua(11, 1, 2);
    const [, second] = keysOf(small.pmem);
    // As a read miss would have left it: flagged CLEAN.
    const { bytes } = small.pmem;
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(second.at + KeyField.flags, KEY_FLAG_CLEAN, true);
    seal(small.pmem, second);
    const options = { forceBacking: true };
    expect(await start(small, { options }).result).toMatchObject({
      complete: true,
      cleanKeys: 1,
      dirtyBytes: 3 * SECTOR,
    });
    expect(small.durableIds(10, 4)).toEqual([1, 0, 1, 1]);
  });

  it('nothing behind dirty_tail', async () => {
    const small = new SmallCache();
    small.writeFua(10, 4, 1);
    await start(small).result;
    small.open();
    small.writeFua(11, 1, 2);
    expect(await start(small).result).toMatchObject({ complete: true, dirtyKeys: 1, writtenBytes: SECTOR });
    expect(small.durableIds(10, 4)).toEqual([1, 2, 1, 1]);
  });

  it('nothing behind dirty_tail, also where a stale key lets an older one show', async () => {
    const small = new SmallCache();
    // Each fills a segment.
    small.writeFua(0, 16, 1);
    small.writeFua(0, 16, 2);
    await start(small).result;
    small.open();
    small.writeFua(100, 1, 3);
    const { segment } = keysOf(small.pmem)[1];
    for (const [n, copy] of generationCopies(geometry, segment).entries()) {
      small.pmem.bytes.set(encodeGeneration(9, 5 + n), copy);
    }
    const result = await start(small).result;
    expect(result.findings.map((finding) => finding.code)).toEqual(['KEY_STALE_UNCOUNTED', 'OLD_DATA_SHOWS']);
    expect(result).toMatchObject({ complete: true, writtenBytes: SECTOR });
    expect(small.durableIds(0, 16)).toEqual(new Array(16).fill(2));
  });

  it('of a cache in any mode', async () => {
    for (const mode of ['writethrough', 'writearound', 'writeonly'] as const) {
      const small = new SmallCache();
      small.writeFua(10, 4, 1);
      const modeSmall = new SmallCache({ mode });
      // The keys of a writeback cache in a device of another mode.
      const copies = small.pmem.bytes.slice(20 * 1024);
      modeSmall.pmem.bytes.set(copies, 20 * 1024);
      expect(await start(modeSmall).result).toMatchObject({ complete: true, writtenBytes: 4 * SECTOR });
      expect(modeSmall.durableIds(10, 4)).toEqual([1, 1, 1, 1]);
    }
  });
});

function seal(pmem: SimPmem, { kset }: KeyPlace): void {
  const view = new DataView(pmem.bytes.buffer, pmem.bytes.byteOffset);
  const lengthBytes = KSET_HEADER_BYTES + view.getUint32(kset + 4, true) * KEY_BYTES;
  view.setUint32(kset, structCrc(pmem.bytes, kset, lengthBytes), true);
}

describe('payload that is bad', () => {
  it('is failed, is not replaced by an older version, and keeps nothing else from being written', async () => {
    const small = new SmallCache({ dataCrc: true });
    small.writeFua(10, 8, 1);
    small.writeFua(12, 4, 2);
    small.writeFua(13, 1, 3);
    small.writeFua(100, 4, 4);
    const before = dirtyTail(small.pmem);
    small.pmem.bytes[keysOf(small.pmem)[1].payload] ^= 1;
    const { result, backing } = start(small);
    expect(await result).toMatchObject({
      complete: false,
      failedBytes: 3 * SECTOR,
      writtenBytes: 9 * SECTOR,
      dirtyTailAfter: before,
      failed: [
        { offsetBytes: 12 * SECTOR, lengthBytes: SECTOR, reason: 'bad-crc' },
        { offsetBytes: 14 * SECTOR, lengthBytes: 2 * SECTOR, reason: 'bad-crc' },
      ],
    });
    expect(small.durableIds(10, 8)).toEqual([1, 1, 0, 3, 0, 0, 1, 1]);
    expect(small.durableIds(100, 4)).toEqual([4, 4, 4, 4]);
    expect(dirtyTail(small.pmem)).toEqual(before);
    expect(backing.calls.at(-1)!.kind).toBe('flush');
  });

  it('is nobody’s concern once it was overwritten', async () => {
    const small = new SmallCache({ dataCrc: true });
    small.writeFua(12, 4, 2);
    small.writeFua(10, 8, 1);
    const [older] = keysOf(small.pmem);
    small.pmem.bytes[older.payload] ^= 1;
    const looked: number[] = [];
    const cache = withBadPlaces(small.pmem, (offset) => {
      looked.push(offset);
      return false;
    });
    expect(await start(small, { cache }).result).toMatchObject({ complete: true, failedBytes: 0 });
    expect(looked).not.toContain(older.payload);
    expect(small.durableIds(10, 8)).toEqual([1, 1, 1, 1, 1, 1, 1, 1]);
  });

  it('is told from payload at the same place of another segment', async () => {
    const small = new SmallCache({ dataCrc: true });
    // Each fills a segment.
    small.writeFua(0, 16, 1);
    small.writeFua(0, 16, 2);
    const [older, newer] = keysOf(small.pmem);
    expect(older.segment).not.toBe(newer.segment);
    small.pmem.bytes[older.payload] ^= 1;
    expect(await start(small).result).toMatchObject({ complete: true, failedBytes: 0, writtenBytes: 16 * SECTOR });
  });

  it('is failed sector by sector where it cannot be read and has no CRC', async () => {
    const small = new SmallCache();
    small.writeFua(10, 8, 1);
    const bad = keysOf(small.pmem)[0].payload + 3 * SECTOR;
    const cache = withBadPlaces(small.pmem, (offset, length) => offset <= bad && bad < offset + length);
    expect(await start(small, { cache }).result).toMatchObject({
      complete: false,
      writtenBytes: 7 * SECTOR,
      failed: [{ offsetBytes: 13 * SECTOR, lengthBytes: SECTOR, reason: 'unreadable' }],
    });
    expect(small.durableIds(10, 8)).toEqual([1, 1, 1, 0, 1, 1, 1, 1]);
  });

  it('is failed as a whole where it cannot be read and so not be held against its CRC', async () => {
    const small = new SmallCache({ dataCrc: true });
    small.writeFua(10, 8, 1);
    small.writeFua(20, 1, 2);
    const bad = keysOf(small.pmem)[0].payload + 3 * SECTOR;
    const cache = withBadPlaces(small.pmem, (offset, length) => offset <= bad && bad < offset + length);
    expect(await start(small, { cache }).result).toMatchObject({
      complete: false,
      writtenBytes: SECTOR,
      failed: [{ offsetBytes: 10 * SECTOR, lengthBytes: 8 * SECTOR, reason: 'unreadable' }],
    });
  });
});

/** Overwrites sectors of the backing device behind the cache's back. */
function scribble(small: SmallCache, sector: number, sectors: number): void {
  const bytes = new Uint8Array(sectors * SECTOR).fill(0x5a);
  small.backing.write(sector * SECTOR, bytes, 0, bytes.length, () => undefined);
  small.backing.finish(0);
}

describe('the backing device is compared before the first write', () => {
  /** Sectors 10 to 13 and 100 to 103 are written back; 20 is dirty, and so is 11. */
  async function partlyWrittenBack(dataCrc = true): Promise<SmallCache> {
    const small = new SmallCache({ dataCrc });
    small.writeFua(10, 4, 1);
    small.writeFua(100, 4, 2);
    await start(small).result;
    small.open();
    small.writeFua(20, 1, 3);
    small.writeFua(11, 1, 4);
    return small;
  }

  it('and taken when it holds what was written back', async () => {
    const small = await partlyWrittenBack();
    expect(await start(small).result).toMatchObject({ complete: true, comparedSamples: 3, differingSamples: 0 });
  });

  it('and refused when it does not, with nothing written, unless that is forced', async () => {
    const small = await partlyWrittenBack();
    scribble(small, 101, 1);
    const before = small.pmem.bytes.slice();
    const { result, backing } = start(small);
    await expect(result).rejects.toMatchObject({
      code: 'BAD_MEDIA',
      exitStatus: 4,
      message: expect.stringMatching(
        /: 1 of 3 samples .* differ, the first at bytes 51200 to 53248: it is another device, .* or --force-backing$/,
      ) as string,
    });
    expect(backing.calls).toEqual([]);
    expect(Buffer.compare(small.pmem.bytes, before)).toBe(0);
    const forced = await start(small, { options: { forceBacking: true } }).result;
    expect(forced).toMatchObject({ complete: true, differingSamples: 1, writtenBytes: 2 * SECTOR });
  });

  it('but not where dirty data lies, nor where it was overwritten', async () => {
    const small = await partlyWrittenBack();
    scribble(small, 11, 1);
    scribble(small, 20, 1);
    expect(await start(small).result).toMatchObject({ complete: true, differingSamples: 0 });
  });

  it('but not with payload that does not match its CRC', async () => {
    const small = await partlyWrittenBack();
    const key = keysOf(small.pmem).find(({ sector }) => sector === 100)!;
    small.pmem.bytes[key.payload] ^= 1;
    expect(await start(small).result).toMatchObject({ complete: true, comparedSamples: 2, differingSamples: 0 });
  });

  it('in a bounded number of places', async () => {
    const small = new SmallCache({ segmentBytes: 1024 * 1024, segments: 6 });
    for (let n = 0; n < 1500; n++) small.writeFua(1 + 3 * n, 1, 1 + n);
    const options = { geometry: geometryOf(small.shape) };
    await start(small, { options }).result;
    const { comparedSamples } = await start(small, { options }).result;
    expect(comparedSamples).toBe(750);
  });
});

describe('order', () => {
  it('dirty_tail moves after the flush, and the flush follows every write', async () => {
    const small = new SmallCache();
    for (let n = 0; n < 20; n++) small.writeFua(1 + 10 * n, 2, n + 1);
    const before = dirtyTail(small.pmem);
    const seen: Position[] = [];
    const { result, backing } = start(small, {
      judge: (call) => {
        if (call.kind === 'flush') expect(backing.underWay).toBe(0);
        seen.push(dirtyTail(small.pmem));
        return 'well';
      },
    });
    await result;
    expect(backing.calls.map((call) => call.kind)).toEqual([...new Array<string>(20).fill('write'), 'flush']);
    expect(new Set(seen.map((place) => JSON.stringify(place)))).toEqual(new Set([JSON.stringify(before)]));
    expect(backing.underWayMost).toBeGreaterThan(1);
    expect(backing.underWayMost).toBeLessThanOrEqual(8);
  });

  it('a flush that fails is the end: it is not tried again, and dirty_tail stays', async () => {
    const small = new SmallCache();
    small.writeFua(10, 8, 1);
    const before = dirtyTail(small.pmem);
    const { result, backing } = start(small, { judge: ({ kind }) => (kind === 'flush' ? 'IO' : 'well') });
    await expect(result).rejects.toMatchObject({ code: 'IO' });
    expect(backing.calls.filter((call) => call.kind === 'flush')).toHaveLength(1);
    expect(dirtyTail(small.pmem)).toEqual(before);
  });

  it('whenever the power goes, a second run brings everything there', async () => {
    for (let stopAt = 0; stopAt <= 13; stopAt++) {
      const small = new SmallCache();
      for (let n = 0; n < 12; n++) small.writeFua(1 + 3 * (n % 7), 2, n + 1);
      const want = [...new Array(21).keys()].map((sector) => small.readIds(sector, 1)[0]);
      const dead = start(small, { judge: ({ serial }) => (serial < stopAt ? 'well' : 'never') });
      void dead.result.catch(() => undefined);
      for (let turn = 0; turn < 200; turn++) await new Promise((resolve) => setImmediate(resolve));
      small.pmem.crash(new Random(stopAt + 1));
      small.backing.crash(new Random(stopAt + 1));
      expect(await start(small).result).toMatchObject({ complete: true });
      expect(small.durableIds(0, 21)).toEqual(want);
      expect(dirtyTail(small.pmem)).toEqual(keyHead(small));
    }
  });

  it('asked to stop, it waits for what is under way and leaves the cache as it was', async () => {
    const small = new SmallCache();
    for (let n = 0; n < 20; n++) small.writeFua(1 + 10 * n, 2, n + 1);
    const before = small.pmem.bytes.slice();
    const { result, backing } = start(small, { hooks: { stopRequested: () => backing.calls.length >= 5 } });
    await expect(result).rejects.toMatchObject({ code: 'INTERRUPTED' });
    expect(backing.underWay).toBe(0);
    expect(backing.calls.length).toBeLessThan(10);
    expect(Buffer.compare(small.pmem.bytes, before)).toBe(0);
  });
});

describe('writes that fail', () => {
  it('are tried again after pauses that grow, as often as was asked for', async () => {
    const small = new SmallCache();
    small.writeFua(10, 8, 1);
    const { result, pauses } = start(small, {
      options: { retries: 3 },
      judge: ({ serial }) => (serial < 3 ? 'IO' : 'well'),
    });
    expect(await result).toMatchObject({ complete: true, retriedWrites: 3, writes: 1 });
    expect(pauses).toEqual([100, 200, 400]);
    expect(small.durableIds(10, 8)).toEqual([1, 1, 1, 1, 1, 1, 1, 1]);
  });

  it('are narrowed down to the 4 KiB that cannot be written', async () => {
    const small = new SmallCache({ segmentBytes: 1024 * 1024, segments: 4 });
    small.writeFua(0, 1000, 1);
    const bad = 300;
    const { result } = startWith(small, ({ kind, offsetBytes, lengthBytes }) =>
      kind === 'write' && offsetBytes <= bad * SECTOR && bad * SECTOR < offsetBytes + lengthBytes ? 'IO' : 'well',
    );
    const { failed, complete, writtenBytes } = await result;
    expect(failed).toEqual([{ offsetBytes: 296 * SECTOR, lengthBytes: 8 * SECTOR, reason: 'write-error' }]);
    expect([complete, writtenBytes]).toEqual([false, 992 * SECTOR]);
    const ids = small.durableIds(0, 1000);
    expect(ids.filter((id) => id === 1)).toHaveLength(992);
  });

  it('of a device that is dead are not all narrowed down', async () => {
    const small = new SmallCache({ segmentBytes: 1024 * 1024, segments: 4 });
    for (let n = 0; n < 40; n++) small.writeFua(1 + 20 * n, 16, n + 1);
    const { result, backing } = start(small, {
      options: { retries: 0, geometry: geometryOf(small.shape) },
      judge: ({ kind }) => (kind === 'write' ? 'IO' : 'well'),
    });
    const { complete, failedBytes } = await result;
    expect([complete, failedBytes]).toEqual([false, 40 * 16 * SECTOR]);
    // Each is written once, and those that were under way with the first in halves.
    expect(backing.calls.length).toBeLessThan(40 + 8 * 2 + 2);
  });

  it('for another reason than the medium end the run', async () => {
    const small = new SmallCache();
    for (let n = 0; n < 20; n++) small.writeFua(1 + 10 * n, 2, n + 1);
    const before = dirtyTail(small.pmem);
    const { result, backing } = start(small, {
      options: { retries: 1 },
      judge: ({ offsetBytes }) => (offsetBytes > 100 * SECTOR ? 'NO_SPACE' : 'well'),
    });
    await expect(result).rejects.toMatchObject({ code: 'NO_SPACE' });
    expect(backing.underWay).toBe(0);
    expect(dirtyTail(small.pmem)).toEqual(before);
  });
});

/** As `start`, for a cache of another geometry. */
function startWith(small: SmallCache, judge: (call: DrivenCall) => Verdict) {
  return start(small, { judge, options: { geometry: geometryOf(small.shape) } });
}

describe('what it changes', () => {
  it.each([{ dryRun: true }, { keepMetadata: true }])('%j: nothing on the cache device', async (options) => {
    const small = new SmallCache({ dataCrc: true });
    small.writeFua(10, 8, 1);
    const before = small.pmem.bytes.slice();
    const { result, backing } = start(small, { options });
    expect(await result).toMatchObject({
      complete: 'keepMetadata' in options,
      dirtyBytes: 8 * SECTOR,
      writtenBytes: 'keepMetadata' in options ? 8 * SECTOR : 0,
    });
    expect(Buffer.compare(small.pmem.bytes, before)).toBe(0);
    expect(backing.calls.length).toBe('keepMetadata' in options ? 2 : 0);
  });

  it('a dry run finds what would fail', async () => {
    const small = new SmallCache({ dataCrc: true });
    small.writeFua(10, 8, 1);
    small.pmem.bytes[keysOf(small.pmem)[0].payload] ^= 1;
    expect(await start(small, { options: { dryRun: true } }).result).toMatchObject({
      complete: false,
      failed: [{ offsetBytes: 10 * SECTOR, lengthBytes: 8 * SECTOR, reason: 'bad-crc' }],
    });
  });

  it('nothing at all where nothing is dirty', async () => {
    const small = new SmallCache();
    const before = small.pmem.bytes.slice();
    expect(await start(small).result).toMatchObject({ complete: true, dirtyBytes: 0, writes: 0 });
    expect(Buffer.compare(small.pmem.bytes, before)).toBe(0);
  });
});

describe('a log that cannot be followed is refused before anything is written', () => {
  it.each([
    [
      'cut in two',
      (small: SmallCache) => {
        small.pmem.bytes[keysOf(small.pmem)[1].kset + 30] ^= 1;
      },
      /: dirty data may be lost or old: LOG_CUT_SHORT .*; run "pcache fsck .*" first, or give --accept-loss$/,
    ],
    [
      'without a dirty_tail',
      (small: SmallCache) => {
        for (const copy of DIRTY_TAIL_COPIES) small.pmem.bytes[copy + 8] ^= 1;
      },
      /DIRTY_TAIL_LOST .*; run "pcache fsck --repair .*" first$/,
    ],
    [
      'with a dirty key whose payload is gone',
      (small: SmallCache) => {
        const { segment } = keysOf(small.pmem)[2];
        for (const [n, copy] of generationCopies(geometry, segment).entries()) {
          small.pmem.bytes.set(encodeGeneration(9, 5 + n), copy);
        }
      },
      /KEY_STALE_DIRTY .*; run "pcache fsck --repair .*" first$/,
    ],
    [
      'of a segment whose generation is lost',
      (small: SmallCache) => {
        for (const copy of generationCopies(geometry, 3)) small.pmem.bytes[copy + 8] ^= 1;
      },
      /GENERATION_LOST .*; run "pcache fsck .*" first, or give --accept-loss$/,
    ],
  ])('%s', async (_name, damage, message) => {
    const small = new SmallCache();
    for (let n = 0; n < 4; n++) small.writeFua(10 + n, 1, 1 + n);
    damage(small);
    const { result, backing } = start(small);
    const error: unknown = await result.catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'BAD_MEDIA', exitStatus: 4 });
    expect((error as Error).message).toMatch(message);
    expect(backing.calls).toEqual([]);
  });

  it('unless the loss is accepted: then what the log holds is written', async () => {
    const small = new SmallCache();
    for (let n = 0; n < 4; n++) small.writeFua(10 + n, 1, 1 + n);
    small.pmem.bytes[keysOf(small.pmem)[1].kset + 30] ^= 1;
    const result = await start(small, { options: { acceptLoss: true } }).result;
    expect(result).toMatchObject({ complete: true, dirtyKeys: 1, findings: [{ code: 'LOG_CUT_SHORT' }] });
    expect(small.durableIds(10, 4)).toEqual([1, 0, 0, 0]);
  });

  it('and accepting a loss does not help where the log does not tell what is newest', async () => {
    const small = new SmallCache();
    for (let n = 0; n < 4; n++) small.writeFua(10 + n, 1, 1 + n);
    const { segment } = keysOf(small.pmem)[2];
    for (const copy of generationCopies(geometry, segment)) small.pmem.bytes.set(encodeGeneration(9, 5), copy);
    const { result, backing } = start(small, { options: { acceptLoss: true } });
    await expect(result).rejects.toThrow(/KEY_STALE_DIRTY .* run "pcache fsck --repair .*" first$/);
    expect(backing.calls).toEqual([]);
  });

  it('or with a backing device that is too small for its keys', async () => {
    const small = new SmallCache();
    small.writeFua(16000, 4, 1);
    const other = new SmallCache({ sectors: 8192 });
    await expect(start(small, { on: other.backing }).result).rejects.toThrow(
      /KEY_BEYOND_BACKING .* give the backing device that belongs/,
    );
  });

  it('but a torn kset at its end, and a superblock that is gone, are told and passed over', async () => {
    const small = new SmallCache();
    small.writeFua(10, 4, 1);
    small.writeFua(20, 4, 2);
    small.pmem.bytes[keysOf(small.pmem)[1].kset + 30] ^= 1;
    small.pmem.bytes.fill(0, 4096, 4096 + 24);
    const result = await start(small).result;
    expect(result.findings.map((finding) => finding.code)).toEqual(['SUPERBLOCK_ZERO_MAGIC', 'LOG_END_TORN']);
    expect(result).toMatchObject({ complete: false, failedBytes: 0, writtenBytes: 4 * SECTOR });
    expect(small.durableIds(10, 4)).toEqual([1, 1, 1, 1]);
  });
});
