/**
 * Everything there is to say about a cache, for `pcache info`: its metadata with both copies of each structure,
 * and what its log and index hold, as far as the media allow. Reads only. The result is plain data.
 */
import type { Durability, PmemReader } from '../device/pmem.js';
import { LogWalker } from '../media/log-walker.js';
import { TolerantReader } from '../device/tolerant-reader.js';
import { CACHE_MODES, decodeCacheFlags, type CacheInfo, type MetaHeader, type Position } from '../media/codecs.js';
import type { Dual, WinReason } from '../media/dual.js';
import { SECTOR_BYTES } from '../media/geometry.js';
import { isWrittenBy618, LINUX_6_18, readStrayCacheInfo } from '../media/linux-6-18.js';
import { CopyState, type CacheMetadata } from '../media/metadata.js';
import type { MediaProblem } from '../media/problem.js';
import { loadCache, type LoadedCache } from '../log/recovery.js';
import { formatStatusLine } from '../status.js';
import { damagedCache, inspectionLoad, isForeign, type InspectedDevices } from './open.js';
import { liveEntries } from './keys.js';
import { readBackingRecord, stateOf } from '../copies/backing-record.js';

export type CopySummary<T> = T & { readonly crcOk: boolean; readonly blank: boolean; readonly seq: number };

export interface DualSummary<T> {
  /** Copy that counts: 0, 1 or -1 for none. */
  readonly winner: 0 | 1 | -1;
  readonly reason: WinReason;
  readonly copies: readonly CopySummary<T>[];
}

export interface SegmentSummary {
  readonly logical: number;
  readonly physical: number;
  /** Null when the log could not be read. */
  readonly used: boolean | null;
  readonly generation: number;
  readonly generationWinner: number;
  readonly generationSeq: number;
  /** Copies with a good CRC. */
  readonly generationCopies: readonly number[];
  readonly infoWinner: number;
  readonly infoSeq: number;
  readonly infoCopies: readonly number[];
  readonly type: number;
  /** Physical id of the next segment; null for the last. */
  readonly next: number | null;
}

/** What the log and the index hold. */
export interface ContentSummary {
  readonly keyHead: Position;
  readonly segmentsUsed: number;
  readonly ksets: number;
  readonly keys: number;
  readonly staleKeys: number;
  readonly logBytes: number;
  /** Entries of the index after overlap resolution. */
  readonly liveEntries: number;
  readonly liveBytes: number;
  /** Of the live bytes, those that are not on the backing device yet. */
  readonly dirtyBytes: number;
  readonly cleanBytes: number;
}

/** What the cache has recorded of its backing device (format §6). */
export interface BackingRecordSummary {
  readonly backingBytes: number;
  /** What tells it from others, such as its WWID; null where it has nothing of the kind. */
  readonly identity: { readonly kind: string; readonly text: string } | null;
  /** Digests of its contents. */
  readonly samples: number;
  /** The digests count: nothing has attached the cache since they were taken. */
  readonly isCurrent: boolean;
}

export interface CacheSummary {
  readonly path: string;
  readonly backing: string | null;
  readonly deviceBytes: number;
  readonly backingBytes: number | null;
  readonly segmentBytes: number;
  readonly roomForSegments: number;
  readonly superblock: {
    readonly magicOk: boolean;
    readonly crcOk: boolean;
    readonly flags: number;
    readonly segments: number;
  };
  readonly cacheInfo: DualSummary<CacheInfo>;
  /**
   * The copy of cache_info that Linux 6.18.0 to 6.18.3 writes 24 bytes behind copy 0, where no kernel reads it; null where
   * no valid one lies there (format §5.1).
   */
  readonly strayCacheInfo: (CopySummary<CacheInfo> & { readonly gcPercent: number }) | null;
  /** The kernels that wrote cache_info, where the layout tells: "Linux 6.18.0–6.18.3"; null for all later ones. */
  readonly writtenBy: string | null;
  readonly keyTail: DualSummary<Position>;
  readonly dirtyTail: DualSummary<Position>;
  /** Null where the cache has recorded nothing of its backing device. */
  readonly backingRecord: BackingRecordSummary | null;
  readonly mode: string;
  readonly dataCrc: boolean;
  readonly gcPercent: number;
  readonly initDone: boolean;
  readonly segments: readonly SegmentSummary[];
  /** Null when the log could not be read. */
  readonly content: ContentSummary | null;
  /** The kernel's status line right after it attached this; null when it would not. */
  readonly status: string | null;
  /** Device-mapper table to attach it. */
  readonly table: string;
  /** How durable stores through a mapping of the device are; null where it is not mapped. */
  readonly durability: Durability | null;
  readonly problems: readonly MediaProblem[];
}

/** @throws PcacheError NOT_PCACHE when nothing says that this is a cache, TRUNCATED when it is too short for one */
export function summarise(devices: InspectedDevices): CacheSummary {
  const { pmem, backing } = devices;
  const reader = new TolerantReader(pmem);
  const result = loadCache(reader, inspectionLoad(devices));
  const cache = 'cache' in result ? result.cache : undefined;
  const metadata = 'cache' in result ? result.cache.metadata : result.metadata;
  const problems = 'cache' in result ? [] : result.problems;
  if (isForeign(metadata)) throw damagedCache(pmem.path, metadata, problems);
  const { flags, geometry, roomForSegments } = metadata;
  const isOld = isWrittenBy618(reader, geometry, roomForSegments, metadata.cacheInfo);
  return {
    path: pmem.path,
    backing: backing?.path ?? null,
    deviceBytes: metadata.deviceBytes,
    backingBytes: backing?.sizeBytes ?? null,
    segmentBytes: geometry.segmentBytes,
    roomForSegments,
    superblock: {
      magicOk: metadata.superblock.magicOk,
      crcOk: metadata.superblock.crcOk,
      flags: metadata.superblock.flags,
      segments: metadata.superblock.segmentCount,
    },
    cacheInfo: summariseDual(metadata.cacheInfo, cacheInfoFields),
    strayCacheInfo: summariseStray(reader),
    writtenBy: isOld ? LINUX_6_18 : null,
    keyTail: summariseDual(metadata.keyTail, ({ segment, offsetBytes }) => ({ segment, offsetBytes })),
    dirtyTail: summariseDual(metadata.dirtyTail, ({ segment, offsetBytes }) => ({ segment, offsetBytes })),
    backingRecord: summariseRecord(reader),
    mode: CACHE_MODES[flags.modeNumber] ?? `unknown (${flags.modeNumber})`,
    dataCrc: flags.dataCrc,
    gcPercent: flags.gcPercent,
    initDone: flags.initDone,
    segments: summariseSegments(metadata, cache),
    content: cache === undefined ? null : summariseContent(cache),
    status: cache === undefined ? null : statusLine(pmem, cache),
    table: tableLine(pmem.path, backing, flags.dataCrc),
    durability: durabilityOf(pmem),
    problems,
  };
}

const cacheInfoFields = ({ firstSegmentId, segmentCount, flags }: CacheInfo): CacheInfo => ({
  firstSegmentId,
  segmentCount,
  flags,
});

function summariseStray(reader: PmemReader): CacheSummary['strayCacheInfo'] {
  const stray = readStrayCacheInfo(reader);
  if (stray === undefined) return null;
  const { crcOk, seq, flags } = stray;
  return { crcOk, blank: false, seq, ...cacheInfoFields(stray), gcPercent: decodeCacheFlags(flags).gcPercent };
}

function summariseRecord(reader: PmemReader): BackingRecordSummary | null {
  const { value: record } = readBackingRecord(reader);
  if (record === undefined) return null;
  const { backingBytes, identity = null, digests, state } = record;
  const samples = digests.filter((digest) => digest !== undefined).length;
  return { backingBytes, identity, samples, isCurrent: samples > 0 && state === stateOf(reader) };
}

function summariseDual<T>(dual: Dual<T>, pick: (copy: T & MetaHeader) => T): DualSummary<T> {
  const copies = dual.copies.map((copy, at) => ({
    crcOk: copy.crcOk,
    blank: dual.blank[at],
    seq: copy.seq,
    ...pick(copy),
  }));
  return { winner: dual.winner, reason: dual.reason, copies };
}

function goodCopies(state: number): number[] {
  return [CopyState.valid0, CopyState.valid1].flatMap((bit, copy) => ((state & bit) === 0 ? [] : [copy]));
}

function summariseSegments(metadata: CacheMetadata, cache: LoadedCache | undefined): SegmentSummary[] {
  const { chain } = metadata;
  return Array.from({ length: chain.length }, (_, logical) => ({
    logical,
    physical: chain.physicalId[logical],
    used: cache === undefined ? null : cache.segments.isUsed(logical),
    generation: chain.generation[logical],
    generationWinner: chain.generationWinner[logical],
    generationSeq: chain.generationSeq[logical],
    generationCopies: goodCopies(chain.generationState[logical]),
    infoWinner: chain.infoWinner[logical],
    infoSeq: chain.infoSeq[logical],
    infoCopies: goodCopies(chain.infoState[logical]),
    type: chain.infoType[logical],
    next: chain.hasNext[logical] === 1 ? chain.nextSegmentId[logical] : null,
  }));
}

function summariseContent(cache: LoadedCache): ContentSummary {
  let entries = 0;
  let liveBytes = 0;
  let dirtyBytes = 0;
  let cleanBytes = 0;
  for (const entry of liveEntries(cache)) {
    entries++;
    liveBytes += entry.lengthBytes;
    if (entry.state === 'dirty') dirtyBytes += entry.lengthBytes;
    else if (entry.state === 'clean') cleanBytes += entry.lengthBytes;
  }
  return {
    keyHead: cache.keyHead,
    segmentsUsed: cache.segments.usedCount,
    ksets: cache.ksetCount,
    keys: cache.keyCount,
    staleKeys: cache.staleKeyCount,
    logBytes: cache.logBytes,
    liveEntries: entries,
    liveBytes,
    dirtyBytes,
    cleanBytes,
  };
}

/**
 * Segments that Linux 7.2.13 and 7.3 take for used after replay: those of the log, and those of keys that are not stale.
 * (A cache that runs here counts those of stale keys too, until GC passes them.)
 */
function kernelUsedCount(pmem: PmemReader, cache: LoadedCache): number {
  if (cache.staleKeyCount === 0) return cache.segments.usedCount;
  const { geometry, chain } = cache.metadata;
  const used = new Set<number>([cache.keyTail.segment, cache.keyHead.segment]);
  const walker = new LogWalker(pmem, geometry, chain, cache.keyTail);
  for (let ksets = 0; ksets < cache.ksetCount && walker.next(); ksets++) {
    const { kset } = walker;
    used.add(walker.segment);
    for (let index = 0; index < kset.keyCount; index++) {
      const segment = kset.keySegment(index);
      if (kset.keyGeneration(index) >= chain.generation[segment]) used.add(segment);
    }
  }
  return used.size;
}

/** kernel: the target's status; it counts the superblock's segments, whatever cache_info says. */
function statusLine(pmem: PmemReader, cache: LoadedCache): string {
  const { metadata } = cache;
  const info = metadata.cacheInfo.value!;
  return formatStatusLine({
    superblockFlags: metadata.superblock.flags,
    segmentsOnDevice: metadata.superblock.segmentCount,
    cacheSegments: metadata.superblock.segmentCount,
    segmentsUsed: kernelUsedCount(pmem, cache),
    gcPercent: metadata.flags.gcPercent,
    cacheFlags: info.flags,
    keyHead: cache.keyHead,
    dirtyTail: cache.dirtyTail,
    keyTail: cache.keyTail,
  });
}

function tableLine(cachePath: string, backing: InspectedDevices['backing'], dataCrc: boolean): string {
  const sectors = backing === undefined ? '<sectors>' : String(backing.sizeBytes / SECTOR_BYTES);
  const backingPath = backing?.path ?? '<backing_dev>';
  return `0 ${sectors} pcache ${cachePath} ${backingPath} 4 cache_mode writeback data_crc ${dataCrc}`;
}

function durabilityOf(pmem: PmemReader): Durability | null {
  return 'durability' in pmem ? (pmem.durability as Durability) : null;
}
