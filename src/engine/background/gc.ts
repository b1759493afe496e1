/**
 * Garbage collection (format §3 "GC"): goes from key_tail up to dirty_tail while the cache is fuller than gc_percent.
 * When it passes a kset it drops the references of the kset's keys; a segment that loses its last reference is freed
 * under a new generation.
 *
 * Order: key_tail is persisted first, then the generations, and only then can a segment be taken again. So the log never
 * holds a key whose payload has been overwritten; under data_crc such a key would make the kernel refuse the whole
 * device after a crash. Both copies of a tail are brought up to date before anything is given up that only the older
 * copy still leads to, so the loss of one copy loses nothing else.
 */
import type { Core } from '../core.js';
import { KsetReader } from './kset-reader.js';
import { CRC_SEED } from '../media/crc32c.js';
import type { KsetView } from '../media/kset.js';

/** Maximum number of ksets passed before key_tail is persisted. */
const KSETS_PER_STEP = 16;

export class GarbageCollector {
  private readonly reader: KsetReader;

  constructor(private readonly core: Core) {
    this.reader = new KsetReader(core);
  }

  /** Number of used segments at which collection starts. */
  get thresholdSegments(): number {
    return Math.floor((this.core.segments.count * this.core.gcPercent) / 100);
  }

  /** The cache is so full that GC should run. */
  get isCacheFull(): boolean {
    return this.core.segments.usedCount >= this.thresholdSegments;
  }

  private get isNeeded(): boolean {
    const { keyTail, dirtyTail } = this.core;
    return this.isCacheFull && !keyTail.isAt(dirtyTail.segment, dirtyTail.offsetBytes);
  }

  /**
   * Passes a few ksets.
   * @returns true when key_tail moved or a segment was freed
   * @throws PcacheError when the device fails or the log changed under us
   */
  step(): boolean {
    const { core } = this;
    const { keyTail, segments, stats } = core;
    let passed = 0;
    let left = -1;
    if (this.isNeeded) core.dirtyTail.storeInBoth(core.pmem); // key_tail must not pass either copy
    while (passed < KSETS_PER_STEP && left < 0 && !segments.hasDead && this.isNeeded) {
      const kset = this.reader.readAt(keyTail.segment, keyTail.offsetBytes);
      if (kset.isLast) {
        if (core.dirtyTail.segment === keyTail.segment) break;
        left = keyTail.segment;
        keyTail.segment = kset.nextSegment;
        keyTail.offsetBytes = 0;
      } else {
        this.dropReferences(kset);
        keyTail.offsetBytes += kset.lengthBytes;
        stats.gcKsets++;
      }
      passed++;
    }
    if (passed > 0) {
      keyTail.store();
      core.pmem.persist();
    }
    if (left >= 0 || segments.hasDead) keyTail.storeInBoth(core.pmem); // before segments go that the older copy leads to
    if (left >= 0) segments.freeLogSegment(left);
    const freed = segments.retire(core.pmem);
    stats.segmentsFreed += freed;
    return passed > 0 || freed > 0;
  }

  private dropReferences(kset: KsetView): void {
    const { segments, pmem, dataCrc, stats } = this.core;
    for (let i = 0; i < kset.keyCount; i++) {
      const segment = kset.keySegment(i);
      if (dataCrc && kset.keyGeneration(i) === segments.generation(segment)) {
        const at = segments.dataOffsetBytes[segment] + kset.keySegmentOffsetBytes(i);
        if (pmem.crc32c(at, kset.keyLengthBytes(i), CRC_SEED) !== kset.keyDataCrc(i)) stats.gcPayloadErrors++;
      }
      segments.put(segment);
    }
    stats.gcKeys += kset.keyCount;
  }
}
