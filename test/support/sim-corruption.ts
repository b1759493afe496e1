/**
 * Payload that goes bad on the medium under data_crc: lines of dirty payload are changed at moments that the
 * plan chooses. From then on no read may return what is wrong, the backing device may not get it, and
 * dirty_tail may not pass the kset, unless what it says was on the backing device before.
 */
import { bestCrc32c } from '../../src/engine/device/native.js';
import { decodePosition, POSITION_BYTES, type Position } from '../../src/engine/media/codecs.js';
import { readDual } from '../../src/engine/media/dual.js';
import {
  DIRTY_TAIL_COPIES,
  KEY_TAIL_COPIES,
  SECTOR_BYTES,
  segmentDataOffsetBytes,
  type CopyOffsets,
  type Geometry,
} from '../../src/engine/media/geometry.js';
import type { KsetView } from '../../src/engine/media/kset.js';
import { LogWalker } from '../../src/engine/media/log-walker.js';
import type { Random } from '../../src/engine/sim/random.js';
import type { SimBacking } from '../../src/engine/sim/sim-backing.js';
import type { SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { SimFailure, type Model } from './model.js';
import { readStamp, wordsOf } from './stamps.js';

const WORDS_PER_SECTOR = SECTOR_BYTES / 4;

/** One key whose payload is bad. */
interface BadKey {
  readonly kset: Position;
  readonly sector: number;
  /** The version that each sector of it held. */
  readonly ids: readonly number[];
  /** Of its payload on the device, in sectors. */
  readonly place: number;
}

export class Corruption {
  /** Payload has gone bad in this run. */
  isAny = false;
  private keys: BadKey[] = [];
  /** What the bad sectors look like, by their place on the device, and which version they held. */
  private readonly bad = new Map<number, { readonly look: Int32Array; readonly id: number }>();
  /** Versions that were in bad payload at some time, by sector. */
  private readonly versions = new Map<number, Set<number>>();
  private readonly words: Int32Array;

  constructor(
    private readonly geometry: Geometry,
    private readonly pmem: SimPmem,
    private readonly backing: SimBacking,
    private readonly model: Model,
  ) {
    this.words = wordsOf(pmem.bytes);
  }

  /** The version that a sector of the device held which shows what `strike` made of it; else undefined. */
  badVersionAt(place: number): number | undefined {
    const bad = this.bad.get(place);
    if (!bad) return undefined;
    const at = place * WORDS_PER_SECTOR;
    return bad.look.every((word, i) => this.words[at + i] === word) ? bad.id : undefined;
  }

  /** Whether version `id` of a sector may be missing on the backing device for good. */
  excuses(sector: number, id: number): boolean {
    return this.versions.get(sector)?.has(id) ?? false;
  }

  /** Whether `isCurrent` says so of some version of the sector that was in bad payload. */
  hasCurrent(sector: number, isCurrent: (id: number) => boolean): boolean {
    for (const id of this.versions.get(sector) ?? []) if (isCurrent(id)) return true;
    return false;
  }

  /** Whether a read of these sectors may fail. */
  touches(sector: number, sectors: number): boolean {
    for (let s = sector; s < sector + sectors; s++) if (this.versions.has(s)) return true;
    return false;
  }

  /** Whether the log on `pmem`, a copy of the device, has a key that is bad. */
  isInLogOf(pmem: SimPmem): boolean {
    let found = false;
    this.eachKset(pmem, KEY_TAIL_COPIES, ({ kset }) => {
      for (let i = 0; i < kset.keyCount; i++) {
        const first = this.placeOf(kset, i);
        const end = first + kset.keyLengthBytes(i) / SECTOR_BYTES;
        for (let place = first; place < end; place++) found ||= this.badVersionAt(place) !== undefined;
      }
    });
    return found;
  }

  /** Spoils the payload of some dirty key of the log, if there is one. */
  strike(random: Random): void {
    const candidates: BadKey[] = [];
    this.eachKset(this.pmem, DIRTY_TAIL_COPIES, (walker) => {
      const { kset } = walker;
      for (let i = 0; i < kset.keyCount; i++) {
        const place = this.placeOf(kset, i);
        if (kset.keyIsClean(i) || this.keys.some((key) => key.place === place)) continue;
        const sector = kset.keyOffsetBytes(i) / SECTOR_BYTES;
        const ids = Array.from({ length: kset.keyLengthBytes(i) / SECTOR_BYTES }, (_, n) =>
          readStamp(this.words, (place + n) * WORDS_PER_SECTOR, sector + n),
        );
        candidates.push({ kset: walker.position, sector, ids, place });
      }
    });
    if (candidates.length === 0) return;
    this.isAny = true;
    const key = random.pick(candidates);
    const n = random.below(key.ids.length);
    const place = key.place + n;
    this.pmem.spoil(place * SECTOR_BYTES + random.below(SECTOR_BYTES), 1 << random.below(8));
    const look = this.words.slice(place * WORDS_PER_SECTOR, (place + 1) * WORDS_PER_SECTOR);
    this.bad.set(place, { look, id: key.ids[n] });
    this.keys.push(key);
    key.ids.forEach((id, n) => {
      const versions = this.versions.get(key.sector + n) ?? new Set();
      this.versions.set(key.sector + n, versions.add(id));
    });
  }

  /** Bad keys that dirty_tail has passed must be on the backing device; they are done with. */
  expectNotPassed(): void {
    if (this.keys.length === 0) return;
    const dirty = new Set<string>();
    this.eachKset(this.pmem, DIRTY_TAIL_COPIES, ({ segment, offsetBytes }) => dirty.add(`${segment}:${offsetBytes}`));
    this.keys = this.keys.filter((key) => {
      if (dirty.has(`${key.kset.segment}:${key.kset.offsetBytes}`)) return true;
      key.ids.forEach((id, n) => {
        const held = this.backing.durableTag(key.sector + n);
        if (this.model.isNotBefore(held, id)) return;
        throw new SimFailure(
          `dirty_tail has passed corrupt payload: ${this.model.describe(key.sector + n, held)}; it was version ${id}`,
        );
      });
      return false;
    });
  }

  /** Where the payload of a key lies, in sectors of the device. */
  private placeOf(kset: KsetView, key: number): number {
    const segmentAt = segmentDataOffsetBytes(this.geometry, kset.keySegment(key));
    return (segmentAt + kset.keySegmentOffsetBytes(key)) / SECTOR_BYTES;
  }

  /** Visits the ksets of the log from a tail on. */
  private eachKset(pmem: SimPmem, tail: CopyOffsets, visit: (walker: LogWalker) => void): void {
    const { geometry } = this;
    const start = readDual(pmem, tail, POSITION_BYTES, decodePosition).value!;
    const length = Math.floor(pmem.sizeBytes / geometry.segmentBytes);
    const dataOffsetBytes = Float64Array.from({ length }, (_, s) => segmentDataOffsetBytes(geometry, s));
    const walker = new LogWalker(pmem, geometry, { length, dataOffsetBytes }, start, bestCrc32c());
    while (walker.next()) visit(walker);
  }
}
