/**
 * Judges what a crash would leave: the device must load without a problem, and every sector, read as the
 * engine would read it (index first, backing device else), must hold a version that the model allows.
 */
import { loadCache, readMetadataOf, type LoadedCache } from '../../src/engine/log/recovery.js';
import { CACHE_MODES } from '../../src/engine/media/codecs.js';
import type { PmemReader } from '../../src/engine/device/pmem.js';
import { bestCrc32c } from '../../src/engine/device/native.js';
import { SECTOR_BYTES, SUBTREE_BYTES, SUBTREE_SECTORS, type Geometry } from '../../src/engine/media/geometry.js';
import type { SimBacking } from '../../src/engine/sim/sim-backing.js';
import { DirtyMap } from '../../src/rescue/dirty-map.js';
import { countingSamples, RECORD_SAMPLE_BYTES, recordOf, sampleOffsets } from '../../src/rescue/recorded-backing.js';
import { keepBackingRecord, readBackingRecord } from '../../src/engine/copies/backing-record.js';
import { CRC_SEED } from '../../src/engine/media/crc32c.js';
import type { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { SimFailure, type Model } from './model.js';
import type { Corruption } from './sim-corruption.js';
import { describeContents, glanceAtStamp, readStamp, stamp, wordsOf } from './stamps.js';

const WORDS_PER_SECTOR = SECTOR_BYTES / 4;
const ORDINARY_ENDS: readonly string[] = ['bad-magic', 'bad-key-count', 'bad-crc'];

/** One sample of the backing device; its sectors hold these versions. */
function sampleOf(offsetBytes: number, tagOf: (sector: number) => number): Uint8Array {
  const bytes = new Uint8Array(RECORD_SAMPLE_BYTES);
  const first = offsetBytes / SECTOR_BYTES;
  for (let n = 0; n < bytes.length / SECTOR_BYTES; n++) {
    const id = tagOf(first + n);
    if (id >= 0) stamp(wordsOf(bytes), n * WORDS_PER_SECTOR, first + n, id);
  }
  return bytes;
}

export class Verifier {
  /** Crash states with a record of the backing device, and samples in them that counted. */
  recordsSeen = 0;
  samplesSeen = 0;
  readonly crc = bestCrc32c();
  private readonly covered: Uint32Array;
  private epoch = 0;
  private readonly skip: (sector: number) => boolean;
  private readonly visit: (sector: number, tag: number) => void;

  constructor(
    readonly geometry: Geometry,
    private readonly model: Model,
    private readonly corruption: Corruption,
  ) {
    this.covered = new Uint32Array(Math.ceil((model.sectors * SECTOR_BYTES) / SUBTREE_BYTES) * SUBTREE_SECTORS);
    this.skip = (sector) => this.covered[sector] === this.epoch;
    this.visit = (sector, tag) => this.demand(sector, tag, 'the backing device after a crash');
  }

  load(device: PmemReader, checkPayload: boolean): LoadedCache {
    const backingBytes = this.model.sectors * SECTOR_BYTES;
    const result = loadCache(device, { geometry: this.geometry, backingBytes, checkPayload, crc: this.crc });
    if (!('cache' in result)) {
      throw new SimFailure(
        `a crash leaves a bad device: ${result.problems.map((p) => `${p.code}: ${p.detail}`).join('; ')}`,
      );
    }
    if (!ORDINARY_ENDS.includes(result.cache.endReason))
      throw new SimFailure(`the log ends for ${result.cache.endReason}`);
    return result.cache;
  }

  /**
   * Checks a crash state of both devices.
   * @param words the device's memory in 32-bit words.
   * @param thorough look at every word of every sector, and check the CRCs of dead payload too.
   */
  check(device: PmemReader, words: Int32Array, backing: SimBacking, thorough: boolean): LoadedCache {
    const { model, corruption } = this;
    const loaded = this.load(device, thorough && !corruption.isAny);
    this.epoch++;
    this.eachCached(loaded, words, thorough, (sector, id, at) => {
      if (!model.maySurvive(sector, id) && corruption.badVersionAt(at / WORDS_PER_SECTOR) === undefined) {
        throw new SimFailure(
          `after a crash the cache is wrong: ${model.describe(sector, id)}; found ${describeContents(words, at)}`,
        );
      }
    });
    for (const sector of model.written) {
      if (this.covered[sector] === this.epoch) continue;
      this.demand(sector, backing.durableTag(sector), 'the backing device');
    }
    backing.eachVolatile(this.skip, this.visit);
    if (thorough && !corruption.isAny) this.checkGuarded(device, words, backing);
    return loaded;
  }

  /** Keeps the record of the backing device, as `attach` does after an orderly close. Everything must be durable there. */
  record(pmem: SimPmem, backing: SimBacking): void {
    const { sizeBytes } = backing;
    const samples = sampleOffsets(sizeBytes).map((offset) => sampleOf(offset, (sector) => backing.durableTag(sector)));
    keepBackingRecord(pmem, recordOf(pmem, { sizeBytes, identity: undefined }, samples, this));
  }

  /** The samples that count are as recorded, whatever the crash: else the right device would look foreign. */
  checkRecorded(device: PmemReader, backing: SimBacking): void {
    const { value: record } = readBackingRecord(device);
    if (record === undefined) return;
    this.recordsSeen++;
    const offsets = sampleOffsets(backing.sizeBytes);
    const counting = countingSamples(device, record, this);
    if (counting.length === 0) return;
    const blocks = new Set(counting.map((n) => offsets[n] / RECORD_SAMPLE_BYTES));
    backing.eachVolatile(
      (sector) => !blocks.has(Math.floor((sector * SECTOR_BYTES) / RECORD_SAMPLE_BYTES)),
      (sector) => {
        throw new SimFailure(`sector ${sector} of the backing device is written to while the record counts`);
      },
    );
    for (const n of counting) {
      this.samplesSeen++;
      const bytes = sampleOf(offsets[n], (sector) => backing.durableTag(sector));
      if (this.crc(CRC_SEED, bytes, 0, bytes.length) === record.digests[n]) continue;
      throw new SimFailure(`the sample at ${offsets[n]} of the backing device is not as recorded`);
    }
  }

  /**
   * What the guard against a foreign backing device compares is the same on both devices, whatever the crash: else it
   * would refuse the right one. Modes that write to the backing device first have requests that it alone has.
   */
  private checkGuarded(device: PmemReader, words: Int32Array, backing: SimBacking): void {
    const metadata = readMetadataOf(device, this.geometry);
    if (metadata.flags.modeNumber !== CACHE_MODES.indexOf('writeback')) return;
    const map = new DirtyMap(device, metadata, this.model.sectors * SECTOR_BYTES, this.crc);
    for (const steps = map.load(); steps.next().done !== true;);
    const ids = new Map<number, number>();
    for (const { offsetBytes, lengthBytes, deviceOffsetBytes } of map.extentsOnBacking()) {
      for (let at = 0; at < lengthBytes; at += SECTOR_BYTES) {
        const sector = (offsetBytes + at) / SECTOR_BYTES;
        ids.set(sector, readStamp(words, (deviceOffsetBytes + at) >>> 2, sector));
      }
    }
    const demandSame = (sector: number, tag: number): void => {
      const id = ids.get(sector);
      if (id === undefined || id === tag) return;
      throw new SimFailure(
        `written back or clean in the log, and not on the backing device: sector ${sector}, ${id}, ${tag}`,
      );
    };
    for (const sector of ids.keys()) demandSame(sector, backing.durableTag(sector));
    backing.eachVolatile((sector) => !ids.has(sector), demandSame);
  }

  /** Which version each written sector holds: what `loaded` says, or else the backing device, which is at rest. */
  contents(loaded: LoadedCache, words: Int32Array, backing: SimBacking): Map<number, number> {
    const held = new Map<number, number>();
    for (const sector of this.model.written) held.set(sector, backing.durableTag(sector));
    this.epoch++;
    this.eachCached(loaded, words, true, (sector, id, at) => {
      const bad = this.corruption.badVersionAt(at / WORDS_PER_SECTOR);
      held.set(sector, bad ?? id);
      if (bad === undefined && !this.model.maySurvive(sector, id))
        throw new SimFailure(`recovered: ${this.model.describe(sector, id)}`);
    });
    return held;
  }

  private demand(sector: number, id: number, where: string): void {
    if (!this.model.maySurvive(sector, id))
      throw new SimFailure(`${where} is wrong: ${this.model.describe(sector, id)}`);
  }

  private eachCached(
    loaded: LoadedCache,
    words: Int32Array,
    thorough: boolean,
    visit: (sector: number, id: number, at: number) => void,
  ): void {
    const { index, segments } = loaded;
    const { covered, epoch } = this;
    for (let subtree = index.nextUsedSubtree(0); subtree >= 0; subtree = index.nextUsedSubtree(subtree + 1)) {
      for (index.seek(subtree, 0); index.valid; index.advance()) {
        let at = (segments.dataOffsetBytes[index.segment] >>> 2) + index.offsetSectors * WORDS_PER_SECTOR;
        const end = subtree * SUBTREE_SECTORS + index.end;
        for (let sector = subtree * SUBTREE_SECTORS + index.start; sector < end; sector++) {
          covered[sector] = epoch;
          const id = thorough ? readStamp(words, at, sector) : glanceAtStamp(words, at, sector, epoch);
          visit(sector, id, at);
          at += WORDS_PER_SECTOR;
        }
      }
    }
  }
}
