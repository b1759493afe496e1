/** Caches that the engine refuses to open. */
import { describe, expect, it } from 'vitest';
import { Cache } from '../../src/engine/cache.js';
import type { PcacheError } from '../../src/engine/errors.js';
import { decodeCacheInfo, encodeCacheFlags, encodeCacheInfo, type CacheInfo } from '../../src/engine/media/codecs.js';
import { readDual } from '../../src/engine/media/dual.js';
import { CACHE_INFO_COPIES } from '../../src/engine/media/geometry.js';
import { SimBacking } from '../../src/engine/sim/sim-backing.js';
import { SimClock } from '../../src/engine/sim/sim-clock.js';
import type { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { geometryOf, makeDevice } from '../support/sim-device.js';
import { SMALL, SmallCache } from '../support/small-cache.js';

const code = (expected: string): PcacheError => expect.objectContaining({ code: expected }) as PcacheError;

/** Writes the flags word anew, as something else than this engine may have left it. */
function putFlags(pmem: SimPmem, word: (word: number) => number): void {
  const { value } = readDual<CacheInfo>(pmem, CACHE_INFO_COPIES, 24, decodeCacheInfo);
  for (const [n, offset] of CACHE_INFO_COPIES.entries()) {
    const bytes = encodeCacheInfo({ ...value!, flags: word(value!.flags) }, 50 + n);
    pmem.write(offset, bytes, 0, bytes.length);
  }
  pmem.persist();
}

describe('opening a cache', () => {
  it.each([
    ['a mode without a name', 'UNSUPPORTED', (flags: number) => (flags & ~0x3c) | (9 << 2)],
    ['a gc_percent beyond the format', 'BAD_MEDIA', (flags: number) => flags | (127 << 6)],
  ])('refuses %s and leaves the device as it was', (_what, expected, word) => {
    const pmem = makeDevice(SMALL);
    putFlags(pmem, word);
    const before = pmem.copy();
    expect(() => new SmallCache({}, pmem)).toThrow(code(expected));
    expect(Buffer.compare(pmem.bytes, before.bytes)).toBe(0);
  });

  it.each([0, 1000])('refuses a backing device of %i bytes', (sizeBytes) => {
    const backing = new SimBacking({ sizeBytes, initial: () => {}, tagOf: () => 0 });
    const options = { pmem: makeDevice(SMALL), backing, clock: new SimClock(), geometry: geometryOf(SMALL) };
    expect(() => new Cache(options)).toThrow(code('NOT_A_DEVICE'));
  });

  it('refuses verifyReads for a cache without data_crc', () => {
    expect(() => new SmallCache({ verifyReads: true })).toThrow(code('USAGE'));
  });

  it('accepts the mode writeonly', () => {
    const pmem = makeDevice({ ...SMALL, mode: 'writeonly' });
    expect(new SmallCache({}, pmem).cache.mode).toBe('writeonly');
    expect((encodeCacheFlags({ dataCrc: false, initDone: true, modeNumber: 3, gcPercent: 70 }) >>> 2) & 0xf).toBe(3);
  });
});
