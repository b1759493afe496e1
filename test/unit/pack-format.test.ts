/**
 * Packs without payload: a check of the pack finds what a check of the cache finds, whatever the damage; no byte
 * of payload is in it; and a pack that is itself damaged is told in one line.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PmemReader } from '../../src/engine/device/pmem.js';
import { bestCrc32c } from '../../src/engine/device/native.js';
import { PcacheError } from '../../src/engine/errors.js';
import { PACK_FRAME_BYTES, PACK_HEADER_BYTES } from '../../src/engine/pack/pack-format.js';
import { PackReader } from '../../src/engine/pack/pack-reader.js';
import { KERNEL_GEOMETRY, segmentDataOffsetBytes, type Geometry } from '../../src/engine/media/geometry.js';
import { ksetBytes, KsetField } from '../../src/engine/media/kset.js';
import { LogWalker } from '../../src/engine/media/log-walker.js';
import { readMetadata } from '../../src/engine/media/metadata.js';
import { Random } from '../../src/engine/sim/random.js';
import { checkCache, type CheckResult } from '../../src/fsck/check.js';
import { packSteps, type PackTotals } from '../../src/pack/pack.js';
import { unpackSteps } from '../../src/pack/unpack.js';
import { runsOf } from '../../src/pack/verdicts.js';
import { BASE_NAMES, loadBases, shapeOf, type Base } from '../support/damage/bases.js';
import { DAMAGERS, type BaseName, type Damager } from '../support/damage/damagers.js';
import { geometryOf } from '../support/sim-device.js';
import { SmallCache } from '../support/small-cache.js';
import { countOf, itLong } from '../support/long.js';
import { SparseImage } from '../support/sparse-image.js';

const folder = mkdtempSync(join(tmpdir(), 'pcache-pack-unit-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const crc = bestCrc32c();
const packPath = join(folder, 'x.pack');

interface Packed {
  readonly bytes: Buffer;
  readonly totals: PackTotals;
}

function packBytes(pmem: PmemReader, geometry: Geometry, payload = false): Packed {
  const steps = packSteps(pmem, { geometry, crc, payload });
  const pieces: Uint8Array[] = [];
  for (;;) {
    const step = steps.next();
    if (step.done) return { bytes: Buffer.concat(pieces), totals: step.value };
    if (step.value.bytes !== undefined) pieces.push(step.value.bytes);
  }
}

/** Calls `look` with a pack of a cache, as a reader of its file. */
function withPack<T>(pmem: PmemReader, geometry: Geometry, look: (pack: PackReader) => T, payload = false): T {
  writeFileSync(packPath, packBytes(pmem, geometry, payload).bytes);
  return withFile(look);
}

function withFile<T>(look: (pack: PackReader) => T): T {
  const reader = new PackReader(packPath);
  try {
    return look(reader);
  } finally {
    reader.close();
  }
}

/** Messages name the device by its path. */
function findingsOf(reader: PmemReader, base: Parameters<typeof shapeOf>, data: boolean): unknown {
  let result: CheckResult;
  try {
    result = checkCache(reader, { ...shapeOf(...base), data });
  } catch (error) {
    return error instanceof PcacheError ? error.code : error;
  }
  const { findings, omitted, notChecked } = result;
  // What is no kset is not in a pack, and whoever judges where the log ends may look there for a few bytes more.
  const { bytesRead: _bytesRead, ...examined } = result.examined;
  return { findings: findings.map(({ code, where }) => [code, where]), omitted, examined, notChecked };
}

let bases: Map<BaseName, Base>;
beforeAll(async () => {
  bases = await loadBases();
});

describe('a check of a pack finds what a check of the cache finds', () => {
  const damaged = (damager: Damager): PmemReader => {
    const image = bases.get(damager.base)!.device.clone();
    return damager.damage(image) ?? image;
  };
  const title = (one: Damager): string => `${one.code}${one.variant ? ` (${one.variant})` : ''} on ${one.base}`;
  // A pack takes a while, so one damage of each code has to do, and of these every fourth in `npm test`.
  const one = DAMAGERS.filter(({ code }, n) => DAMAGERS.findIndex((other) => other.code === code) === n);
  const every = countOf({ share: 4, all: 1 });
  const some = one.filter((_, n) => n % every === 0);
  const TITLE = `%s (one of ${some.length} of ${one.length})`;
  it.each(some.map((damager) => [title(damager), damager] as const))(TITLE, (_title, damager) => {
    const base = [damager.base, damager.backingBytes] as const;
    const reader = damaged(damager);
    const expected = findingsOf(reader, [...base], true);
    // What the medium could not read is told by other words, and counted by other lengths.
    const found = withPack(reader, KERNEL_GEOMETRY, (pack) => findingsOf(pack, [...base], true));
    expect(found).toEqual(expected);
    expect(expected).toHaveProperty('findings');
  });

  it.each(BASE_NAMES)('nothing in %s', (name) => {
    const { device } = bases.get(name)!;
    const found = withPack(device, KERNEL_GEOMETRY, (pack) => findingsOf(pack, [name], true));
    expect(found).toEqual(findingsOf(device, [name], true));
    expect(found).toHaveProperty('findings', []);
  });

  // LOG_LOST goes by payload, which an unpacked image does not have.
  const ofLog = one.filter(
    ({ code }) => (code.startsWith('LOG_') && code !== 'LOG_LOST') || code.startsWith('DIRTY_TAIL_NOT'),
  );
  for (const damager of ofLog) {
    itLong(`${title(damager)}, also after it was unpacked, but for payload`, { timeout: 120_000 }, () => {
      const target = join(folder, 'unpacked');
      const reader = damaged(damager);
      writeFileSync(packPath, packBytes(reader, KERNEL_GEOMETRY).bytes);
      const last = [...unpackSteps(packPath, target, true)].at(-1);
      expect(last).toEqual({ done: reader.sizeBytes, total: reader.sizeBytes });
      const base = [damager.base, damager.backingBytes] as const;
      expect(findingsOf(SparseImage.fromFile(target), [...base], false)).toEqual(findingsOf(reader, [...base], false));
    });
  }
});

const geometry = geometryOf({ segmentBytes: 20 * 1024 });

/** A cache whose payload is no byte that a pack may hold, and whose segments were put to use again and again. */
function usedCache(dataCrc: boolean): SmallCache {
  const small = new SmallCache({ dataCrc, aged: false });
  const random = new Random(11);
  for (let n = 1; n < 80; n++) {
    small.writeFua(random.below(400), 1 + random.below(6), n);
    small.settle();
  }
  return small;
}

describe('a pack without payload', () => {
  it('holds no byte of it, of whatever life of a segment', () => {
    const small = usedCache(true);
    // Everything in the data areas that is no kset and no zero: payload of this life or of an earlier one.
    const { chain, keyTail } = readMetadata(small.pmem, geometry);
    const isKset = new Uint8Array(small.pmem.sizeBytes);
    const walker = new LogWalker(small.pmem, geometry, chain, keyTail.value!);
    while (walker.next()) {
      const at = chain.dataOffsetBytes[walker.segment] + walker.offsetBytes;
      isKset.fill(1, at, at + walker.kset.lengthBytes);
    }
    withPack(small.pmem, geometry, (pack) => {
      const held = new Uint8Array(pack.sizeBytes);
      pack.read(0, held, 0, held.length);
      let payloadBytes = 0;
      let loggedBytes = 0;
      for (const start of chain.dataOffsetBytes) {
        for (let at = start; at < start + geometry.segmentDataBytes; at++) {
          if (isKset[at] === 1) {
            loggedBytes++;
            expect(held[at]).toBe(small.pmem.bytes[at]);
          } else if (![0, 0xff].includes(small.pmem.bytes[at]) && ![0, 0xff].includes(held[at])) {
            // A kset that is not part of the log any more, whole.
            expect(oldKsetAround(small.pmem.bytes, at)).toBe(true);
          } else if (small.pmem.bytes[at] !== 0) payloadBytes++;
        }
      }
      expect(loggedBytes).toBeGreaterThan(500);
      expect(payloadBytes).toBeGreaterThan(10_000);
    });
  });

  it('is the same bytes every time, and says what it is', () => {
    const small = usedCache(true);
    const [first, second] = [packBytes(small.pmem, geometry), packBytes(small.pmem, geometry)];
    expect(first.bytes.equals(second.bytes)).toBe(true);
    expect(first.totals).toMatchObject({
      deviceBytes: small.pmem.sizeBytes,
      packedBytes: first.bytes.length,
      badPayloads: 0,
      unreadableBytes: 0,
    });
  });

  it('knows which payload was good, and answers for no other', () => {
    const small = new SmallCache({ dataCrc: true });
    small.writeFua(10, 4, 1);
    small.writeFua(20, 4, 2);
    const { chain } = readMetadata(small.pmem, geometry);
    const walker = new LogWalker(small.pmem, geometry, chain, { segment: 0, offsetBytes: 0 });
    walker.next();
    const offset = chain.dataOffsetBytes[walker.kset.keySegment(0)] + walker.kset.keySegmentOffsetBytes(0);
    const wanted = walker.kset.keyDataCrc(0);
    withPack(small.pmem, geometry, (pack) => {
      expect(pack.crc32c(offset, 4 * 512, 0)).toBe(wanted);
      expect(() => pack.crc32c(offset, 512, 0)).toThrow(/pack without payload/);
    });
    small.pmem.bytes[offset] ^= 1;
    expect(packBytes(small.pmem, geometry).totals.badPayloads).toBe(1);
    withPack(small.pmem, geometry, (pack) => expect(pack.crc32c(offset, 4 * 512, 0)).not.toBe(wanted));
  });

  it('holds what lies where a kset should be, though nothing says that it is one', () => {
    const small = new SmallCache();
    for (let n = 0; n < 3; n++) small.writeFua(10 + n, 1, n + 1);
    const last = segmentDataOffsetBytes(geometry, 0) + 2 * ksetBytes(1);
    const kset = small.pmem.bytes.subarray(last, last + ksetBytes(1));
    // Its magic is gone, and with it the end of the log moves here.
    kset[KsetField.magic] ^= 1;
    withPack(small.pmem, geometry, (pack) => {
      const held = new Uint8Array(kset.length);
      pack.read(last, held, 0, held.length);
      expect(Buffer.compare(held, kset)).toBe(0);
    });
  });

  it('does not end a log, when it is unpacked, that had no proper end', () => {
    const small = new SmallCache({ aged: false });
    // Ksets of one and of two keys, so that the last one ends 16 bytes before the end of a page.
    for (let n = 0; n < 54; n++) small.writeFua(n, 1, 1);
    for (let n = 0; n < 6; n++) {
      small.write(100 + n, 1, 2);
      small.write(200 + n, 1, 3);
      small.flush();
    }
    const end = segmentDataOffsetBytes(geometry, 0) + 4096 - 16;
    expect(small.load().keyHead).toEqual({ segment: 0, offsetBytes: 4096 - 16 });
    small.pmem.bytes.fill(0xff, end + 16, end + 4096);
    writeFileSync(packPath, packBytes(small.pmem, geometry).bytes);
    const target = join(folder, 'unpacked');
    const { sizeBytes } = small.pmem;
    expect([...unpackSteps(packPath, target, true)].at(-1)).toEqual({ done: sizeBytes, total: sizeBytes });
    for (const reader of [small.pmem, SparseImage.fromFile(target)]) {
      const { findings } = checkCache(reader, { geometry, data: false });
      expect(findings.map((finding) => finding.code)).toEqual(['LOG_END_TORN']);
    }
  });

  it('says what could not be read', () => {
    const small = new SmallCache();
    small.writeFua(10, 4, 1);
    const bad = small.pmem.sizeBytes - 6000;
    const reader: PmemReader = {
      path: small.pmem.path,
      sizeBytes: small.pmem.sizeBytes,
      read: (offset, target, at, length) => {
        if (offset <= bad && bad < offset + length) throw new PcacheError('IO', 'bad place');
        small.pmem.read(offset, target, at, length);
      },
      crc32c: (offset, length, seed) => small.pmem.crc32c(offset, length, seed),
      close: () => undefined,
    };
    expect(packBytes(reader, geometry).totals.unreadableBytes).toBe(4096);
    withPack(reader, geometry, (pack) => {
      expect(() => pack.read(bad, new Uint8Array(1), 0, 1)).toThrow(/could not be read when it was packed/);
      pack.read(Math.floor(bad / 4096) * 4096 - 1, new Uint8Array(1), 0, 1);
    });
  });
});

/** Is there a kset that covers a byte? */
function oldKsetAround(bytes: Uint8Array, at: number): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let start = at - (at % 8); start >= Math.max(0, at - 5144); start -= 8) {
    if (view.getUint32(start + 8, true) !== 0x4e164f1a || view.getUint32(start + 12, true) !== 0x676894a6) continue;
    const isLast = (view.getUint32(start + 16, true) & 1) !== 0;
    const length = isLast ? 24 : 24 + 40 * view.getUint32(start + 4, true);
    if (start + length > at) return true;
  }
  return false;
}

describe('a pack with payload', () => {
  it('reads as the cache does, to the last byte', () => {
    const small = usedCache(true);
    withPack(
      small.pmem,
      geometry,
      (pack) => {
        const all = new Uint8Array(pack.sizeBytes);
        pack.read(0, all, 0, all.length);
        expect(Buffer.compare(all, small.pmem.bytes)).toBe(0);
        expect(pack.crc32c(5, 200_000, 7)).toBe(small.pmem.crc32c(5, 200_000, 7));
        expect(() => pack.read(pack.sizeBytes - 1, all, 0, 2)).toThrow(/beyond/);
      },
      true,
    );
  });
});

describe('a pack that is damaged itself', () => {
  let good: Buffer;
  beforeAll(() => {
    good = packBytes(usedCache(true).pmem, geometry).bytes;
  });
  const readAll = (): void => {
    withFile((pack) => {
      const all = new Uint8Array(pack.sizeBytes);
      pack.read(0, all, 0, all.length);
      checkCache(pack, { geometry, data: true });
    });
  };
  const oneLine = (error: unknown): string => {
    expect(error).toBeInstanceOf(PcacheError);
    const { message } = error as PcacheError;
    expect(message.startsWith(`${packPath}: `)).toBe(true);
    expect(message).not.toContain('\n');
    return message;
  };

  it('cut short anywhere, is called truncated', () => {
    for (const length of [1, 7, 8, 63, 64, 65, 95, 96, 97, good.length - 33, good.length - 1]) {
      writeFileSync(packPath, good.subarray(0, length));
      try {
        readAll();
        expect.unreachable();
      } catch (error) {
        expect(oneLine(error)).toMatch(length < 8 ? /not a packed cache/ : /truncated pack: it ends at byte/);
      }
    }
  });

  it('with a bit changed anywhere, is told and not believed', () => {
    const random = new Random(5);
    const places = Array.from({ length: 300 }, () => random.below(good.length));
    for (const at of [...new Array(PACK_HEADER_BYTES + PACK_FRAME_BYTES).keys(), ...places]) {
      const bytes = Buffer.from(good);
      bytes[at] ^= 1 << random.below(8);
      writeFileSync(packPath, bytes);
      try {
        readAll();
        expect.unreachable(`byte ${at}`);
      } catch (error) {
        expect(oneLine(error)).toMatch(at < 8 ? /not a packed cache/ : /damaged pack|truncated pack|version/);
      }
    }
  });

  it('and made by a later version, is refused by name', () => {
    const bytes = Buffer.from(good);
    bytes.writeUInt32LE(2, 8);
    bytes.writeUInt32LE(crc(0x0003b15a, bytes, 0, 60), 60);
    writeFileSync(packPath, bytes);
    expect(() => new PackReader(packPath)).toThrow(/: a pack of version 2; use the pcache that made it$/);
  });
});

it('runs of numbers', () => {
  expect(runsOf(new Float64Array([]))).toEqual([]);
  expect(runsOf(new Float64Array([5]))).toEqual([[5, 0, 1]]);
  expect(runsOf(new Float64Array([5, 8, 11, 14, 2, 5]))).toEqual([
    [5, 3, 4],
    [2, 3, 2],
  ]);
  expect(runsOf(new Float64Array([5, 8, 12]))).toEqual([
    [5, 3, 2],
    [12, 0, 1],
  ]);
});
