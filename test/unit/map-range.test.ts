/** Which key holds which bytes, and what lies under it: against the kernel's own reading, and version by version. */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { bestCrc32c } from '../../src/engine/device/native.js';
import { openForInspection, type InspectedDevices } from '../../src/engine/inspect/open.js';
import { encodeGeneration } from '../../src/engine/media/codecs.js';
import { generationCopies, KERNEL_GEOMETRY } from '../../src/engine/media/geometry.js';
import { mapRange, type MappedRange } from '../../src/engine/inspect/map-range.js';
import { describeImages, unpackImage } from '../support/images.js';
import { geometryOf } from '../support/sim-device.js';
import { SMALL, SmallCache } from '../support/small-cache.js';

const SECTOR = 512;
const geometry = geometryOf(SMALL);
const crc = bestCrc32c();

function mapSmall(small: SmallCache, startBytes: number, endBytes: number, geo = geometry): MappedRange {
  const devices: InspectedDevices = { pmem: small.pmem, backing: undefined, close: () => undefined };
  return mapRange(devices, { geometry: geo, crc, startBytes, endBytes });
}

/** Pieces as [sector, sectors, kset of the key, ksets of the others], and what is said of each. */
function brief({ pieces }: MappedRange) {
  return pieces.map(({ offsetBytes, lengthBytes, key, others }) => [
    offsetBytes / SECTOR,
    lengthBytes / SECTOR,
    key?.kset ?? null,
    others.map((other) => other.kset),
  ]);
}

describeImages('the map of', (image) => {
  it('leads to the bytes that the kernel read', async () => {
    const { cachePath, backingPath } = await unpackImage(image);
    const devices = openForInspection({ cachePath, backingPath, native: false });
    try {
      const whole = { geometry: KERNEL_GEOMETRY, crc, startBytes: 0, endBytes: Infinity };
      const { pieces, problems, endBytes } = mapRange(devices, whole);
      expect([problems, endBytes]).toEqual([[], devices.backing!.sizeBytes]);
      const hash = createHash('sha256');
      let at = 0;
      for (const { offsetBytes, lengthBytes, key } of pieces) {
        expect(offsetBytes).toBe(at);
        const bytes = new Uint8Array(lengthBytes);
        if (key === null) devices.backing!.readSync(offsetBytes, bytes, 0, lengthBytes);
        else devices.pmem.read(key.deviceOffsetBytes + offsetBytes - key.offsetBytes, bytes, 0, lengthBytes);
        if (key !== null) expect(key.crc).toBe(image.dataCrc ? 'good' : 'none');
        hash.update(bytes);
        at += lengthBytes;
      }
      expect(hash.digest('hex')).toBe(image.logicalSha256);
    } finally {
      devices.close();
    }
  });
});

describe('the map of a range', () => {
  it('names the newest key of each piece, and those under it, newest first', () => {
    const small = new SmallCache();
    small.writeFua(10, 8, 1);
    small.writeFua(12, 2, 2);
    small.writeFua(11, 2, 3);
    expect(brief(mapSmall(small, 8 * SECTOR, 20 * SECTOR))).toEqual([
      [8, 2, null, []],
      [10, 1, 0, []],
      [11, 2, 2, [1, 0]],
      [13, 1, 1, [0]],
      [14, 4, 0, []],
      [18, 2, null, []],
    ]);
  });

  it('is clipped to the range, widened to sectors', () => {
    const small = new SmallCache();
    small.writeFua(10, 8, 1);
    const mapped = mapSmall(small, 12 * SECTOR + 5, 13 * SECTOR + 1);
    expect(brief(mapped)).toEqual([[12, 2, 0, []]]);
    expect([mapped.startBytes, mapped.endBytes]).toEqual([12 * SECTOR, 14 * SECTOR]);
    expect(mapped.pieces[0].key).toMatchObject({
      offsetBytes: 10 * SECTOR,
      lengthBytes: 8 * SECTOR,
      state: 'dirty',
      ksetSegment: 0,
      ksetOffsetBytes: 0,
      keyIndex: 0,
      crc: 'none',
    });
  });

  it('runs over the end of a subtree, and ends where the keys do', () => {
    const small = new SmallCache();
    small.writeFua(8190, 4, 1);
    expect(brief(mapSmall(small, 8189 * SECTOR, Infinity))).toEqual([
      [8189, 1, null, []],
      [8190, 2, 0, []],
      [8192, 2, 0, []],
    ]);
  });

  it('says of stale keys that they are gone: what is under them holds the range', () => {
    const small = new SmallCache();
    small.writeFua(0, 16, 1);
    small.writeFua(4, 8, 2);
    const segment = mapSmall(small, 4 * SECTOR, 5 * SECTOR).pieces[0].key!.segment;
    for (const [n, copy] of generationCopies(geometry, segment).entries()) {
      small.pmem.bytes.set(encodeGeneration(9, 5 + n), copy);
    }
    const [piece] = mapSmall(small, 4 * SECTOR, 5 * SECTOR).pieces;
    expect(piece.key).toMatchObject({ kset: 0, state: 'dirty' });
    expect(piece.others).toMatchObject([{ kset: 1, state: 'stale' }]);
  });

  it('says whose payload does not match its CRC', () => {
    const small = new SmallCache({ dataCrc: true });
    small.writeFua(10, 4, 1);
    small.writeFua(10, 4, 2);
    const [{ others }] = mapSmall(small, 10 * SECTOR, 11 * SECTOR).pieces;
    small.pmem.bytes[others[0].deviceOffsetBytes] ^= 1;
    const [piece] = mapSmall(small, 10 * SECTOR, 11 * SECTOR).pieces;
    expect([piece.key!.crc, piece.others[0].crc]).toEqual(['good', 'bad']);
  });

  it('tells of damage to the log, and of what came before it', () => {
    const small = new SmallCache();
    small.writeFua(10, 4, 1);
    small.writeFua(12, 4, 2);
    const { pieces } = mapSmall(small, 12 * SECTOR, 13 * SECTOR);
    // dirty_tail beyond the place where the log then ends.
    const before = mapSmall(small, 10 * SECTOR, 11 * SECTOR).problems;
    expect(before).toEqual([]);
    const kset = pieces[0].key!;
    small.pmem.bytes[20 * 1024 + 12 * 1024 + kset.ksetOffsetBytes + 30] ^= 1;
    expect(brief(mapSmall(small, 12 * SECTOR, 13 * SECTOR))).toEqual([[12, 1, 0, []]]);
    small.pmem.bytes.fill(0xff, 16 * 1024, 16 * 1024 + 32);
    expect(() => mapSmall(small, 0, 512)).toThrow(/neither copy of key_tail/);
  });
});
