/**
 * State that the parts of a running cache share. Built once at open by `openCore`; the parts (request path, write-back,
 * GC) know nothing of one another.
 */
import { PcacheError } from './errors.js';
import { DataHead } from './space/data-head.js';
import type { BackingDevice } from './device/backing.js';
import type { Arena, Pmem } from './device/pmem.js';
import type { Clock } from './clock.js';
import { DualWriter } from './copies/dual-writer.js';
import { copiesAgree, Tail } from './copies/tail.js';
import type { ExtentIndex } from './index/extent-index.js';
import { LogWriter } from './log/log-writer.js';
import {
  CACHE_MODES,
  encodeCacheFlags,
  encodeCacheInfo,
  type CacheFlags,
  type CacheMode,
  type Position,
} from './media/codecs.js';
import { crc32cRaw, type Crc32c } from './media/crc32c.js';
import {
  KERNEL_GEOMETRY,
  SECTOR_BYTES,
  SECTOR_SHIFT,
  sectorInSubtree,
  subtreeOf,
  type Geometry,
} from './media/geometry.js';
import {
  KeyField,
  KSET_ALIGNMENT_BYTES,
  KSET_BYTES_MAX,
  KSET_HEADER_BYTES,
  ksetBytes,
  KsetView,
} from './media/kset.js';
import type { CacheMetadata } from './media/metadata.js';
import { PayloadCopies } from './space/payload-copies.js';
import { PayloadCrcs } from './space/payload-crcs.js';
import { Pieces } from './space/pieces.js';
import { loadCacheOrThrow, type LoadedCache } from './log/recovery.js';
import type { SegmentTable } from './space/segment-table.js';
import type { Sharing } from './log/sharing.js';
import { EngineStats } from './stats.js';
import { repairBrokenCopies } from './copies/repair-copies.js';

export interface CacheOptions {
  readonly pmem: Pmem;
  readonly backing: BackingDevice;
  readonly clock: Clock;
  /** The kernel's if not given; tests use small segments. */
  readonly geometry?: Geometry;
  /** Number of slots, each with an open kset and a data head; the kernel has one for each CPU. 1 if not given. */
  readonly slots?: number;
  /** CRC-32C over a buffer: the native one if there is one, a table-driven one if not given. */
  readonly crc?: Crc32c;
  /** Check the CRC of every current payload at open, as the kernel does (data_crc caches). True if not given. */
  readonly checkPayload?: boolean;
  /**
   * Check the payload CRC of all data that is read from the cache (data_crc caches). A read with a mismatch fails with
   * BAD_MEDIA. Costs 12 bytes of memory a key, and the CRC of whole payloads at each read.
   */
  readonly verifyReads?: boolean;
  /**
   * TRIM and WRITE_ZEROES make holes in the backing device, if it can, where the cache holds nothing. False if not given:
   * then TRIM does nothing and zeroes are written into the cache. With it the backing device is flushed once at open,
   * and reads fill the cache only after that.
   */
  readonly punches?: boolean;
  /** Have the memory of segments prepared before they are used, where that helps. False if not given. */
  readonly preparesMemory?: boolean;
  /** Given when several threads share the cache; made by `shards/`. */
  readonly sharing?: Sharing;
}

export class Core {
  readonly pmem: Pmem;
  readonly backing: BackingDevice;
  readonly clock: Clock;
  readonly geometry: Geometry;
  readonly metadata: CacheMetadata;
  readonly segments: SegmentTable;
  readonly index: ExtentIndex;
  readonly log: LogWriter;
  readonly heads: readonly DataHead[];
  readonly copies: PayloadCopies;
  /** The batch that is being written; empty outside of the calls that write it. */
  readonly pieces: Pieces;
  readonly keyTail: Tail;
  readonly dirtyTail: Tail;
  readonly crc: Crc32c;
  readonly dataCrc: boolean;
  readonly mode: CacheMode;
  /** Holes are made in the backing device. */
  readonly punches: boolean;
  /** CRCs of all payload, when reads are verified. */
  readonly payloadCrcs: PayloadCrcs | undefined;
  readonly stats = new EngineStats();

  private failed: PcacheError | undefined;
  private flags: CacheFlags;
  private readonly infoWriter: DualWriter;

  constructor(options: CacheOptions, loaded: LoadedCache, payloadCrcs: PayloadCrcs | undefined) {
    const { pmem } = options;
    const { metadata } = loaded;
    this.pmem = pmem;
    this.backing = options.backing;
    this.clock = options.clock;
    this.geometry = loaded.segments.geometry;
    this.metadata = metadata;
    this.segments = loaded.segments;
    this.index = loaded.index;
    this.crc = options.crc ?? crc32cRaw;
    this.flags = metadata.flags;
    this.dataCrc = metadata.flags.dataCrc;
    this.mode = CACHE_MODES[metadata.flags.modeNumber];
    this.punches = options.punches === true && options.backing.zero !== undefined;
    this.payloadCrcs = payloadCrcs;
    const logArgs: ConstructorParameters<typeof LogWriter> = [
      pmem,
      this.segments,
      loaded.keyHead,
      options.slots ?? 1,
      this.crc,
      options.clock,
      payloadCrcs,
    ];
    this.log = options.sharing?.makeLog(...logArgs) ?? new LogWriter(...logArgs);
    this.heads = Array.from({ length: this.log.slotCount }, () => new DataHead(this.segments, payloadCrcs));
    this.pieces = new Pieces(pmem, this.dataCrc, this.heads);
    this.copies = new PayloadCopies(pmem, this.index, this.pieces.list);
    this.infoWriter = DualWriter.over(pmem, metadata.cacheInfo);
    const tail = (dual: CacheMetadata['keyTail'], at: Position) =>
      new Tail(DualWriter.over(pmem, dual), at.segment, at.offsetBytes, copiesAgree(dual));
    this.keyTail = tail(metadata.keyTail, loaded.keyTail);
    this.dirtyTail = tail(metadata.dirtyTail, loaded.dirtyTail);
  }

  /** Why the cache has stopped, if it has. */
  get failure(): PcacheError | undefined {
    return this.failed;
  }
  /**
   * Stops the cache for good, because its device failed: what is in memory may not match the device any more. The first
   * error stays.
   * @returns `error`
   * @throws `error` itself when it is not a PcacheError, hence a bug of ours
   */
  fail(error: unknown): PcacheError {
    if (!(error instanceof PcacheError)) throw error;
    this.failed ??= error;
    return error;
  }

  /** Writes reach the backing device before they are acknowledged (writethrough, writearound). */
  get isThrough(): boolean {
    return this.mode === 'writethrough' || this.mode === 'writearound';
  }
  get gcPercent(): number {
    return this.flags.gcPercent;
  }
  /** Current flags word of cache_info. */
  get cacheFlags(): number {
    return encodeCacheFlags(this.flags);
  }
  /** Sets gc_percent (0–90) durably. @throws PcacheError what the device throws; the cache stops then */
  setGcPercent(gcPercent: number): void {
    this.flags = { ...this.flags, gcPercent };
    try {
      this.storeCacheInfo();
    } catch (error) {
      throw this.fail(error);
    }
  }
  /** Writes cache_info durably, as every attach does at its end. */
  storeCacheInfo(): void {
    const { firstSegmentId, segmentCount } = this.metadata.cacheInfo.value!;
    this.infoWriter.write((seq) => encodeCacheInfo({ firstSegmentId, segmentCount, flags: this.cacheFlags }, seq));
    this.pmem.persist();
  }

  /**
   * Stores the batch in `pieces`: payload into the cache device, keys into the open kset of its slot, entries into the
   * index. The payload is not fenced, and no kset is closed, before the next `commit`.
   * @param keyFlags of every key
   * @param entryFlags of every index entry
   * @throws PcacheError what the device throws
   */
  storePieces(arena: Arena, keyFlags: number, entryFlags: number): void {
    const { copies, index, log, pieces } = this;
    copies.write(pieces, arena);
    log.append(pieces, keyFlags);
    index.insertPieces(pieces, entryFlags);
    pieces.end(log.roomOf(pieces.slot));
  }

  /**
   * Ends the copies that were begun, then closes the ksets that are due.
   * @returns false when the log needs a segment and none is free; the ksets stay due.
   */
  commit(): boolean {
    this.copies.run();
    return this.log.closeDue();
  }

  /** Offset on the cache device of a byte of the logical device, or −1 when it is not cached. */
  locate(offsetBytes: number): number {
    const { index, segments } = this;
    const subtree = subtreeOf(offsetBytes);
    const sector = sectorInSubtree(offsetBytes, subtree);
    index.seek(subtree, sector);
    if (!index.valid || index.start > sector || index.isEmpty || index.isStale) return -1;
    const inSegment = (index.offsetSectors + sector - index.start) << SECTOR_SHIFT;
    return segments.dataOffsetBytes[index.segment] + inSegment + (offsetBytes % SECTOR_BYTES);
  }

  /** Everything in the log is on the backing device. Open ksets are not in the log. */
  get logIsClean(): boolean {
    return this.dirtyTail.isAt(this.log.headSegment, this.log.headOffsetBytes);
  }
}

/**
 * Loads the cache and makes it ready to run. That changes the device: broken copies of metadata are repaired, and
 * cache_info is written anew (format §1).
 * @throws PcacheError NOT_A_DEVICE, NOT_PCACHE, BAD_MEDIA, UNSUPPORTED, USAGE, IO
 */
export function openCore(options: CacheOptions): { readonly core: Core; readonly dirtyKsets: number } {
  const { pmem, backing } = options;
  const payloadCrcs = options.verifyReads ? new PayloadCrcs() : undefined;
  if (backing.sizeBytes === 0 || backing.sizeBytes % SECTOR_BYTES !== 0) {
    throw new PcacheError(
      'NOT_A_DEVICE',
      `${backing.path}: size ${backing.sizeBytes} must be a positive multiple of ${SECTOR_BYTES}`,
    );
  }
  const loaded = loadCacheOrThrow(pmem, {
    geometry: options.geometry ?? KERNEL_GEOMETRY,
    backingBytes: backing.sizeBytes,
    checkPayload: options.checkPayload ?? true,
    ...(options.crc ? { crc: options.crc } : {}),
    ...(payloadCrcs ? { payloadCrcs } : {}),
    ...(options.sharing ? { sharing: options.sharing } : {}),
  });
  const { modeNumber, dataCrc } = loaded.metadata.flags;
  if (modeNumber >= CACHE_MODES.length) {
    throw new PcacheError('UNSUPPORTED', `${pmem.path}: unknown cache mode ${modeNumber}; run "pcache fsck"`);
  }
  if (payloadCrcs && !dataCrc) {
    throw new PcacheError(
      'USAGE',
      `${pmem.path}: reads cannot be verified because the cache has no CRCs of its data; create it with data_crc, or open it without verifyReads`,
    );
  }
  if (loaded.metadata.flags.gcPercent > 90) {
    throw new PcacheError(
      'BAD_MEDIA',
      `${pmem.path}: gc_percent is ${loaded.metadata.flags.gcPercent}, above 90; run "pcache fsck"`,
    );
  }
  repairBrokenCopies(pmem, loaded.metadata);
  blankLogEnd(pmem, loaded);
  const core = new Core(options, loaded, payloadCrcs);
  core.keyTail.storeInBoth(pmem); // from here on segments that only its older copy leads to count as free
  core.storeCacheInfo();
  return { core, dirtyKsets: loaded.dirtyKsetCount };
}

/**
 * Wipes what a crash leaves of a torn kset at key_head, which is not part of the log: its header, or keys without one. A
 * log in order ends with zeroes, so that fsck can tell a torn kset from a damaged one. Of a key its length is enough:
 * as many zeroes as a whole kset has would look like a cleared piece of the medium.
 */
function blankLogEnd(pmem: Pmem, loaded: LoadedCache): void {
  const { segment, offsetBytes } = loaded.keyHead;
  const { geometry } = loaded.segments;
  const bytes = new Uint8Array(Math.min(KSET_BYTES_MAX, geometry.segmentDataBytes - offsetBytes));
  const at = loaded.segments.dataOffsetBytes[segment] + offsetBytes;
  pmem.read(at, bytes, 0, bytes.length);
  const header = bytes.subarray(0, KSET_HEADER_BYTES);
  const keys = tornKeys(bytes, loaded);
  if (header.every((byte) => byte === 0) && keys.length === 0) return;
  pmem.zero(at, header.length);
  for (const index of keys) pmem.zero(at + ksetBytes(index) + KeyField.length, KeyField.segment - KeyField.length); // and its flags
  pmem.persist();
}

/**
 * @param bytes what lies at key_head, up to the size of the largest kset
 * @returns numbers of the keys of a torn kset there. In a segment that was never collected these are all keys up to the
 * next kset header. Elsewhere an earlier lap of the log may have left the keys, and only the first one counts.
 */
function tornKeys(bytes: Uint8Array, { segments, keyHead }: LoadedCache): number[] {
  const isFirstLap = segments.generation(keyHead.segment) === 0;
  const endBytes = isFirstLap ? nextHeaderBytes(bytes) : Math.min(ksetBytes(1), bytes.length);
  const kset = new KsetView().attach(bytes, 0);
  const keys: number[] = [];
  for (let index = 0; ksetBytes(index + 1) <= endBytes; index++) {
    if (kset.keyProblem(index, segments.geometry, segments.count, Infinity) === '') keys.push(index);
  }
  return keys;
}

/** @returns offset of the next header of a kset in `bytes`, or their end */
function nextHeaderBytes(bytes: Uint8Array): number {
  const kset = new KsetView();
  for (let at = KSET_ALIGNMENT_BYTES; at + KSET_HEADER_BYTES <= bytes.length; at += KSET_ALIGNMENT_BYTES) {
    if (kset.attach(bytes, at).magicOk) return at;
  }
  return bytes.length;
}
