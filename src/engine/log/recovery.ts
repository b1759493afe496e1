/**
 * Loads a cache from its device (format §2 "Attach"): metadata, then the whole log from key_tail into the
 * extent index. It only reads: the engine opens a cache with it, and so do `cat`, `dump-keys --live` and `info`.
 */
import { PcacheError } from '../errors.js';
import { indexAid } from '../device/native.js';
import type { PmemReader } from '../device/pmem.js';
import { couldAccess, TolerantReader } from '../device/tolerant-reader.js';
import type { Position } from '../media/codecs.js';
import { CRC_SEED, type Crc32c } from '../media/crc32c.js';
import { SECTOR_BYTES, SECTOR_SHIFT, SEGMENTS_OFFSET_BYTES, SUBTREE_BYTES, type Geometry } from '../media/geometry.js';
import { LogWalker, type LogEndReason } from '../media/log-walker.js';
import { readMetadata, type CacheMetadata } from '../media/metadata.js';
import type { KsetView } from '../media/kset.js';
import { positionText } from '../media/position-text.js';
import type { MediaProblem } from '../media/problem.js';
import { ENTRY_CLEAN, ENTRY_WRITTEN_BACK } from '../index/entry-table.js';
import { ExtentIndex } from '../index/extent-index.js';
import type { PayloadCrcs } from '../space/payload-crcs.js';
import { lowWord, SegmentTable } from '../space/segment-table.js';
import type { Sharing } from './sharing.js';

export interface LoadOptions {
  readonly geometry: Geometry;
  /** Size of the backing device, bytes; a key beyond it is a problem. Infinity when it is not known. */
  readonly backingBytes: number;
  /** Whether to check payload CRCs when the cache has data_crc, as the kernel does at attach. */
  readonly checkPayload: boolean;
  readonly crc?: Crc32c;
  /** Receives the payload CRC of every current key. */
  readonly payloadCrcs?: PayloadCrcs;
  /** For a cache that several threads share. */
  readonly sharing?: Sharing;
}

/** The metadata and the log of a cache, in memory. */
export interface LoadedCache {
  readonly metadata: CacheMetadata;
  readonly segments: SegmentTable;
  readonly index: ExtentIndex;
  readonly keyTail: Position;
  readonly dirtyTail: Position;
  readonly keyHead: Position;
  readonly endReason: LogEndReason;
  readonly ksetCount: number;
  /** Ksets from dirty_tail on. */
  readonly dirtyKsetCount: number;
  readonly keyCount: number;
  readonly staleKeyCount: number;
  /** Bytes of the log from key_tail to key_head. */
  readonly logBytes: number;
  /** Size of the logical device that the index covers: the backing device's, or the end of the last key. */
  readonly logicalBytes: number;
}

export type LoadResult =
  { readonly cache: LoadedCache } | { readonly problems: readonly MediaProblem[]; readonly metadata: CacheMetadata };

/** Reads the metadata. Throws TRUNCATED when the device is too short to hold it; `readMetadata` judges the rest. */
export function readMetadataOf(pmem: PmemReader, geometry: Geometry): CacheMetadata {
  if (pmem.sizeBytes < SEGMENTS_OFFSET_BYTES) {
    throw new PcacheError(
      'TRUNCATED',
      `${pmem.path}: only ${pmem.sizeBytes} bytes, too short for a pcache; give the whole cache device or image`,
    );
  }
  // A copy that the medium cannot read is a broken one; the log, and payload, are not for this to pass over.
  return readMetadata(new TolerantReader(pmem), geometry);
}

/** Loads a cache, or returns the problems for which it cannot be loaded; the kernel would refuse it too. */
export function loadCache(pmem: PmemReader, options: LoadOptions): LoadResult {
  const metadata = readMetadataOf(pmem, options.geometry);
  if (metadata.problems.length > 0) return { problems: metadata.problems, metadata };
  const keyTail = metadata.keyTail.value!;
  const dirtyTail = metadata.dirtyTail.value!;
  const logicalBytes = Number.isFinite(options.backingBytes)
    ? options.backingBytes
    : reachOfKeys(pmem, metadata, options);

  const segments =
    options.sharing?.makeSegments(options.geometry, metadata.chain) ??
    new SegmentTable(options.geometry, metadata.chain);
  const index = new ExtentIndex(logicalBytes, segments.generationLow, indexAid());
  const walker = new LogWalker(pmem, options.geometry, metadata.chain, keyTail, options.crc);
  const replay = new Replay(pmem, metadata, segments, index, options);
  let behindDirtyTail = true;
  let logBytes = 0;
  segments.markInLog(keyTail.segment);
  while (walker.next()) {
    if (walker.isAt(dirtyTail)) behindDirtyTail = false;
    logBytes += walker.kset.lengthBytes;
    if (walker.kset.isLast) {
      segments.markInLog(walker.kset.nextSegment);
      continue;
    }
    const problem = replay.kset(walker.kset, walker.position, behindDirtyTail);
    if (problem) return { problems: [problem], metadata };
  }
  const problem = endProblem(walker, behindDirtyTail, dirtyTail);
  if (problem) return { problems: [problem], metadata };
  return {
    cache: {
      metadata,
      segments,
      index,
      keyTail: { segment: keyTail.segment, offsetBytes: keyTail.offsetBytes },
      dirtyTail: { segment: dirtyTail.segment, offsetBytes: dirtyTail.offsetBytes },
      keyHead: walker.position,
      endReason: walker.endReason!,
      ksetCount: replay.ksetCount,
      dirtyKsetCount: replay.dirtyKsetCount,
      keyCount: replay.keyCount,
      staleKeyCount: replay.staleKeyCount,
      logBytes,
      logicalBytes,
    },
  };
}

/** Loads a cache. Throws BAD_MEDIA, or NOT_PCACHE, with the first problem when it cannot be loaded. */
export function loadCacheOrThrow(pmem: PmemReader, options: LoadOptions): LoadedCache {
  const result = loadCache(pmem, options);
  if ('cache' in result) return result.cache;
  throw badMedia(pmem.path, result.problems);
}

/** The error for a device that cannot be used as a cache. */
export function badMedia(path: string, problems: readonly MediaProblem[]): PcacheError {
  const [first] = problems;
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : '';
  if (first.code === 'SUPERBLOCK_BAD_MAGIC' || first.code === 'SUPERBLOCK_ZERO_MAGIC') {
    return new PcacheError(
      'NOT_PCACHE',
      `${path}: not a pcache device: ${first.detail}; run "pcache fsck" if it should be one`,
    );
  }
  return new PcacheError('BAD_MEDIA', `${path}: ${first.detail}${more}; run "pcache fsck" for all of it`);
}

/** The problem, if any, with the way in which the log ends; `walker` has reached key_head. */
export function endProblem(walker: LogWalker, behindDirtyTail: boolean, dirtyTail: Position): MediaProblem | undefined {
  const at = positionText(walker);
  switch (walker.endReason) {
    case 'too-long':
      return { code: 'KSET_TOO_LONG', detail: `the kset at ${at} is longer than its segment` };
    case 'last-out-of-range':
      return {
        code: 'LAST_OUT_OF_RANGE',
        detail: `the LAST kset at ${at} leads to segment ${walker.kset.nextSegment}, which does not exist`,
      };
    case 'too-many-hops':
      return { code: 'LOG_LOOPS', detail: `the log makes more hops than there are segments, the last at ${at}` };
    default:
      if (!behindDirtyTail || walker.isAt(dirtyTail)) return undefined;
      return {
        code: 'DIRTY_TAIL_NOT_IN_LOG',
        detail: `dirty_tail ${positionText(dirtyTail)} is not a position in the log, which ends at ${at}`,
      };
  }
}

/** The index needs memory for every 4 MiB of the logical device, so a key beyond 1 PiB is treated as damage. */
const LOGICAL_LIMIT_BYTES = 2 ** 50;

/** One past the last byte any key covers, rounded up to a subtree. */
function reachOfKeys(pmem: PmemReader, metadata: CacheMetadata, options: LoadOptions): number {
  let reach = 0;
  const walker = new LogWalker(pmem, options.geometry, metadata.chain, metadata.keyTail.value!, options.crc);
  while (walker.next()) {
    const { kset } = walker;
    for (let i = 0; i < kset.keyCount; i++) {
      // A key that is out of bounds is reported by the replay; it must not size the index.
      if (kset.keyProblem(i, options.geometry, metadata.chain.length, backingLimit(options)) !== '') continue;
      reach = Math.max(reach, kset.keyOffsetBytes(i) + kset.keyLengthBytes(i));
    }
  }
  return reach;
}

/** Maximum end of a key, bytes. */
function backingLimit(options: LoadOptions): number {
  return Math.min(options.backingBytes, LOGICAL_LIMIT_BYTES);
}

class Replay {
  ksetCount = 0;
  dirtyKsetCount = 0;
  keyCount = 0;
  staleKeyCount = 0;

  constructor(
    private readonly pmem: PmemReader,
    private readonly metadata: CacheMetadata,
    private readonly segments: SegmentTable,
    private readonly index: ExtentIndex,
    private readonly options: LoadOptions,
  ) {}

  /** Inserts the keys of one kset into the index and counts their references, those of stale keys too. */
  kset(kset: KsetView, position: Position, writtenBack: boolean): MediaProblem | undefined {
    const { segments, index, options } = this;
    const checkCrc = options.checkPayload && this.metadata.flags.dataCrc;
    const count = kset.keyCount;
    for (let i = 0; i < count; i++) {
      const wrong = kset.keyProblem(i, options.geometry, segments.count, backingLimit(options));
      if (wrong !== '') {
        return {
          code: 'KEY_OUT_OF_BOUNDS',
          detail: `key ${i} of the kset at ${positionText(position)} ${wrong}`,
        };
      }
      const segment = kset.keySegment(i);
      const segmentOffset = kset.keySegmentOffsetBytes(i);
      const offset = kset.keyOffsetBytes(i);
      const length = kset.keyLengthBytes(i);
      const generation = kset.keyGeneration(i);
      const stale = generation < segments.generation(segment);
      segments.markUsed(segment);
      segments.get(segment);
      // The kernel refuses a stale key with a bad CRC too. Nothing reads its payload any more, so it is accepted here.
      if (checkCrc && !stale) {
        const at = segments.dataOffsetBytes[segment] + segmentOffset;
        if (!this.isAsWritten(at, length, kset.keyDataCrc(i))) {
          return {
            code: 'PAYLOAD_CRC_CURRENT',
            detail: `the payload of bytes ${offset}–${offset + length - 1} (segment ${positionText({ segment, offsetBytes: segmentOffset })}) does not match its CRC`,
          };
        }
      }
      if (stale) {
        this.staleKeyCount++;
        continue;
      }
      const subtree = Math.floor(offset / SUBTREE_BYTES);
      if (options.sharing && !options.sharing.owns(subtree)) continue;
      // A generation above the segment's counts as the segment's: the key becomes stale when the segment is freed.
      options.payloadCrcs?.add(segment, segmentOffset >>> SECTOR_SHIFT, length >>> SECTOR_SHIFT, kset.keyDataCrc(i));
      index.insert(
        subtree,
        (offset % SUBTREE_BYTES) >>> SECTOR_SHIFT,
        length >>> SECTOR_SHIFT,
        segment,
        segmentOffset / SECTOR_BYTES,
        lowWord(segments.generation(segment)),
        (kset.keyIsClean(i) ? ENTRY_CLEAN : 0) | (writtenBack ? ENTRY_WRITTEN_BACK : 0),
      );
    }
    this.ksetCount++;
    if (!writtenBack) this.dirtyKsetCount++;
    this.keyCount += count;
    return undefined;
  }

  /** Payload that the medium cannot read is not known to be wrong: a request for it fails, and all else is served. */
  private isAsWritten(offsetBytes: number, lengthBytes: number, expected: number): boolean {
    let crc = expected;
    couldAccess(() => {
      crc = this.pmem.crc32c(offsetBytes, lengthBytes, CRC_SEED);
    });
    return crc === expected;
  }
}
