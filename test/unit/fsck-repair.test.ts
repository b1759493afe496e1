/**
 * Repairs beyond the table of damages: their order, what is asked, mending by CRC, and random damage.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { structCrc } from '../../src/engine/media/crc32c.js';
import {
  KERNEL_GEOMETRY,
  MIB,
  SEGMENTS_OFFSET_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
} from '../../src/engine/media/geometry.js';
import { KEY_BYTES, KeyField, KSET_HEADER_BYTES, ksetBytes, KsetView, sealKset } from '../../src/engine/media/kset.js';
import { Random } from '../../src/engine/sim/random.js';
import { isOutOfOrder } from '../../src/fsck/chain.js';
import { checkCache, examine } from '../../src/fsck/check.js';
import { closeGap, ksetSizesFor } from '../../src/fsck/repair/fill.js';
import { singleByteErrors } from '../../src/fsck/repair/mend.js';
import { mergeRanges, subtractRanges } from '../../src/fsck/repair/ranges.js';
import { repairCache, type Answer } from '../../src/fsck/repair/repair.js';
import type { Fix } from '../../src/fsck/repair/types.js';
import { lengthenOver } from '../../src/fsck/repair/lengthen-ksets.js';
import { runDamage } from '../support/damage/damage-run.js';
import { makeOver } from '../support/damage/damagers.js';
import {
  deviceOffset,
  flip,
  ksetImage,
  ksetsOf,
  writeKset,
  writeSegmentInfo,
  writeTail,
} from '../support/damage/edit.js';
import {
  codesOf,
  listedRanges,
  makeSubject,
  repairOverlay,
  UndoInMemory,
  unexpected,
  type Subject,
} from '../support/damage/oracle.js';
import { Overlay } from '../support/damage/overlay.js';
import { liveSmall } from '../support/damage/small-life.js';
import { unpackImage } from '../support/images.js';
import { SparseImage } from '../support/sparse-image.js';

const shape = { geometry: KERNEL_GEOMETRY, backingBytes: 64 * MIB };
const NO_OPTIONS = {
  data: false,
  relinkDoubtful: false,
  dirtyTailAssumed: false,
  logRelinked: false,
  isSettled: () => false,
};
const segmentAt = (offsetBytes: number): number =>
  Math.floor((offsetBytes - SEGMENTS_OFFSET_BYTES) / KERNEL_GEOMETRY.segmentBytes);
let base: Overlay;
let gcWrap: Subject;

beforeAll(async () => {
  const wrapped = await unpackImage('gc-wrap');
  gcWrap = makeSubject(
    'gc-wrap',
    new Overlay(SparseImage.fromFile(wrapped.cachePath)),
    SparseImage.fromFile(wrapped.backingPath),
    { geometry: KERNEL_GEOMETRY, backingBytes: 96 * MIB },
  );
  base = new Overlay(SparseImage.fromFile((await unpackImage('dirty-crc')).cachePath));
});

function repair(device: Overlay, ask: (fix: Fix) => Answer): ReturnType<typeof repairCache> {
  return repairCache({ ...shape, device, undo: new UndoInMemory(), data: true, relinkDoubtful: false, ask });
}

describe('a repair', () => {
  it('writes a lost superblock last, and persists after every step', async () => {
    const device = base.clone();
    device.zero(4096, 4096);
    device.zero(16384, 64);
    flip(device, deviceOffset(ksetsOf(base).places[4]));
    const events: (number | 'persist')[] = [];
    const write = device.write.bind(device);
    device.write = (offset, ...rest) => {
      events.push(offset);
      write(offset, ...rest);
    };
    device.persist = () => events.push('persist');
    const { after } = await repair(device, () => 'yes');
    expect(after.clean).toBe(true);
    expect(events.at(-1)).toBe('persist');
    expect(events.filter((event) => event !== 'persist').at(-1)).toBe(SUPERBLOCK_OFFSET_BYTES);
    expect(events.indexOf(SUPERBLOCK_OFFSET_BYTES)).toBe(events.length - 2);
    // Of the copies of one tail the second waits for the first.
    const tails = events.map((event, n) => (event === 16384 || event === 16400 ? n : -1)).filter((n) => n >= 0);
    expect(events.slice(tails[0], tails[1])).toContain('persist');
  });

  it('does what is agreed to and leaves the rest', async () => {
    const device = base.clone();
    flip(device, SUPERBLOCK_OFFSET_BYTES + 1);
    device.zero(16384 + 32, 32);
    const asked: string[] = [];
    const result = await repair(device, (fix) => {
      asked.push(...fix.codes);
      return fix.codes.includes('DIRTY_TAIL_LOST') ? 'no' : 'yes';
    });
    expect(asked).toEqual(['DIRTY_TAIL_LOST', 'SUPERBLOCK_BAD_CRC']);
    expect(result.made.flatMap((fix) => fix.codes)).toEqual(['SUPERBLOCK_BAD_CRC']);
    expect(result.after.findings.map((finding) => finding.code)).toEqual(['DIRTY_TAIL_LOST']);
  });

  it('stops when it is told to, and changes nothing of what it was asking about', async () => {
    const device = base.clone();
    flip(device, SUPERBLOCK_OFFSET_BYTES + 1);
    device.zero(16384 + 32, 32);
    const before = device.clone();
    const result = await repair(device, () => 'stop');
    expect([result.stopped, result.made.length]).toEqual([true, 0]);
    expect(device.differences(before)).toEqual([]);
  });

  it('of a sound cache asks nothing and writes nothing', async () => {
    const device = base.clone();
    device.write = () => expect.unreachable('nothing is to be written');
    const result = await repair(device, () => expect.unreachable('nothing is to be asked'));
    expect(result.after).toBe(result.before);
  });

  it('links doubtful ksets only when that is asked for', async () => {
    const damaged = base.clone();
    makeOver(damaged);
    const keysAfter = async (relinkDoubtful: boolean): Promise<number> => {
      const device = damaged.clone();
      const undo = new UndoInMemory();
      const { after } = await repairCache({ ...shape, device, undo, data: true, relinkDoubtful, ask: () => 'yes' });
      expect(after.clean).toBe(true);
      return after.examined.keys;
    };
    expect(await keysAfter(false)).toBe(0);
    expect(await keysAfter(true)).toBe(1054);
  });

  it('blanks broken ksets behind the end of the log, and lists what they name', async () => {
    const device = base.clone();
    const { places } = ksetsOf(base);
    const kset = ksetImage(base, places[2]);
    device.zero(deviceOffset(places[0]), 64 * 1024);
    device.write(deviceOffset(places[2]), kset.subarray(0, kset.length - KEY_BYTES));
    const { made, after } = await repair(device, () => 'yes');
    expect(made.map(({ codes }) => codes)).toEqual([['LOG_MAYBE_CUT_SHORT'], ['LOG_LOST']]);
    const [loss] = made[0].losses;
    expect([loss.kind, loss.mayBeMore]).toEqual(['perhaps-lost', true]);
    const view = new KsetView().attach(kset, 0);
    const named = Array.from({ length: view.keyCount - 1 }, (_, n) => ({
      offsetBytes: view.keyOffsetBytes(n),
      lengthBytes: view.keyLengthBytes(n),
    }));
    expect(loss.ranges).toEqual(mergeRanges(named));
    expect(after.clean).toBe(true);
    expect(device.bytes(deviceOffset(places[2]), KSET_HEADER_BYTES).every((byte) => byte === 0)).toBe(true);
  });

  it('ends an empty log also where a dead kset lies over its beginning, whole where that is blank', async () => {
    const device = base.clone();
    device.zero(deviceOffset({ segment: 0, offsetBytes: 0 }), 64 * 1024);
    const dead = new Uint8Array(ksetBytes(1));
    new DataView(dead.buffer).setUint32(KSET_HEADER_BYTES + KeyField.length, 512, true); // all else is 0
    sealKset(dead, 1);
    const tail = { segment: 0, offsetBytes: 4096 };
    writeKset(device, { segment: 0, offsetBytes: tail.offsetBytes - KEY_BYTES }, dead);
    for (const name of ['KEY_TAIL', 'DIRTY_TAIL'] as const) writeTail(device, name, tail);
    for (const fill of [0, 0xff]) {
      const damaged = device.clone();
      damaged.write(deviceOffset(tail), new Uint8Array(KEY_BYTES).fill(fill));
      const { after } = await repair(damaged, () => 'yes');
      expect(after.clean, codesOf(after).join()).toBe(true);
      expect(after.examined.ksets).toBe(0);
    }
  });

  it('drops corrupt data only when that is asked for, and lists it before', async () => {
    const device = base.clone();
    const kset = new KsetView().attach(ksetImage(device, ksetsOf(device).places[0]), 0);
    const dirty = Array.from({ length: kset.keyCount }, (_, n) => n).find((n) => !kset.keyIsClean(n))!;
    flip(device, deviceOffset({ segment: kset.keySegment(dirty), offsetBytes: kset.keySegmentOffsetBytes(dirty) }));
    const asked: Fix[] = [];
    await repair(device, (fix) => {
      asked.push(fix);
      return 'no';
    });
    expect(asked.map((fix) => [fix.consent, fix.losses[0].kind])).toEqual([['drop-corrupt', 'lost']]);
    expect(checkCache(device, { ...shape, data: true }).clean).toBe(false);
  });
});

describe('mending by CRC', () => {
  it('finds the one byte that was changed, wherever it is', () => {
    const random = new Random(3);
    const whole = ksetImage(base, ksetsOf(base).places[2]);
    expect(singleByteErrors(whole)).toEqual([]);
    for (let n = 0; n < 300; n++) {
      const at = n < 24 ? n : random.below(whole.length);
      const flips = random.between(1, 255);
      const bytes = whole.slice();
      bytes[at] ^= flips;
      expect(singleByteErrors(bytes)).toContainEqual({ at, flips });
    }
  });

  it('finds hardly anything when more was changed', () => {
    const random = new Random(4);
    const whole = ksetImage(base, ksetsOf(base).places[2]);
    let found = 0;
    for (let n = 0; n < 500; n++) {
      const bytes = whole.slice();
      for (let i = 0; i < 64; i++) bytes[1000 + i] = random.below(256);
      found += singleByteErrors(bytes).length;
    }
    expect(found).toBeLessThan(5);
  });
});

describe('ksets that fill a gap', () => {
  it('have the length of any row of ksets', () => {
    const random = new Random(5);
    for (let n = 0; n < 500; n++) {
      const sizes = Array.from({ length: random.between(1, 5) }, () => random.between(1, 128));
      const length = sizes.reduce((sum, keys) => sum + ksetBytes(keys), 0);
      const filling = ksetSizesFor(length)!;
      expect(filling.reduce((sum, keys) => sum + ksetBytes(keys), 0)).toBe(length);
      expect(filling.every((keys) => keys >= 1 && keys <= 128)).toBe(true);
    }
    expect(ksetSizesFor(24)).toBeUndefined();
    expect(ksetSizesFor(72)).toBeUndefined();
  });

  it('keep what is proven in its place, and repeat its neighbour elsewhere', () => {
    const gap = new Uint8Array(ksetBytes(4));
    for (let i = 0; i < 4; i++) gap[KSET_HEADER_BYTES + i * KEY_BYTES + 1] = 2 * (i + 1);
    const beside = new Uint8Array(KEY_BYTES).fill(9);
    const bridge = closeGap(gap, beside, (_kset, index) => index === 1)!;
    expect(bridge.bytes.length).toBe(gap.length);
    expect(new KsetView().attach(bridge.bytes, 0).verdict(gap.length, gap.length)).toBe('ok');
    const first = [0, 1, 2, 3].map((i) => bridge.bytes[KSET_HEADER_BYTES + i * KEY_BYTES + 1]);
    expect(first).toEqual([9, 4, 4, 4]);
    expect(bridge.kept).toEqual([{ offsetBytes: 4 << 8, lengthBytes: 0 }]);
    expect(structCrc(bridge.bytes, 0, gap.length)).toBe(new DataView(bridge.bytes.buffer).getUint32(0, true));
  });

  it('become longer ones where no others have the length of the gap', () => {
    const device = base.clone();
    const [first] = ksetsOf(base).places;
    const keys = ksetImage(base, first).subarray(KSET_HEADER_BYTES);
    const small = Array.from({ length: 6 }, (_, n) => {
      const kset = new Uint8Array(ksetBytes(3));
      kset.set(keys.subarray(3 * n * KEY_BYTES, 3 * (n + 1) * KEY_BYTES), KSET_HEADER_BYTES);
      sealKset(kset, 3);
      return kset;
    });
    const behind = { ...first, offsetBytes: first.offsetBytes + 1024 };
    let place = behind;
    for (const kset of small) place = writeKset(device, place, kset);
    const view = { ...examine(device, { ...shape, data: false }), options: NO_OPTIONS };
    for (let gapBytes = 8; gapBytes <= 400; gapBytes += 8) {
      const gap = { ...behind, offsetBytes: behind.offsetBytes - gapBytes };
      const bytes = lengthenOver(view, gap, behind)!;
      const written: Uint8Array[] = [];
      for (let at = 0; at < bytes.length;) {
        const kset = new KsetView().attach(bytes, at);
        expect(kset.verdict(bytes.length - at, bytes.length - at)).toBe('ok');
        for (let key = at + KSET_HEADER_BYTES; key < at + kset.lengthBytes; key += KEY_BYTES)
          written.push(bytes.subarray(key, key + KEY_BYTES));
        at += kset.lengthBytes;
      }
      // All keys of the ksets that were taken, in order, after the first one as often as it takes.
      const taken = Math.round((bytes.length - gapBytes) / small[0].length);
      const wanted = Array.from({ length: 3 * taken }, (_, n) => keys.subarray(n * KEY_BYTES, (n + 1) * KEY_BYTES));
      expect(written.slice(written.length - wanted.length)).toEqual(wanted);
      for (const key of written.slice(0, written.length - wanted.length)) expect(key).toEqual(wanted[0]);
      expect(bytes.length).toBe(gapBytes + taken * small[0].length);
    }
  });

  it('cannot be made of nothing', () => {
    expect(closeGap(new Uint8Array(ksetBytes(2)), undefined, () => false)).toBeUndefined();
  });
});

describe('ranges', () => {
  const range = (from: number, to: number) => ({ offsetBytes: from, lengthBytes: to - from });
  it('join where they overlap or adjoin', () => {
    expect(mergeRanges([range(5, 7), range(0, 2), range(2, 4), range(6, 9)])).toEqual([range(0, 4), range(5, 9)]);
  });
  it('are taken out of one another', () => {
    expect(subtractRanges([range(0, 10), range(20, 30)], [range(2, 4), range(8, 22), range(29, 40)])).toEqual([
      range(0, 2),
      range(4, 8),
      range(22, 29),
    ]);
    expect(subtractRanges([range(0, 10)], [])).toEqual([range(0, 10)]);
    expect(subtractRanges([range(3, 5), range(6, 9)], [range(0, 10)])).toEqual([]);
  });
});

describe('damage that random runs found', () => {
  // As `npm run damage -- --seed N --runs 1` does it.
  it.each([
    [3046608, 'moves the end of the log to its beginning, before leftovers that end the search for more'],
    [6010008, 'the same, with both tails lost'],
    [3068982, 'wipes both tails and the LAST kset: two rows of ksets end as a log ends'],
    [5012697, 'wipes both tails, and breaks a kset of a row that leads to the other'],
    [5011367, 'leaves a LAST kset in the middle of a kset, before the true one'],
    [5020775, 'moves zeroes to the end of the log: more than a crash leaves where there is data_crc'],
    [5005115, 'moves a kset to the end of its segment, where no LAST kset has room behind it'],
    [5011558, 'makes the only key of the last kset stale, with none beside it that could take its place'],
    [7016673, 'wipes a kset, and makes the last one stale'],
    [7021575, 'leaves a gap that no ksets fill, twice, with one free segment'],
    [7026436, 'lets ksets change places, which nothing tells'],
    [7026986, 'moves the end of the log before what an earlier cache left, which nothing tells'],
    [9618156, 'lets the log change places with what is dead: most of it is stale, and is not taken back'],
    [9624207, 'moves the end of the log, and tears what is behind it'],
    [9006187, 'wipes cache_info, and damages the only payload that could tell of data_crc'],
    [7020973, 'moves a kset so that its CRC mends it where it is now'],
    [9645232, 'moves the last kset with the end of the log to the place of the one before it, and tears that one'],
    [9644882, 'the same, with that one in two whole pieces'],
    [9747448, 'leads the log on to dead ksets: their keys are no evidence against generations'],
    [71026539, 'wipes cache_info, and breaks the only kset, whose keys could tell of data_crc'],
    [71014394, 'wipes cache_info and both tails: the keys that could tell of data_crc are found after the log'],
    [71035778, 'wipes both tails, and gives a segment an earlier generation: dead keys look current'],
    [71040164, 'breaks the log in two places: a segment that it goes on in is not free for what is moved'],
    [72035748, 'breaks the log before dirty_tail, and zeroes the kset there, before keys that look stale'],
    [81010399, 'lets the beginnings of two segments of the log change places: what dirty_tail points to stays behind'],
    [85017678, 'wipes a kset, makes one behind it stale, and breaks the end of the log'],
    [85027323, 'breaks a kset that then says it is longer than what is left of the device'],
    [86003428, 'wipes a kset, and lets generations change places: of the two behind it one has stale keys'],
    [87096188, 'leaves a gap that no ksets fill, before old ksets that it put there'],
    [110074257, 'puts dead ksets over the log, as many segments of which look stale as not: no evidence against these'],
    [96015603, 'overwrites the whole log, after it put an old kset there that is whole once the log is blank'],
    [120021373, 'wipes the link to the next segment, where a LAST kset that leads to its own segment lies over a kset'],
    [140001986, 'makes a filesystem over both tails: ksets that were collected look like those of the log'],
    [140002865, 'breaks the last kset and a generation: its keys are current only once that is right'],
    [140001974, 'restores the log from before, and lets infos change places: it is lost before and after'],
  ])('%i %s', async (seed) => {
    const run = await runDamage(liveSmall(Math.floor(seed / 2000) * 50 + (seed % 50)), seed);
    expect(run.failure).toBe('');
  });

  it.each([
    [87046760, 'lets infos change places by two and two, and ends that chain early'],
    [87092520, 'lets infos change places by two and two, so that dirty keys look stale, and breaks the log'],
  ])('%i %s', async (seed) => {
    const run = await runDamage(gcWrap, seed);
    expect(run.failure).toBe('');
  });
});

describe('a chain that is whole but out of order', () => {
  const swap = (device: Overlay, [a, b, c, d]: readonly number[]): void => {
    writeSegmentInfo(device, a, c + 1);
    writeSegmentInfo(device, c, a + 1);
    writeSegmentInfo(device, b, d + 1);
    writeSegmentInfo(device, d, b + 1);
  };
  const put = (places: readonly number[]) => {
    const device = gcWrap.device.clone();
    swap(device, places);
    return device;
  };

  it('is put in order, and what nothing proves is listed', async () => {
    const device = put([8, 17, 28, 29]);
    const { after, made } = await repairOverlay(device, gcWrap.shape, new UndoInMemory(), { dropCorrupt: false });
    expect(after.clean).toBe(true);
    // Without payload CRCs: all keys into segments 9 to 29, each of which was another one.
    const listed = listedRanges(made);
    const moved = gcWrap.keys.filter(({ payloadAt }) => segmentAt(payloadAt) > 8 && segmentAt(payloadAt) < 30);
    expect(moved.length).toBeGreaterThan(1000);
    expect(subtractRanges(moved, listed)).toEqual([]);
    expect(subtractRanges(listed, moved)).toEqual([]);
    expect(unexpected(gcWrap, device, [])).toBe('');
  });

  it('loses nothing where generations of dirty keys prove the order', async () => {
    const device = put([1, 6, 22, 29]);
    expect(codesOf(checkCache(device, { ...gcWrap.shape, data: true }))).toContain('KEY_STALE_DIRTY');
    const { after, made } = await repairOverlay(device, gcWrap.shape, new UndoInMemory(), { dropCorrupt: false });
    expect(after.clean).toBe(true);
    expect(made.flatMap(({ losses }) => losses)).toEqual([]);
    expect(unexpected(gcWrap, device, [])).toBe('');
  });

  it('loses nothing where payload matches its CRCs in order, and not as it was', async () => {
    const device = base.clone();
    swap(device, [0, 1, 2, 3]);
    expect(codesOf(checkCache(device, { ...shape, data: true }))).toContain('PAYLOAD_CRC_CURRENT');
    const { after, made } = await repairOverlay(device, shape, new UndoInMemory(), { dropCorrupt: false });
    expect(after.clean).toBe(true);
    expect(made.flatMap(({ losses }) => losses)).toEqual([]);
  });

  it('is left as it is where it has no order at all', () => {
    expect(isOutOfOrder([0, 1, 2, 3, 4])).toBe(false);
    expect(isOutOfOrder([0, 3, 4, 1, 2])).toBe(true);
    expect(isOutOfOrder([0, 4, 3, 2, 1])).toBe(false);
    expect(isOutOfOrder([2, 3, 4, 0, 1])).toBe(false);
    expect(isOutOfOrder([0])).toBe(false);
  });
});

describe('random damage', () => {
  // More of it: npm run damage.
  it.each([1, 2, 3, 4, 5, 6])('of small caches comes to a good end (seeds from %i00000)', async (group) => {
    const outcomes = new Map<string, number>();
    for (let life = 0; life < 10; life++) {
      const subject = liveSmall(group * 1000 + life);
      for (let n = 0; n < 10; n++) {
        const seed = group * 100_000 + life * 100 + n;
        const run = await runDamage(subject, seed);
        expect(run.failure, `seed ${seed} on ${subject.name}: ${run.kinds.join(', ')}`).toBe('');
        outcomes.set(run.outcome, (outcomes.get(run.outcome) ?? 0) + 1);
      }
    }
    // The damages do something, and most can be repaired.
    expect((outcomes.get('repaired') ?? 0) + (outcomes.get('listed') ?? 0)).toBeGreaterThan(50);
  });
});
