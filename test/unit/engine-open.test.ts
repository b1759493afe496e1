/** What opening a cache for writing does to it. */
import { describe, expect, it } from 'vitest';
import { Cache, CacheDriver, CacheIo, loadCacheOrThrow } from '../../src/engine/index.js';
import type { BackingDevice } from '../../src/engine/device/backing.js';
import { formatDevice, planFormat } from '../../src/engine/create/create-cache.js';
import { KEY_BYTES, KSET_BYTES_MAX, ksetBytes, KsetView } from '../../src/engine/media/kset.js';
import { makeGeometry } from '../../src/engine/media/geometry.js';
import { MemoryPmem } from '../support/memory-pmem.js';

const geometry = makeGeometry(64 * 1024);
const clock = { nowMs: () => performance.now() };

/** A backing device of zeroes that takes writes and forgets them. */
const backing: BackingDevice = {
  path: 'backing',
  sizeBytes: 8 * 2 ** 20,
  read(_offset, target, at, length, done) {
    target.fill(0, at, at + length);
    setImmediate(done, null);
  },
  write: (_offset, _source, _at, _length, done) => void setImmediate(done, null),
  flush: (done) => void setImmediate(done, null),
  close: () => undefined,
};

async function cacheWithOneKset(): Promise<MemoryPmem> {
  const pmem = new MemoryPmem(20 * 1024 + 16 * geometry.segmentBytes);
  formatDevice(pmem, planFormat(pmem.sizeBytes, { dataCrc: true, gcPercent: 70, geometry }));
  const cache = new Cache({ pmem, backing, clock, geometry });
  const driver = new CacheDriver(cache, clock);
  const io = new CacheIo(driver, pmem);
  cache.holdWriteback = true;
  await io.write(4096, new Uint8Array(4096).fill(7), { fua: true });
  await driver.close();
  return pmem;
}

const load = (pmem: MemoryPmem) =>
  loadCacheOrThrow(pmem, { geometry, backingBytes: backing.sizeBytes, checkPayload: true });

describe('opening a cache for writing', () => {
  it('zeroes the remains of a torn kset at the end of the log, and nothing else', async () => {
    const pmem = await cacheWithOneKset();
    const { keyHead, segments } = load(pmem);
    const at = segments.dataOffsetBytes[keyHead.segment] + keyHead.offsetBytes;
    const before = pmem.bytes(0, pmem.sizeBytes);
    pmem.write(at, new Uint8Array(24).fill(0xa5), 0, 24);
    const cache = new Cache({ pmem, backing, clock, geometry });
    expect(cache.status().keyHead).toEqual(keyHead);
    const after = pmem.bytes(0, pmem.sizeBytes);
    // cache_info is written anew by every open; everything behind it is as it was before the crash.
    expect(Buffer.compare(after.subarray(16 * 1024), before.subarray(16 * 1024))).toBe(0);
  });

  it('leaves no key of a torn kset of which the beginning never came to the medium', async () => {
    const pmem = await cacheWithOneKset();
    const { keyHead, segments } = load(pmem);
    const at = segments.dataOffsetBytes[keyHead.segment] + keyHead.offsetBytes;
    const before = pmem.bytes(0, pmem.sizeBytes);
    const key = pmem.bytes(at - KEY_BYTES, KEY_BYTES); // of the good kset in front
    for (const index of [1, 2, 7]) pmem.write(at + ksetBytes(index), key, 0, KEY_BYTES);
    new Cache({ pmem, backing, clock, geometry });
    const kset = new KsetView().attach(pmem.bytes(at, KSET_BYTES_MAX), 0);
    for (const index of [0, 1, 2, 7]) expect(kset.keyProblem(index, geometry, segments.count, Infinity)).not.toBe('');
    expect(load(pmem).keyHead).toEqual(keyHead);
    const after = pmem.bytes(0, pmem.sizeBytes);
    expect(Buffer.compare(after.subarray(16 * 1024, at), before.subarray(16 * 1024, at))).toBe(0);
  });

  it('writes a broken copy from the good one with the next seq, and leaves a blank copy blank', async () => {
    const pmem = await cacheWithOneKset();
    const segmentInfo = 20 * 1024 + 3 * geometry.segmentBytes;
    const generations = segmentInfo + 8 * 1024;
    const good = pmem.bytes(segmentInfo, 16);
    pmem.write(segmentInfo + 4096, new Uint8Array(16).fill(9), 0, 16);
    new Cache({ pmem, backing, clock, geometry });
    const repaired = pmem.bytes(segmentInfo + 4096, 16);
    expect(repaired.subarray(8)).toEqual(good.subarray(8));
    expect(repaired[4]).toBe(good[4] + 1);
    expect(load(pmem).metadata.problems).toEqual([]);
    pmem.write(segmentInfo, new Uint8Array(16).fill(9), 0, 16);
    expect(load(pmem).metadata.problems).toEqual([]);
    expect(pmem.bytes(generations, 16)).toEqual(new Uint8Array(16));
  });

  it('writes cache_info anew over its older copy', async () => {
    const pmem = await cacheWithOneKset();
    const winner = load(pmem).metadata.cacheInfo;
    new Cache({ pmem, backing, clock, geometry });
    const now = load(pmem).metadata.cacheInfo;
    expect(now.winner).toBe(winner.winner === 0 ? 1 : 0);
    expect(now.value!.seq).toBe(winner.value!.seq + 1);
    expect(now.copies[winner.winner as 0 | 1]).toEqual(winner.value);
  });

  it('refuses a cache that the kernel refuses, and names the reason', async () => {
    const pmem = await cacheWithOneKset();
    pmem.zero(16 * 1024, 32);
    expect(() => new Cache({ pmem, backing, clock, geometry })).toThrow(/neither copy of key_tail.*pcache fsck/);
    const payload = await cacheWithOneKset();
    const { segments } = load(payload);
    payload.write(segments.dataOffsetBytes[1] + 100, Uint8Array.of(1, 2, 3), 0, 3);
    expect(() => new Cache({ pmem: payload, backing, clock, geometry })).toThrow(
      /bytes 4096–8191.*does not match its CRC/,
    );
  });
});
