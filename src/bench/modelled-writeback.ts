/**
 * `pcache bench writeback --model`: the write-back of the engine before a modelled backing device, in virtual time. Beside
 * it the same blocks as they were written, one by one, and the lower bound: each block once, in the order of offsets,
 * merged, in one sweep. Each of these two keeps the device's whole depth busy and flushes once.
 *
 * Cache device and processor take no time.
 */
import { formatDevice, planFormat } from '../engine/create/create-cache.js';
import { Cache, Op, RequestGroup } from '../engine/index.js';
import { Random } from '../engine/sim/random.js';
import { VirtualClock } from '../replay/virtual-clock.js';
import { LogPmem } from '../simulate/log-pmem.js';
import { makeModel, type BackingModel, type BackingPreset } from '../simulate/latency-model.js';
import { QueueModel } from '../simulate/queue-model.js';
import { noCrc } from '../simulate/simulate.js';
import { TimedBacking } from '../simulate/timed-backing.js';
import { wholeBlocks } from './bench-devices.js';
import { checkRoom, type FilledBenchFlags } from './filled.js';

const GROUP_BLOCKS = 32;
const NS_PER_MS = 1e6;

/** What writing all blocks took the modelled device. */
export interface ModelledWrites {
  readonly timeNs: number;
  readonly bytes: number;
  readonly writes: number;
  readonly bytesPerWrite: number;
  /** Writes that did not begin where the one before ended. */
  readonly seeks: number;
  readonly flushes: number;
}

export interface ModelledWritebackResult {
  readonly preset: BackingPreset;
  readonly model: BackingModel;
  readonly blockBytes: number;
  readonly keys: number;
  /** Different blocks among them. */
  readonly blocks: number;
  readonly spanBytes: number;
  readonly dataCrc: boolean;
  readonly engine: ModelledWrites;
  /** The blocks one by one, in the order in which they were written. */
  readonly asWritten: ModelledWrites;
  /** The lower bound: each block once, in the order of offsets, those that adjoin together. */
  readonly sweep: ModelledWrites;
}

/** Runs the benchmark. @throws PcacheError USAGE for sizes that make no sense */
export function benchModelledWriteback(flags: FilledBenchFlags, preset: BackingPreset): ModelledWritebackResult {
  const { bs: blockBytes, dataCrc } = flags;
  const spanBytes = wholeBlocks(flags.span, blockBytes);
  checkRoom(flags);
  const model = makeModel(preset, {}, {}).backing;
  const random = new Random(1);
  const offsets = Float64Array.from({ length: flags.keys }, () => random.below(spanBytes / blockBytes) * blockBytes);
  const sorted = Float64Array.from(new Set(offsets)).sort();
  return {
    preset,
    model,
    blockBytes,
    keys: flags.keys,
    blocks: sorted.length,
    spanBytes,
    dataCrc,
    engine: engineWrites(flags, spanBytes, offsets, model),
    asWritten: writesAlone(offsets, blockBytes, false, new QueueModel(model, spanBytes)),
    sweep: writesAlone(sorted, blockBytes, true, new QueueModel(model, spanBytes)),
  };
}

function summary(queue: QueueModel, endNs: number, bytes: number, writes: number, flushes: number): ModelledWrites {
  return {
    timeNs: endNs,
    bytes,
    writes,
    bytesPerWrite: bytes / writes,
    seeks: queue.seeks,
    flushes,
  };
}

function engineWrites(
  { bs: blockBytes, cacheBytes, dataCrc }: FilledBenchFlags,
  spanBytes: number,
  offsets: Float64Array,
  model: BackingModel,
): ModelledWrites {
  const pmem = new LogPmem(cacheBytes);
  formatDevice(pmem, planFormat(cacheBytes, { dataCrc, gcPercent: 0 }));
  const clock = new VirtualClock();
  const queue = new QueueModel(model, spanBytes);
  const backing = new TimedBacking(spanBytes, queue, clock);
  const cache = new Cache({ pmem, backing, clock, crc: noCrc });
  cache.holdWriteback = true;
  const group = new RequestGroup(GROUP_BLOCKS, pmem.registerArena(new Uint8Array(GROUP_BLOCKS * blockBytes)));
  for (let n = 0; n < offsets.length;) {
    group.clear();
    for (; group.count < GROUP_BLOCKS && n < offsets.length; n++) {
      group.add(Op.write, offsets[n], blockBytes, group.count * blockBytes);
    }
    cache.submit(group);
    while (cache.step());
  }
  cache.requestClose();
  while (cache.step());
  cache.holdWriteback = false;
  cache.hurryWriteback = true;
  while (cache.step());
  while (backing.nextEndMs < Infinity) {
    clock.moveTo(backing.nextEndMs);
    backing.answerNext();
    while (cache.step());
  }
  const { writebackBytes, writebackWrites, backingFlushes } = cache.stats;
  return summary(queue, clock.nowMs() * NS_PER_MS, writebackBytes, writebackWrites, backingFlushes);
}

/** Writes blocks in the given order, and flushes. @param merges blocks that adjoin are one write */
function writesAlone(offsets: Float64Array, blockBytes: number, merges: boolean, queue: QueueModel): ModelledWrites {
  let writes = 0;
  for (let n = 0; n < offsets.length; writes++) {
    const start = offsets[n];
    let end = start;
    do {
      end += blockBytes;
      n++;
    } while (merges && offsets[n] === end);
    queue.write(0, start, end - start);
  }
  return summary(queue, queue.flush(0), offsets.length * blockBytes, writes, 1);
}
