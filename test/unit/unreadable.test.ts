/** A cache device that cannot be read in places: everything reads on past them, and says where they are. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { repairBrokenCopies } from '../../src/engine/copies/repair-copies.js';
import type { Pmem, PmemReader } from '../../src/engine/device/pmem.js';
import { bestCrc32c } from '../../src/engine/device/native.js';
import { openPmem } from '../../src/engine/device/open.js';
import { TolerantReader } from '../../src/engine/device/tolerant-reader.js';
import { PcacheError } from '../../src/engine/errors.js';
import { LogicalReader } from '../../src/engine/inspect/logical-reader.js';
import { loadCacheOrThrow, readMetadataOf } from '../../src/engine/log/recovery.js';
import type { ByteRange } from '../../src/engine/media/byte-range.js';
import {
  CACHE_INFO_COPIES,
  generationCopies,
  segmentDataOffsetBytes,
  segmentInfoCopies,
} from '../../src/engine/media/geometry.js';
import { ksetBytes } from '../../src/engine/media/kset.js';
import { CopyState } from '../../src/engine/media/metadata.js';
import { checkCache } from '../../src/fsck/check.js';
import { nothingLost } from '../../src/fsck/repair/losses.js';
import { repairCache, type RepairResult } from '../../src/fsck/repair/repair.js';
import type { RepairDevice } from '../../src/fsck/repair/types.js';
import { packSteps } from '../../src/pack/pack.js';
import { unpackSteps } from '../../src/pack/unpack.js';
import { withBadBlocks, withBadPlaces } from '../support/bad-places.js';
import { UndoInMemory } from '../support/damage/oracle.js';
import { Overlay } from '../support/damage/overlay.js';
import { geometryOf } from '../support/sim-device.js';
import { SMALL, SmallCache } from '../support/small-cache.js';

const geometry = geometryOf(SMALL);
const folder = mkdtempSync(join(tmpdir(), 'pcache-unreadable-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const codes = (reader: PmemReader, data = false): string[] =>
  checkCache(reader, { geometry, data }).findings.map(({ code }) => code);

/** A cache with four keys, and the byte on the device where its log begins. */
function usedCache(dataCrc = false): { small: SmallCache; log: number } {
  const small = new SmallCache({ dataCrc });
  for (let n = 0; n < 4; n++) small.writeFua(10 + n, 1, 1 + n);
  return { small, log: segmentDataOffsetBytes(geometry, small.load().keyTail.segment) };
}

/** Where the payload of the nth key lies on the device. */
function payloadAt(small: SmallCache, sector: number): number {
  const { index, segments } = small.load();
  index.seek(0, sector);
  return segments.dataOffsetBytes[index.segment] + index.offsetSectors * 512;
}

describe('a tolerant reader', () => {
  const bytes = Uint8Array.from({ length: 64 * 1024 }, (_, n) => n % 251);
  const source = {
    path: 'device',
    sizeBytes: bytes.length,
    read: (offset: number, target: Uint8Array, at: number, length: number) =>
      target.set(bytes.subarray(offset, offset + length), at),
    crc32c: () => 0,
  };

  it('reads everything but the sectors that cannot be read, and names those', () => {
    const bad = [5000, 20_000, 20_500];
    const reader = new TolerantReader(
      withBadPlaces(source, (offset, length) => bad.some((byte) => offset <= byte && byte < offset + length)),
    );
    const target = new Uint8Array(40_000);
    reader.read(100, target, 0, target.length);
    for (let n = 0; n < target.length; n++) {
      const isBad = bad.some((byte) => Math.floor(byte / 512) === Math.floor((100 + n) / 512));
      if (target[n] !== (isBad ? 0xff : bytes[100 + n])) expect([n, target[n]]).toEqual([n, 'another byte']);
    }
    expect(reader.unreadable).toEqual([
      { offsetBytes: 4608, lengthBytes: 512 },
      { offsetBytes: 19_968, lengthBytes: 1024 },
    ]);
  });

  it('passes over no other error than one of the medium', () => {
    const reader = new TolerantReader({
      ...withBadPlaces(source, () => false),
      read: () => {
        throw new PcacheError('CLOSED', 'device: closed');
      },
    });
    expect(() => reader.read(0, new Uint8Array(512), 0, 512)).toThrow(/closed/);
  });
});

describe('metadata of which one copy cannot be read', () => {
  it.each([
    ['cache_info', CACHE_INFO_COPIES],
    ['the info of a segment', segmentInfoCopies(geometry, 2)],
  ])('is read from the other copy, and fsck says so: %s', (_what, copies) => {
    const { small } = usedCache();
    const good = readMetadataOf(small.pmem, geometry);
    const older = copies === CACHE_INFO_COPIES ? 1 - good.cacheInfo.winner : 1 - good.chain.infoWinner[2];
    const reader = withBadBlocks(small.pmem, copies[older]);
    expect(readMetadataOf(reader, geometry).problems).toEqual([]);
    const options = { geometry, backingBytes: small.backing.sizeBytes, checkPayload: false };
    expect(loadCacheOrThrow(reader, options).keyCount).toBe(4);
    expect(codes(reader)).toEqual([
      copies === CACHE_INFO_COPIES ? 'CACHE_INFO_COPY_LOST' : 'SEGMENT_INFO_COPY_LOST',
      'METADATA_UNREADABLE',
    ]);
  });
});

/** A device with bad blocks that take no store either; `writeOver` heals them, as it does on a mapping. */
function withBadMappedBlocks(image: Overlay, ...bytes: number[]): RepairDevice & { readonly over: number[] } {
  const starts = new Set(bytes.map((byte) => byte - (byte % 4096)));
  const reader = withBadPlaces(image, (offset, length) =>
    [...starts].some((start) => start < offset + length && offset < start + 4096),
  );
  const over: number[] = [];
  return {
    ...reader,
    over,
    write: (offset, source, at, length) => {
      reader.read(offset, new Uint8Array(length), 0, length);
      image.write(offset, source.subarray(at, at + length));
    },
    writeOver: (offset, source) => {
      over.push(offset);
      for (let at = offset - (offset % 4096); at < offset + source.length; at += 4096) {
        if (starts.delete(at)) image.write(at, new Uint8Array(4096).fill(0xff));
      }
      image.write(offset, source);
    },
    persist: () => undefined,
  };
}

describe('metadata that can be neither read nor stored to', () => {
  const usedBlocks = (): { small: SmallCache; image: Overlay } => {
    const small = new SmallCache({ dataCrc: true });
    for (let n = 0; n < 4; n++) small.writeFua(100 * n, 8, 1 + n);
    return { small, image: new Overlay(small.pmem) };
  };
  const repair = ({ backing }: SmallCache, device: RepairDevice, undo: UndoInMemory): Promise<RepairResult> => {
    const options = { geometry, backingBytes: backing.sizeBytes, data: true, relinkDoubtful: false };
    return repairCache({ ...options, device, undo, ask: () => 'yes' });
  };

  it('is written over by a repair, whole block by whole block, and can be undone', async () => {
    const { small, image } = usedBlocks();
    const bad = [CACHE_INFO_COPIES[1], segmentInfoCopies(geometry, 3)[0], generationCopies(geometry, 0)[0]];
    const device = withBadMappedBlocks(image, ...bad);
    const undo = new UndoInMemory();
    const { before, after, losses } = await repair(small, device, undo);
    expect(before.findings.map(({ code }) => code)).toContain('METADATA_UNREADABLE');
    expect(after.findings).toEqual([]);
    expect(nothingLost(losses)).toBe(true);
    const blocks = device.over.map((at) => at - (at % 4096));
    expect(new Set(blocks)).toEqual(new Set(bad));
    undo.apply(image);
    for (const at of bad) {
      const bytes = new Uint8Array(16);
      image.read(at, bytes, 0, bytes.length);
      expect(bytes).toEqual(new Uint8Array(16).fill(0xff));
    }
  });

  it('is written over when the cache is opened for writing', () => {
    const { image } = usedBlocks();
    const bad = [CACHE_INFO_COPIES[1], segmentInfoCopies(geometry, 3)[0]];
    const device = withBadMappedBlocks(image, ...bad);
    expect(repairBrokenCopies(device as unknown as Pmem, readMetadataOf(device, geometry))).toBe(2);
    expect(new Set(device.over)).toEqual(new Set(bad));
    const { cacheInfo, chain } = readMetadataOf(device, geometry);
    expect(cacheInfo.copies.map(({ crcOk }) => crcOk)).toEqual([true, true]);
    expect(chain.infoState[3] & (CopyState.valid0 | CopyState.valid1)).toBe(CopyState.valid0 | CopyState.valid1);
  });

  it('does not keep a lost cache_info from being rebuilt where payload cannot be read either', async () => {
    const { small, image } = usedBlocks();
    for (const at of CACHE_INFO_COPIES) image.write(at, new Uint8Array(24));
    const device = withBadMappedBlocks(image, payloadAt(small, 0));
    const { made } = await repair(small, device, new UndoInMemory());
    const rebuilt = made.find(({ codes }) => codes.includes('CACHE_INFO_LOST'));
    expect(rebuilt?.assumed).toMatch(/data_crc on, since [1-3] of [1-3] payloads match/);
  });
});

describe('a log that cannot be read in a place', () => {
  it('is checked behind that place too: what follows belongs to it', () => {
    const { small, log } = usedCache();
    const at = log + ksetBytes(1) + 30;
    const reader = withBadPlaces(small.pmem, (offset, length) => offset <= at && at < offset + length);
    const found = codes(reader);
    expect(found).toContain('METADATA_UNREADABLE');
    expect(found.some((code) => code.startsWith('LOG_'))).toBe(true);
  });

  it('is not taken for a shorter one by the engine', () => {
    const { small, log } = usedCache();
    const options = { geometry, backingBytes: small.backing.sizeBytes, checkPayload: false };
    expect(() => loadCacheOrThrow(withBadBlocks(small.pmem, log), options)).toThrow(/bad place/);
  });
});

describe('payload that cannot be read', () => {
  it('does not keep a cache with data_crc from being loaded', () => {
    const { small } = usedCache(true);
    const reader = withBadBlocks(small.pmem, payloadAt(small, 12));
    const options = { geometry, backingBytes: small.backing.sizeBytes, checkPayload: true };
    expect(loadCacheOrThrow(reader, options).keyCount).toBe(4);
  });

  it('reads as zeroes, sector by sector, where the caller takes the holes', () => {
    const { small } = usedCache();
    const bad = payloadAt(small, 12);
    const reader = withBadPlaces(small.pmem, (offset, length) => offset <= bad && bad < offset + length);
    const options = { geometry, backingBytes: Infinity, checkPayload: false };
    const logical = new LogicalReader(reader, loadCacheOrThrow(small.pmem, options), undefined);
    const [target, whole] = [new Uint8Array(4 * 512), new Uint8Array(4 * 512)];
    const holes: ByteRange[] = [];
    logical.read(10 * 512, target, 0, target.length, (hole) => holes.push(hole));
    expect(holes).toEqual([{ offsetBytes: 12 * 512, lengthBytes: 512 }]);
    new LogicalReader(small.pmem, loadCacheOrThrow(small.pmem, options), undefined).read(10 * 512, whole, 0, 2048);
    expect(target).toEqual(whole.fill(0, 1024, 1536));
    expect(() => logical.read(10 * 512, target, 0, target.length)).toThrow(/bad place/);
  });
});

describe('a pack with the data of a device that cannot be read in places', () => {
  it('says where, and so does what is unpacked from it, with 0xff for what is missing', () => {
    const { small } = usedCache(true);
    const bad = payloadAt(small, 12);
    const start = bad - (bad % 4096);
    const want = [{ offsetBytes: start, lengthBytes: 4096 }];
    const steps = packSteps(withBadBlocks(small.pmem, bad), { geometry, crc: bestCrc32c(), payload: true });
    const parts: Uint8Array[] = [];
    let step = steps.next();
    for (; !step.done; step = steps.next()) if (step.value.bytes !== undefined) parts.push(step.value.bytes.slice());
    expect(step.value).toMatchObject({ unreadableBytes: 4096, unreadable: want });

    const [pack, image] = [join(folder, 'pack'), join(folder, 'image')];
    writeFileSync(pack, Buffer.concat(parts));
    const unpacking = unpackSteps(pack, image, true);
    let end = unpacking.next();
    while (!end.done) end = unpacking.next();
    expect(end.value).toMatchObject({ hasPayload: true, unreadable: want });
    const unpacked = readFileSync(image);
    const whole = Buffer.from(small.pmem.bytes);
    expect(unpacked.equals(whole.fill(0xff, start, start + 4096))).toBe(true);
  });
});

describe('writing over what a mapping cannot store to', () => {
  it('keeps what lies around the range in its blocks, at the end of the device too', () => {
    const path = join(folder, 'device');
    const before = Uint8Array.from({ length: 20_480 + 512 }, (_, n) => n % 253);
    writeFileSync(path, before);
    const device = openPmem(path);
    for (const at of [8192, 12_000, 20_480 + 500]) {
      device.writeOver(at, new Uint8Array(12).fill(7));
      before.fill(7, at, at + 12);
      const mapped = new Uint8Array(before.length);
      device.read(0, mapped, 0, mapped.length);
      expect(mapped).toEqual(before);
    }
    device.close();
    expect(new Uint8Array(readFileSync(path))).toEqual(before);
  });
});
