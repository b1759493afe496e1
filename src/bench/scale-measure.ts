/** One step of `pcache bench scale`: a cache with so many keys is made, and what it costs is measured. */
import { bestCrc32c } from '../engine/device/native.js';
import type { BackingDevice } from '../engine/device/backing.js';
import { assert } from '../engine/errors.js';
import { loadCacheOrThrow, readMetadataOf } from '../engine/index.js';
import { LogKeys, type LogKeyRow } from '../engine/inspect/keys.js';
import { KERNEL_GEOMETRY, segmentDataOffsetBytes } from '../engine/media/geometry.js';
import { Random } from '../engine/sim/random.js';
import { checkCache } from '../fsck/check.js';
import { makeEphemeralPmem } from '../replay/replay-devices.js';
import { NullBacking } from './null-backing.js';
import { Blocks, PatternSource, type Pattern } from './pattern.js';
import { Rig } from './rig.js';
import { Rounds } from './rounds.js';
import {
  isWhole,
  memoryNeeded,
  readTargets,
  SCALE_BLOCK_BYTES,
  WRITE_TARGETS_MAX,
  writtenBytes,
  type ScaleEffort,
  type ScaleStep,
} from './scale-steps.js';
import { SparsePmem } from './sparse-pmem.js';
import { medianOf, spreadOf, type Spread } from './spread.js';

export const SCALE_DEPTH = 32;
/** A cache that is not resident as a whole is never so full that it is collected; one that is, is down to this. */
const GC_PERCENT_NEVER = 90;
const GC_PERCENT_WHOLE = 60;
/** Attach, fsck and dump-keys are measured again while they have taken less than this together, and at most so often. */
const REPEAT_WITHIN_NS = 1e9;
const REPEATS_MAX = 5;
/** Loads of one measurement of memory, and how often it is made. */
const LOADS = 2 ** 19;
const LOAD_ROUNDS = 5;

/** Cost of a request, ns. */
export interface RequestCost {
  readonly engineNs: number;
  /** The same copies, at the same addresses, one by one; writes with a fence each. */
  readonly limitNs: number;
  /** Limit's by engine's, of rounds. */
  readonly ratio: Spread;
}

/** Cost of something that goes through all keys. */
export interface LinearCost {
  readonly elapsedNs: number;
  readonly nsPerKey: number;
}

/** What goes through all keys. */
interface AllKeys {
  readonly attach: LinearCost;
  readonly fsck: LinearCost;
  readonly dumpKeys: LinearCost;
}

export interface StepResult extends ScaleStep, AllKeys {
  /** How many of the keys reads and writes went to. */
  readonly readTargets: number;
  readonly writeTargets: number;
  readonly read: RequestCost;
  readonly write: RequestCost;
  readonly index: { readonly memoryBytes: number; readonly bytesPerKey: number };
  /** A load from anywhere in as much memory as the index has, each waiting for the one before, ns. */
  readonly memoryLoadNs: number;
}

/** Where the rows of dump-keys go. */
export interface KeyRows {
  write(row: LogKeyRow): unknown;
  end(): Promise<void>;
}

export interface StepHooks {
  /** A new place for the rows of dump-keys. */
  readonly openRows: () => KeyRows;
  /** What is being done now; may throw to end it all. */
  readonly onPhase: (phase: string) => Promise<void>;
  /** Keys made so far; may throw to end it all. */
  readonly onFill: (keys: number) => void;
}

/** Requests go to these blocks: every so many of all. */
class Targets extends Blocks {
  constructor(
    private readonly all: Blocks,
    count: number,
    spanBytes: number,
  ) {
    super(all.blockBytes, count, spanBytes, false);
  }

  override offsetBytes(n: number): number {
    return this.all.offsetBytes(Math.floor((n * this.all.count) / this.count));
  }
}

/** @throws what `hooks` throw; nothing is left behind then */
export async function measureStep(step: ScaleStep, effort: ScaleEffort, hooks: StepHooks): Promise<StepResult> {
  const pmem = makeEphemeralPmem({
    cacheBytes: step.cacheBytes,
    dataCrc: false,
    gcPercent: isWhole(step) ? GC_PERCENT_WHOLE : GC_PERCENT_NEVER,
    populate: isWhole(step),
    usedBytes: memoryNeeded(step, effort),
    open: SparsePmem.open,
  }) as SparsePmem;
  try {
    const backing = new NullBacking(step.backingBytes);
    const blocks = new Blocks(SCALE_BLOCK_BYTES, step.keys, step.backingBytes, false);
    await fill(pmem, backing, blocks, hooks.onFill);
    pmem.dropsPayload = false;
    const linear = await measureLinear(pmem, step, hooks);
    const requests = await measureRequests({ pmem, backing, blocks, step, effort, hooks });
    return { ...step, ...requests, ...linear };
  } finally {
    pmem.close();
  }
}

/** Brings the keys into the cache, without payload, and closes it. */
async function fill(
  pmem: SparsePmem,
  backing: BackingDevice,
  blocks: Blocks,
  onFill: (keys: number) => void,
): Promise<void> {
  const rig = new Rig({ pmem, backing, blockBytes: SCALE_BLOCK_BYTES, depth: 1 });
  try {
    await rig.fill(blocks, onFill);
    assert(rig.cache.stats.segmentsFreed === 0, 'something was collected that has no payload');
  } finally {
    await rig.close();
  }
}

// ---- what goes through all keys -------------------------------------------------------------------------

async function measureLinear(
  pmem: SparsePmem,
  { keys, backingBytes }: ScaleStep,
  { onPhase, openRows }: StepHooks,
): Promise<AllKeys> {
  const crc = bestCrc32c();
  await onPhase('attaching');
  const attach = await linear(keys, () => {
    const { index } = loadCacheOrThrow(pmem, { geometry: KERNEL_GEOMETRY, backingBytes, checkPayload: true, crc });
    assert(index.entryCount === keys, 'the cache holds other keys than were written');
  });
  await onPhase('checking');
  const fsck = await linear(keys, () => {
    const { clean, examined } = checkCache(pmem, { geometry: KERNEL_GEOMETRY, backingBytes, data: true, crc });
    assert(clean && examined.keys === keys, 'the cache is not sound');
  });
  await onPhase('listing keys');
  const dumpKeys = await linear(keys, async () => {
    const rows = openRows();
    const log = new LogKeys(pmem, readMetadataOf(pmem, KERNEL_GEOMETRY), backingBytes, crc);
    while (log.next()) rows.write(log.row);
    await rows.end();
  });
  return { attach, fsck, dumpKeys };
}

async function linear(keys: number, body: () => void | Promise<void>): Promise<LinearCost> {
  const times: number[] = [];
  for (let sum = 0; times.length === 0 || (sum < REPEAT_WITHIN_NS && times.length < REPEATS_MAX);) {
    const started = performance.now();
    await body();
    times.push((performance.now() - started) * 1e6);
    sum += times[times.length - 1];
  }
  const ns = medianOf(times);
  return { elapsedNs: ns, nsPerKey: ns / keys };
}

// ---- requests -------------------------------------------------------------------------------------------

interface RequestsOptions {
  readonly pmem: SparsePmem;
  readonly backing: BackingDevice;
  readonly blocks: Blocks;
  readonly step: ScaleStep;
  readonly effort: ScaleEffort;
  readonly hooks: StepHooks;
}

async function measureRequests(options: RequestsOptions): Promise<Omit<StepResult, keyof ScaleStep | keyof AllKeys>> {
  const { pmem, backing, blocks, step, effort } = options;
  const { onPhase } = options.hooks;
  await onPhase('making payload resident');
  const rig = new Rig({ pmem, backing, blockBytes: SCALE_BLOCK_BYTES, depth: SCALE_DEPTH });
  try {
    const { indexEntries, indexMemoryBytes: memoryBytes } = rig.cache.status();
    const index = { memoryBytes, bytesPerKey: memoryBytes / indexEntries };
    const memoryLoadNs = measureLoads(memoryBytes);
    const toRead = new Targets(blocks, readTargets(step, effort), step.backingBytes);
    const toWrite = new Targets(blocks, Math.min(step.keys, WRITE_TARGETS_MAX), step.backingBytes);
    if (!isWhole(step)) makeResident(rig, toRead, effort);
    const cost = (pattern: Pattern, targets: Targets) =>
      measurePattern(rig, new PatternSource(pattern, targets, 1), effort, onPhase);
    const read = await cost('randread', toRead); // first: writes and collection may take keys away
    const write = await cost('randwrite', toWrite);
    return { readTargets: toRead.count, writeTargets: toWrite.count, read, write, index, memoryLoadNs };
  } finally {
    await rig.close();
  }
}

/** Touches what the rounds will read and write: a first touch of a page costs more than what is measured. */
function makeResident(rig: Rig, toRead: Targets, effort: ScaleEffort): void {
  const { cache, pmem } = rig;
  for (let n = 0; n < toRead.count; n++) pmem.zero(cache.locate(toRead.offsetBytes(n)), SCALE_BLOCK_BYTES);
  // Segments are taken in their order; what the log of the rounds takes is less than one.
  const first = cache.segmentsUsed;
  const count = Math.ceil(writtenBytes(effort) / cache.segmentDataBytes) + 2;
  assert(first + count <= cache.status().cacheSegments, 'the cache has too little room for the rounds');
  for (let segment = first; segment < first + count; segment++) {
    pmem.zero(segmentDataOffsetBytes(KERNEL_GEOMETRY, segment), cache.segmentDataBytes);
  }
}

async function measurePattern(
  rig: Rig,
  source: PatternSource,
  { requestsPerRound, warmUpRounds, rounds: count }: ScaleEffort,
  onPhase: StepHooks['onPhase'],
): Promise<RequestCost> {
  const rounds = new Rounds({
    rig,
    source,
    blockBytes: SCALE_BLOCK_BYTES,
    depth: SCALE_DEPTH,
    fuaEvery: 0,
    requestsMax: requestsPerRound,
    cpuNs: () => 0,
  });
  for (let n = 0; n < warmUpRounds + count; n++) {
    await onPhase('measuring requests');
    await rounds.run(requestsPerRound);
    if (n + 1 === warmUpRounds) rounds.forget();
  }
  const all = rounds.rounds;
  return {
    engineNs: medianOf(all.map(({ engineNs, requests }) => engineNs / requests)),
    limitNs: medianOf(all.map(({ limitNs, requests }) => limitNs / requests)),
    ratio: spreadOf(all.map(({ engineNs, limitNs }) => limitNs / engineNs)),
  };
}

/** How long a load from anywhere in so much memory takes when the next one waits for it, ns. */
function measureLoads(bytes: number): number {
  const words = new Int32Array(Math.ceil(bytes / Int32Array.BYTES_PER_ELEMENT)).fill(1); // filled, so that it is there
  return medianOf(Array.from({ length: LOAD_ROUNDS }, (_, round) => loadRound(words, new Random(round))));
}

function loadRound(words: Int32Array, random: Random): number {
  let at = 0;
  const started = performance.now();
  // The next place depends on what was loaded, though that is always the same.
  for (let n = 0; n < LOADS; n++) at = random.below(words.length - 1) + words[at];
  const ns = ((performance.now() - started) * 1e6) / LOADS;
  assert(at > 0, 'the loads were left out');
  return ns;
}
