/** Ephemeral caches filled with blocks at random places, for the benchmarks that look at what is in a cache. */
import type { BackingDevice } from '../engine/device/backing.js';
import type { Pmem } from '../engine/device/pmem.js';
import { PcacheError } from '../engine/errors.js';
import { planFormat } from '../engine/create/create-cache.js';
import { makeEphemeralBacking } from '../replay/replay-devices.js';
import { openBenchDevices } from './bench-devices.js';
import { Blocks } from './pattern.js';
import { Rig } from './rig.js';
import { benchWriteback, type WritebackBenchResult } from './writeback-bench.js';

/** Of the cache's data so much may be filled. */
const FILL_SHARE = 0.65;

export interface FilledBenchFlags {
  readonly keys: number;
  readonly bs: number;
  readonly span: number;
  readonly cacheBytes: number;
  readonly dataCrc: boolean;
}

/**
 * Runs `body` on the device of a cache that was filled and closed.
 * @throws PcacheError USAGE when the keys do not go into the cache, or not into the span
 */
export async function benchOnFilled<T>(
  flags: FilledBenchFlags,
  body: (filled: { pmem: Pmem; backing: BackingDevice; segments: number }) => Promise<T>,
): Promise<T> {
  const blocks = blocksFor(flags);
  const devices = openBenchDevices({
    ...flags,
    cachePath: undefined,
    backingPath: undefined,
    spanBytes: flags.span,
    blockBytes: flags.bs,
    force: false,
  });
  try {
    const { pmem, backing } = devices;
    const rig = new Rig({ pmem, backing, blockBytes: flags.bs, depth: 1 });
    const segments = rig.cache.status().cacheSegments;
    await rig.fill(blocks, () => {});
    await rig.close();
    return await body({ pmem, backing, segments });
  } finally {
    devices.close();
  }
}

/** Runs the benchmark of write-back on an ephemeral cache with an ephemeral backing device. */
export async function benchEphemeralWriteback(
  flags: FilledBenchFlags,
  rounds: number,
  onRound: (round: number) => void,
): Promise<WritebackBenchResult> {
  const blocks = blocksFor(flags);
  const devices = openBenchDevices({
    ...flags,
    cachePath: undefined,
    backingPath: undefined,
    spanBytes: flags.span,
    blockBytes: flags.bs,
    force: false,
  });
  try {
    const backing = makeEphemeralBacking(devices.spanBytes);
    try {
      const rig = new Rig({ pmem: devices.pmem, backing, blockBytes: flags.bs, depth: 1 });
      const result = await benchWriteback(rig, backing, blocks, rounds, onRound);
      await rig.close();
      return result;
    } finally {
      backing.close();
    }
  } finally {
    devices.close();
  }
}

/** @throws PcacheError USAGE when the cache does not hold this number of keys */
export function checkRoom({ keys, bs, cacheBytes, dataCrc }: FilledBenchFlags): void {
  const { dataBytes } = planFormat(cacheBytes, { dataCrc, gcPercent: 0 });
  const most = Math.floor((dataBytes * FILL_SHARE) / bs);
  if (keys <= most) return;
  throw new PcacheError(
    'USAGE',
    `--keys ${keys}: the cache holds at most ${most} blocks of ${bs} bytes; use a larger --cache-size`,
  );
}

/** @throws PcacheError USAGE when the cache or the span holds fewer blocks */
function blocksFor(flags: FilledBenchFlags): Blocks {
  const { keys, bs, span } = flags;
  checkRoom(flags);
  if (keys * bs > span)
    throw new PcacheError(
      'USAGE',
      `--keys ${keys}: --span ${span} holds fewer blocks of ${bs} bytes; use a larger --span`,
    );
  return new Blocks(bs, keys, span, false);
}
