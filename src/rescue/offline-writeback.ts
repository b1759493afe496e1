/**
 * Offline write-back: everything dirty in a cache goes to its backing device, newest version of each byte, in
 * the order of that device; then the device is flushed, and only then dirty_tail moves to key_head.
 *
 * Invariants: dirty_tail moves only when every dirty byte was written and flushed. Until then nothing on the
 * cache device changes, so a run that is stopped at any moment can be made again. With `dryRun` neither device
 * is written; with `keepMetadata` the cache device is not.
 */
import type { BackingDevice } from '../engine/device/backing.js';
import type { Pmem, PmemReader } from '../engine/device/pmem.js';
import { DualWriter } from '../engine/copies/dual-writer.js';
import { PcacheError } from '../engine/errors.js';
import { encodePosition, type Position } from '../engine/media/codecs.js';
import type { Crc32c } from '../engine/media/crc32c.js';
import type { Geometry } from '../engine/media/geometry.js';
import { readMetadataOf } from '../engine/log/recovery.js';
import type { Finding } from '../fsck/findings.js';
import type { BackingComparison } from './backing-comparison.js';
import { compareMapped, refuseForeign } from './backing-guard.js';
import { BackingWriter } from './backing-writer.js';
import { DirtyMap, Fate } from './dirty-map.js';
import { FailedRanges, type FailedRange } from './failed-ranges.js';
import { requireFollowable } from './followable.js';
import { recordBackingContents, requireRecordedBacking } from './recorded-backing.js';

/** Bytes between two turns of the event loop, where nothing else makes one. */
const BYTES_PER_TURN = 64 * 1024 * 1024;

export type WritebackPhase = 'check' | 'verify' | 'write';

export interface WritebackHooks {
  /** A phase begins that has so many bytes to do; undefined where that is not known. */
  readonly begins: (phase: WritebackPhase, totalBytes: number | undefined) => void;
  /** Everything was checked, and nothing is written yet; throws to end the run. */
  readonly checked?: () => void;
  readonly progress: (doneBytes: number) => void;
  /** Lets signals be heard. */
  readonly breathe: () => Promise<void>;
  /** Was the run asked to stop? */
  readonly stopRequested: () => boolean;
  readonly pause: (milliseconds: number) => Promise<void>;
  readonly nowMs: () => number;
}

export interface WritebackOptions {
  readonly geometry: Geometry;
  readonly crc: Crc32c;
  readonly dryRun: boolean;
  readonly keepMetadata: boolean;
  /** Write back what the log holds, although data may be missing from it. */
  readonly acceptLoss: boolean;
  /** Write to the backing device although it does not hold what the cache says it does. */
  readonly forceBacking: boolean;
  /** How often a write that fails is tried again. */
  readonly retries: number;
}

/** A cache device to write back from; `writable` is left out where it is not to be changed. */
export interface WritebackDevices {
  readonly cache: PmemReader;
  readonly writable: Pmem | undefined;
  readonly backing: BackingDevice;
}

export interface WritebackResult {
  readonly path: string;
  readonly backing: string;
  readonly dryRun: boolean;
  readonly keepMetadata: boolean;
  readonly dataCrc: boolean;
  /** Ksets and keys that dirty_tail left to be written back, and the bytes of those keys. */
  readonly ksets: number;
  readonly dirtyKeys: number;
  readonly dirtyKeyBytes: number;
  /** Of these, bytes that a later key has overwritten. */
  readonly supersededBytes: number;
  /** Keys there that need no writing: they are from read misses. */
  readonly cleanKeys: number;
  /** Bytes whose newest version is not on the backing device as far as the log tells: what there is to write. */
  readonly dirtyBytes: number;
  readonly writtenBytes: number;
  readonly writes: number;
  readonly retriedWrites: number;
  readonly failedBytes: number;
  readonly failed: readonly FailedRange[];
  /** Samples of data on both devices that were compared before the first write, and those that differ. */
  readonly comparedSamples: number;
  readonly differingSamples: number;
  readonly dirtyTailBefore: Position;
  readonly dirtyTailAfter: Position;
  /** Of the time from the first write to the last one and the flush. */
  readonly seconds: number;
  readonly bytesPerSecond: number;
  /** What else is wrong with the cache. */
  readonly findings: readonly Finding[];
  /** Is everything of the cache that anybody knows of on the backing device? */
  readonly complete: boolean;
}

/**
 * @throws PcacheError BAD_MEDIA when the log cannot be followed; INTERRUPTED when asked to stop; and what the
 * backing device fails with, when that is no matter of single ranges. The cache is then as it was.
 */
export async function writeBack(
  devices: WritebackDevices,
  options: WritebackOptions,
  hooks: WritebackHooks,
): Promise<WritebackResult> {
  return new OfflineWriteback(devices, options, hooks).run();
}

class OfflineWriteback {
  private readonly failed = new FailedRanges();
  private readonly map: DirtyMap;
  private readonly metadata;
  private readonly findings: readonly Finding[];
  private readonly writer: BackingWriter;

  constructor(
    private readonly devices: WritebackDevices,
    private readonly options: WritebackOptions,
    private readonly hooks: WritebackHooks,
  ) {
    const { cache, backing } = devices;
    const { geometry, crc, retries, acceptLoss } = options;
    hooks.begins('check', undefined);
    this.metadata = readMetadataOf(cache, geometry);
    this.findings = requireFollowable(cache, {
      geometry,
      crc,
      backingBytes: backing.sizeBytes,
      dataCrc: this.metadata.flags.dataCrc,
      acceptLoss,
      onProgress: hooks.progress,
    });
    this.map = new DirtyMap(cache, this.metadata, backing.sizeBytes, crc);
    this.writer = new BackingWriter(cache, backing, this.failed, {
      retries,
      pause: hooks.pause,
      onProgress: hooks.progress,
    });
  }

  async run(): Promise<WritebackResult> {
    const { map, hooks, metadata, options, devices } = this;
    await this.eachTurn(map.load());
    if (metadata.flags.dataCrc) {
      hooks.begins('verify', map.dirtyKeyBytes);
      await this.eachTurn(map.verify());
    }
    const comparison = await this.compare();
    hooks.checked?.();
    let dirtyBytes = 0;
    for (const { lengthBytes } of map.extents()) dirtyBytes += lengthBytes;
    hooks.begins('write', dirtyBytes);
    const startedMs = hooks.nowMs();
    await this.write();
    const seconds = (hooks.nowMs() - startedMs) / 1000;
    const moves = !options.dryRun && devices.writable !== undefined && this.failed.bytes === 0;
    if (moves) {
      const isMoved = this.moveDirtyTail(devices.writable);
      const recorded = { cache: devices.writable, backing: devices.backing };
      if (isMoved || options.forceBacking) await recordBackingContents(recorded, options);
    }
    return this.result(dirtyBytes, seconds, moves, comparison);
  }

  /** Before anything is written. @throws PcacheError BAD_MEDIA for a foreign backing device, unless it is forced */
  private async compare(): Promise<BackingComparison> {
    const { map, metadata, options, devices } = this;
    if (!options.forceBacking) await requireRecordedBacking(devices, options);
    const comparison = await compareMapped(map, metadata, devices);
    if (!options.forceBacking) refuseForeign(comparison, metadata, devices);
    return comparison;
  }

  /** Runs a generator to its end, with a turn of the event loop at every yield. */
  private async eachTurn(steps: Generator<number>): Promise<void> {
    for (const done of steps) {
      this.hooks.progress(done);
      await this.hooks.breathe();
      this.stopIfAsked();
    }
  }

  private stopIfAsked(): void {
    if (!this.hooks.stopRequested()) return;
    const { cache, backing } = this.devices;
    throw new PcacheError(
      'INTERRUPTED',
      `${cache.path}: not all is written back to ${backing.path}; the cache is as it was, run it again`,
    );
  }

  /** Writes what can be written, and makes it durable. */
  private async write(): Promise<void> {
    const { map, writer, failed, hooks, options } = this;
    let sinceTurn = 0;
    try {
      for (const { offsetBytes, lengthBytes, deviceOffsetBytes, fate } of map.extents()) {
        if (fate !== Fate.write) failed.add(offsetBytes, lengthBytes, fate === Fate.badCrc ? 'bad-crc' : 'unreadable');
        else if (!options.dryRun) await writer.add(offsetBytes, lengthBytes, deviceOffsetBytes);
        this.stopIfAsked();
        if ((sinceTurn += lengthBytes) < BYTES_PER_TURN) continue;
        sinceTurn = 0;
        await hooks.breathe();
      }
    } catch (error) {
      // Writes under way use buffers and a device that the caller is about to close.
      await writer.drained().catch(() => undefined);
      throw error;
    }
    await writer.drained();
    if (!options.dryRun) await this.flush();
  }

  /** A flush that failed is not tried again: the system has forgotten by then which writes it lost. */
  private flush(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.devices.backing.flush((error) => {
        if (error === null) resolve();
        else reject(error);
      });
    });
  }

  /** @returns false where it is there already */
  private moveDirtyTail(pmem: Pmem): boolean {
    const { metadata, map } = this;
    const before = metadata.dirtyTail.value!;
    const { segment, offsetBytes } = map.keyHead;
    if (before.segment === segment && before.offsetBytes === offsetBytes) return false;
    // The older or broken copy is overwritten, so a good one stands whatever happens meanwhile.
    DualWriter.over(pmem, metadata.dirtyTail).write((seq) => encodePosition(map.keyHead, seq));
    pmem.persist();
    return true;
  }

  private result(
    dirtyBytes: number,
    seconds: number,
    moved: boolean,
    { samples, differing }: BackingComparison,
  ): WritebackResult {
    const { map, writer, failed, findings, options, devices, metadata } = this;
    const { segment, offsetBytes } = metadata.dirtyTail.value!;
    const dirtyTailBefore = { segment, offsetBytes };
    const torn = findings.some(({ code }) => code === 'LOG_END_TORN');
    const left = options.dryRun ? dirtyBytes : failed.bytes;
    return {
      path: devices.cache.path,
      backing: devices.backing.path,
      dryRun: options.dryRun,
      keepMetadata: options.keepMetadata,
      dataCrc: metadata.flags.dataCrc,
      ksets: map.ksets,
      dirtyKeys: map.dirtyKeys,
      dirtyKeyBytes: map.dirtyKeyBytes,
      supersededBytes: map.dirtyKeyBytes - dirtyBytes,
      cleanKeys: map.cleanKeys,
      dirtyBytes,
      writtenBytes: writer.writtenBytes,
      writes: writer.writes,
      retriedWrites: writer.retried,
      failedBytes: failed.bytes,
      failed: failed.sorted(),
      comparedSamples: samples,
      differingSamples: differing.length,
      dirtyTailBefore,
      dirtyTailAfter: moved ? map.keyHead : dirtyTailBefore,
      seconds,
      bytesPerSecond: seconds > 0 ? writer.writtenBytes / seconds : 0,
      findings,
      complete: left === 0 && !torn,
    };
  }
}
