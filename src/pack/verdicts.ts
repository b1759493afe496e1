/**
 * Checks the payload of every key of the log against its CRC, for a pack that goes without the payload: the
 * same keys that a check of the cache takes, those of the log from where that begins with it.
 */
import type { PmemReader } from '../engine/device/pmem.js';
import { PcacheError } from '../engine/errors.js';
import type { PackVerdicts } from '../engine/pack/pack-format.js';
import { CRC_SEED, type Crc32c } from '../engine/media/crc32c.js';
import type { Geometry } from '../engine/media/geometry.js';
import { LogWalker } from '../engine/media/log-walker.js';
import type { Examination } from '../fsck/check.js';

const BYTES_PER_STEP = 64 * 1024 * 1024;

/** Yields the bytes checked every so often. @returns undefined where there is nothing to be checked */
export function* findVerdicts(
  pmem: PmemReader,
  geometry: Geometry,
  crc: Crc32c,
  { header, chain, log }: Pick<Examination, 'header' | 'chain' | 'log'>,
): Generator<number, PackVerdicts | undefined> {
  if (log === undefined || header.flags?.dataCrc !== true) return undefined;
  const { start, facts } = log;
  const bad: [number, number, number | null][] = [];
  const walker = new LogWalker(pmem, geometry, chain, start, crc);
  let done = 0;
  let step = 0;
  for (let left = facts.ksetCount; left > 0 && walker.next(); left--) {
    const { kset } = walker;
    for (let key = 0; key < kset.keyCount; key++) {
      if (kset.keyProblem(key, geometry, chain.length, Infinity) !== '') continue;
      const offset = chain.dataOffsetBytes[kset.keySegment(key)] + kset.keySegmentOffsetBytes(key);
      const length = kset.keyLengthBytes(key);
      const found = crcOf(pmem, offset, length);
      if (found !== kset.keyDataCrc(key)) bad.push([offset, length, found]);
      done += length;
      if ((step += length) < BYTES_PER_STEP) continue;
      step = 0;
      yield done;
    }
  }
  return {
    start: { segment: start.segment, offsetBytes: start.offsetBytes },
    ksets: facts.ksetCount,
    dataOffsets: runsOf(chain.dataOffsetBytes.subarray(0, chain.length)),
    bad,
  };
}

/** Null where the medium cannot read it. */
function crcOf(pmem: PmemReader, offsetBytes: number, lengthBytes: number): number | null {
  try {
    return pmem.crc32c(offsetBytes, lengthBytes, CRC_SEED);
  } catch (error) {
    if (!(error instanceof PcacheError) || error.code !== 'IO') throw error;
    return null;
  }
}

/** Runs of numbers with the same distance as [first, step, count]. */
export function runsOf(numbers: Float64Array): [number, number, number][] {
  const runs: [number, number, number][] = [];
  for (let n = 0; n < numbers.length; n++) {
    const last = runs.at(-1);
    if (last !== undefined && last[2] === 1) last[1] = numbers[n] - last[0];
    if (last !== undefined && last[0] + last[1] * last[2] === numbers[n]) last[2]++;
    else runs.push([numbers[n], 0, 1]);
  }
  return runs;
}
