/** The map of what keys claim, beside a plain model, and what the check reads of a large cache by its help. */
import { describe, expect, it } from 'vitest';
import { bestCrc32c } from '../../src/engine/device/native.js';
import { planFormat, formatDevice } from '../../src/engine/create/create-cache.js';
import { Cache } from '../../src/engine/index.js';
import { KERNEL_GEOMETRY, MIB, SECTOR_BYTES } from '../../src/engine/media/geometry.js';
import { Random } from '../../src/engine/sim/random.js';
import { checkCache } from '../../src/fsck/check.js';
import { PayloadMap } from '../../src/fsck/payload-map.js';
import { LockstepRunner } from '../../src/replay/lockstep.js';
import { VirtualClock } from '../../src/replay/virtual-clock.js';
import { CountingBacking } from '../../src/simulate/counting-backing.js';
import { LogPmem } from '../../src/simulate/log-pmem.js';
import { makeBatch, TraceOp, type TraceBatch } from '../../src/trace/index.js';

const SECTORS = Math.floor(KERNEL_GEOMETRY.segmentDataBytes / SECTOR_BYTES);

/** One byte for each sector of a segment. */
class Model {
  readonly claimed = new Uint8Array(SECTORS);

  claim(start: number, end: number): boolean {
    const overlaps = this.claimed.subarray(start, end).includes(1);
    this.claimed.fill(1, start, end);
    return overlaps;
  }

  get end(): number {
    return this.claimed.lastIndexOf(1) + 1;
  }
}

describe('the map of what keys claim', () => {
  it.each([
    [
      'claims in the order of a segment',
      (random: Random, n: number) => [40 * n + random.below(9), 1 + random.below(32)],
    ],
    ['claims that are never next to each other', (_: Random, n: number) => [((n * 7919) % SECTORS) & ~1, 1]],
    ['claims anywhere', (random: Random) => [random.below(SECTORS), 1 + random.below(400)]],
  ] as const)('answers as a model does after %s', (_, next) => {
    const random = new Random(7);
    const map = new PayloadMap(KERNEL_GEOMETRY);
    const model = new Model();
    for (let n = 0; n < 800; n++) {
      const [start, length] = next(random, n);
      const end = Math.min(SECTORS, start + length);
      const isClaimed = model.claimed.subarray(start, end).includes(1);
      expect(map.isClaimed(3, start * SECTOR_BYTES, (end - start) * SECTOR_BYTES)).toBe(isClaimed);
      expect(map.claim(3, start * SECTOR_BYTES, (end - start) * SECTOR_BYTES)).toBe(model.claim(start, end));
      expect(map.endOfClaims(3)).toBe(model.end * SECTOR_BYTES);
    }
    const claimed = model.claimed.reduce((sum, one) => sum + one, 0);
    expect(map.unclaimedBytes(3)).toBe((model.end - claimed) * SECTOR_BYTES);
  });

  it('defers a segment that it has no memory for, and covers the others', () => {
    const map = new PayloadMap(KERNEL_GEOMETRY, 300);
    for (const segment of [1, 2, 3]) map.claim(segment, 0, 4096);
    expect([1, 2, 3].map((segment) => map.covers(segment))).toEqual([true, true, false]);
    expect([...map.deferred]).toEqual([3]);
    expect(map.endOfClaims(3)).toBe(0);
    const rest = new PayloadMap(KERNEL_GEOMETRY, 0, map.deferred);
    expect([rest.covers(1), rest.covers(3)]).toEqual([false, true]);
    expect(rest.claim(3, 0, 4096)).toBe(false);
    expect(rest.covers(3)).toBe(true);
  });
});

/** Keys of `FSCK_LARGE_KEYS` and bytes of `FSCK_LARGE_GIB`, for a look at a larger cache by hand. */
const KEYS = Number(process.env['FSCK_LARGE_KEYS'] ?? 100_000);
const CACHE_BYTES = Number(process.env['FSCK_LARGE_GIB'] ?? 300) * 1024 * MIB;
const KEY_BYTES = 64 * 1024;

async function* writes(backingBytes: number): AsyncGenerator<TraceBatch> {
  const random = new Random(1);
  const blocks = backingBytes / KEY_BYTES;
  for (let done = 0; done < KEYS;) {
    const batch = makeBatch(4096);
    for (; batch.count < 4096 && done < KEYS; batch.count++, done++) {
      batch.op[batch.count] = TraceOp.write;
      batch.offsetBytes[batch.count] = random.below(blocks) * KEY_BYTES;
      batch.lengthBytes[batch.count] = KEY_BYTES;
    }
    await Promise.resolve();
    yield batch;
  }
}

/** Counts what is read of the log, which nothing else reads pieces of that size from, and of the whole device. */
class CountingPmem extends LogPmem {
  logBytesRead = 0;
  bytesRead = 0;

  override read(...args: Parameters<LogPmem['read']>): void {
    const [, , , lengthBytes] = args;
    this.bytesRead += lengthBytes;
    if (lengthBytes >= 4096) this.logBytesRead += lengthBytes;
    super.read(...args);
  }
}

it(
  `the check of a cache of ${CACHE_BYTES / MIB / 1024} GiB reads the log of ${KEYS} keys once`,
  { timeout: 600_000 },
  async () => {
    const pmem = new CountingPmem(CACHE_BYTES);
    formatDevice(pmem, planFormat(CACHE_BYTES, { dataCrc: false, gcPercent: 90, mode: 'writeback' }));
    const backing = new CountingBacking(4 * CACHE_BYTES);
    const clock = new VirtualClock();
    const crc = bestCrc32c();
    const cache = new Cache({ pmem, backing, clock, crc });
    const options = { cache, pmem, backing, clock, limit: Infinity, verifier: undefined, onProgress: () => {} };
    const runner = new LockstepRunner(options);
    await runner.run(writes(4 * CACHE_BYTES));
    await runner.close();

    const check = (payloadMapBytes?: number): { logBytes: number; logBytesRead: number; bytesRead: number } => {
      pmem.logBytesRead = 0;
      pmem.bytesRead = 0;
      const bounds = payloadMapBytes === undefined ? {} : { payloadMapBytes };
      const result = checkCache(pmem, { geometry: KERNEL_GEOMETRY, data: false, crc, ...bounds });
      expect(result.findings).toEqual([]);
      expect(result.examined.keys).toBeGreaterThanOrEqual(KEYS);
      return { logBytes: result.examined.logBytes, logBytesRead: pmem.logBytesRead, bytesRead: pmem.bytesRead };
    };
    const startedMs = performance.now();
    const once = check();
    const [tookMs, rssMib] = [performance.now() - startedMs, process.memoryUsage.rss() / MIB].map(Math.round);
    console.log({ ...once, ratio: once.logBytesRead / once.logBytes, tookMs, rssMib });
    // Behind the end of the log its segment is looked through for ksets that were cut off.
    const { segmentDataBytes } = KERNEL_GEOMETRY;
    const restBytes = segmentDataBytes - (once.logBytes % segmentDataBytes);
    expect(once.logBytesRead - restBytes).toBeLessThan(1.1 * once.logBytes);
    // With next to no memory for the map the log is read again and again.
    if (KEYS <= 100_000) expect(check(1024).logBytesRead).toBeGreaterThan(10 * once.logBytes);
  },
);
