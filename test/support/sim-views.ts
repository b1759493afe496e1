/**
 * What crash states show, found out with little work: two crash states one after the other are mostly alike,
 * and most of what a recovery would find in the second is known from the first.
 *
 * A view is what one recovery found: which sector lies where, and what that depends on: metadata, the ksets of
 * its log, what ended the log, and the tails. It holds for another crash state when all that is the same there;
 * dirty_tail may be at any place in the log. What can differ is known from the stores since, and so is which
 * payload must be read again. Nothing else is taken for granted: a sector is read whole when a store has been
 * near it, and judged again when the model has become stricter about it. `SimRun` compares with a recovery
 * from scratch every so often.
 */
import type { LoadedCache } from '../../src/engine/log/recovery.js';
import type { PmemReader } from '../../src/engine/device/pmem.js';
import { decodePosition, POSITION_BYTES, type Position } from '../../src/engine/media/codecs.js';
import { readDual } from '../../src/engine/media/dual.js';
import {
  CACHE_CTRL_OFFSET_BYTES,
  DATA_OFFSET_IN_SEGMENT_BYTES,
  DIRTY_TAIL_COPIES,
  KEY_TAIL_COPIES,
  SECTOR_BYTES,
  SEGMENTS_OFFSET_BYTES,
  SUBTREE_SECTORS,
  type Geometry,
} from '../../src/engine/media/geometry.js';
import { KSET_BYTES_MAX, KSET_HEADER_BYTES, KsetView } from '../../src/engine/media/kset.js';
import type { SimBacking } from '../../src/engine/sim/sim-backing.js';
import { LINE_BYTES, type SimPmem } from '../../src/engine/sim/sim-pmem.js';
import { SimFailure, type Model } from './model.js';
import type { Corruption } from './sim-corruption.js';
import { Suspects } from './sim-suspects.js';
import { describeContents, NOT_A_STAMP, readStamp } from './stamps.js';

const WORDS_PER_SECTOR = SECTOR_BYTES / 4;
const WORDS_PER_LINE = LINE_BYTES / 4;
/** The present, and what it was before its last store. */
const VIEWS = 3;
const NOWHERE = -1;
/** Both copies of both tails. */
const TAILS_LINE = CACHE_CTRL_OFFSET_BYTES / LINE_BYTES;
const PLACES_PER_SEGMENT = 2 ** 24;

interface Tails {
  readonly keyTail: Position | undefined;
  readonly dirtyTail: Position | undefined;
}

class View {
  loaded: LoadedCache | undefined;
  tails: Tails | undefined;
  /** Where ksets begin, and where the log ends. */
  readonly log = new Set<number>();
  /** Number of the first store that may have changed the device since the view was last right. */
  since = 0;
  /** How much of `model.madeDurable` its contents have been judged by. */
  judged = 0;
  /** 1 for lines that it depends on, and the words that the recovery found there. */
  readonly isRead: Uint8Array;
  readonly readWords: Int32Array;
  /** Place of each sector's payload in sectors of the device, and the sector that each such place holds. */
  readonly placeOf: Int32Array;
  readonly sectorAt: Int32Array;
  /** How many sectors have a place. */
  covered = 0;
  /** Two sectors have one place: the maps above cannot say that. */
  isAmbiguous = false;

  constructor(sectors: number, deviceBytes: number) {
    this.isRead = new Uint8Array(Math.ceil(deviceBytes / LINE_BYTES));
    this.readWords = new Int32Array(this.isRead.length * WORDS_PER_LINE);
    this.placeOf = new Int32Array(sectors).fill(NOWHERE);
    this.sectorAt = new Int32Array(Math.ceil(deviceBytes / SECTOR_BYTES)).fill(NOWHERE);
  }

  clear(): void {
    this.loaded = undefined;
    this.covered = 0;
    this.log.clear();
    this.isRead.fill(0);
    if (this.isAmbiguous) this.placeOf.fill(NOWHERE);
    this.isAmbiguous = false;
    for (let place = 0; place < this.sectorAt.length; place++) {
      const sector = this.sectorAt[place];
      if (sector === NOWHERE) continue;
      this.placeOf[sector] = NOWHERE;
      this.sectorAt[place] = NOWHERE;
    }
  }

  set(sector: number, place: number): void {
    if (this.sectorAt[place] !== NOWHERE) this.isAmbiguous = true;
    this.sectorAt[place] = sector;
    this.placeOf[sector] = place;
    this.covered++;
  }
}

/** Shows the device, and notes what of it is read outside data areas. */
class NotingReader implements PmemReader {
  readonly path: string;
  readonly sizeBytes: number;
  view: View | undefined;

  constructor(
    private readonly pmem: SimPmem,
    private readonly words: Int32Array,
    private readonly geometry: Geometry,
  ) {
    this.path = pmem.path;
    this.sizeBytes = pmem.sizeBytes;
  }

  read(offsetBytes: number, target: Uint8Array, targetOffset: number, lengthBytes: number): void {
    const inSegment = (offsetBytes - SEGMENTS_OFFSET_BYTES) % this.geometry.segmentBytes;
    if (inSegment < DATA_OFFSET_IN_SEGMENT_BYTES) this.note(offsetBytes, lengthBytes);
    this.pmem.read(offsetBytes, target, targetOffset, lengthBytes);
  }

  note(offsetBytes: number, lengthBytes: number): void {
    const { isRead, readWords } = this.view!;
    const first = Math.floor(offsetBytes / LINE_BYTES);
    const last = Math.floor((offsetBytes + lengthBytes - 1) / LINE_BYTES);
    for (let line = first; line <= last; line++) {
      isRead[line] = 1;
      const end = (line + 1) * WORDS_PER_LINE;
      for (let i = line * WORDS_PER_LINE; i < end; i++) readWords[i] = this.words[i];
    }
  }

  crc32c(): number {
    throw new Error('a view is of what lies where, not of payload');
  }

  close(): void {}
}

/** Loads the device as `Verifier.load` does. */
export type Load = (device: PmemReader) => LoadedCache;

export class Views {
  private readonly words: Int32Array;
  private readonly views: View[];
  private readonly reader: NotingReader;
  /** Which version of which sector was found whole at each place; not to be relied on from store `stampsSince` on. */
  private readonly stampSector: Int32Array;
  private readonly stampId: Int32Array;
  private stampsSince = 0;
  private readonly suspects: Suspects;
  private readonly kset = new KsetView();
  private readonly tailWords = new Int32Array(WORDS_PER_LINE);
  private tails: Tails = { keyTail: undefined, dirtyTail: undefined };
  private current: View;
  private readonly skip = (sector: number): boolean => this.current.placeOf[sector] !== NOWHERE;
  private readonly visit = (sector: number, id: number): void => {
    if (!this.model.maySurvive(sector, id)) this.fail('the backing device after a crash is wrong', sector, id);
  };

  constructor(
    private readonly model: Model,
    private readonly pmem: SimPmem,
    private readonly backing: SimBacking,
    geometry: Geometry,
    private readonly corruption: Corruption,
    private readonly load: Load,
  ) {
    this.words = new Int32Array(pmem.bytes.buffer, pmem.bytes.byteOffset, pmem.bytes.byteLength >>> 2);
    this.views = Array.from({ length: VIEWS }, () => new View(model.sectors, pmem.sizeBytes));
    this.current = this.views[0];
    this.reader = new NotingReader(pmem, this.words, geometry);
    const places = Math.ceil(pmem.sizeBytes / SECTOR_BYTES);
    this.stampSector = new Int32Array(places).fill(NOWHERE);
    this.stampId = new Int32Array(places);
    this.suspects = new Suspects(model, backing);
  }

  /** To be called when the model has begun a new life: everything is judged anew. */
  restart(): void {
    for (const view of this.views) view.clear();
    this.stampSector.fill(NOWHERE);
    this.stampsSince = this.pmem.firstPendingStore;
    this.suspects.restart();
  }

  /**
   * Judges the crash state that `pmem` shows at present, from within `withCrash`, with what a crash may leave
   * of the backing device. @throws SimFailure
   */
  judge(): void {
    this.forgetStamps();
    this.readTails();
    const known = this.find();
    const view = known ?? this.make();
    this.current = view;
    if (known) this.judgeChanges(view);
    else this.judgeAll(view);
    view.since = this.pmem.firstPendingStore;
    view.judged = this.model.madeDurable.length;
    this.suspects.judge((sector) => view.placeOf[sector] === NOWHERE);
    this.backing.eachVolatile(this.skip, this.visit);
  }

  /** Calls `visit` with each sector of which the backing device holds for certain what must not survive a crash. */
  eachSuspect(visit: (sector: number, id: number) => void): void {
    this.suspects.each(visit);
  }

  /** Compares what `judge` went by with what a recovery from scratch has found. */
  expectToEqual(loaded: LoadedCache): void {
    const { placeOf, loaded: mine, covered } = this.current;
    let found = 0;
    let same =
      samePlace(loaded.keyTail, this.tails.keyTail) &&
      samePlace(loaded.dirtyTail, this.tails.dirtyTail) &&
      samePlace(loaded.keyHead, mine!.keyHead);
    eachExtent(loaded, (sector, sectors, place) => {
      for (let n = 0; n < sectors; n++) same &&= placeOf[sector + n] === place + n;
      found += sectors;
    });
    if (!same || found !== covered) throw new Error('a view is not what a recovery from scratch finds');
  }

  private fail(what: string, sector: number, id: number): never {
    throw new SimFailure(`${what}: ${this.model.describe(sector, id)}`);
  }

  /** Forgets what was read where stores have been since. */
  private forgetStamps(): void {
    const { pmem, stampSector } = this;
    if (this.stampsSince < pmem.firstKnownStore) stampSector.fill(NOWHERE);
    else
      for (let store = this.stampsSince; store < pmem.storeCount; store++) {
        const offset = pmem.offsetOfStore(store);
        const last = Math.floor((offset + pmem.lengthOfStore(store) - 1) / SECTOR_BYTES);
        for (let place = Math.floor(offset / SECTOR_BYTES); place <= last; place++) stampSector[place] = NOWHERE;
      }
    this.stampsSince = pmem.firstPendingStore;
  }

  private readTails(): void {
    const { words, tailWords, pmem } = this;
    let same = true;
    for (let i = 0; i < WORDS_PER_LINE; i++) {
      const word = words[TAILS_LINE * WORDS_PER_LINE + i];
      if (word === tailWords[i]) continue;
      tailWords[i] = word;
      same = false;
    }
    if (same) return;
    this.tails = {
      keyTail: readDual(pmem, KEY_TAIL_COPIES, POSITION_BYTES, decodePosition).value,
      dirtyTail: readDual(pmem, DIRTY_TAIL_COPIES, POSITION_BYTES, decodePosition).value,
    };
  }

  /** A view that holds for the present state, moved to the front. */
  private find(): View | undefined {
    const { views } = this;
    for (let n = 0; n < VIEWS; n++) {
      const view = views[n];
      if (!view.loaded || view.isAmbiguous || view.since < this.pmem.firstKnownStore) continue;
      if (!this.hasTheTails(view) || !this.readsTheSame(view)) continue;
      for (let i = n; i > 0; i--) views[i] = views[i - 1];
      return (views[0] = view);
    }
    return undefined;
  }

  private hasTheTails(view: View): boolean {
    const { keyTail, dirtyTail } = this.tails;
    if (this.tails === view.tails) return true;
    return samePlace(view.tails!.keyTail!, keyTail) && dirtyTail !== undefined && view.log.has(placeKey(dirtyTail));
  }

  private readsTheSame(view: View): boolean {
    const { pmem, words } = this;
    const { isRead, readWords } = view;
    for (let store = pmem.storeCount - 1; store >= view.since; store--) {
      const offset = pmem.offsetOfStore(store);
      const last = Math.floor((offset + pmem.lengthOfStore(store) - 1) / LINE_BYTES);
      for (let line = Math.floor(offset / LINE_BYTES); line <= last; line++) {
        if (isRead[line] === 0) continue;
        const end = (line + 1) * WORDS_PER_LINE;
        for (let i = line * WORDS_PER_LINE; i < end; i++) if (words[i] !== readWords[i]) return false;
      }
    }
    return true;
  }

  /** Recovers the present state into the view that was of no use for longest. */
  private make(): View {
    const view = this.views.pop()!;
    this.views.unshift(view);
    view.clear();
    this.reader.view = view;
    const loaded = this.load(this.reader);
    view.loaded = loaded;
    view.tails = this.tails;
    this.noteLog(view, loaded);
    view.isRead[TAILS_LINE] = 0;
    return view;
  }

  /** The ksets were good a moment ago: their headers say where the log goes. */
  private noteLog(view: View, loaded: LoadedCache): void {
    const { kset, pmem, reader } = this;
    const { keyHead, segments } = loaded;
    let { segment, offsetBytes } = loaded.keyTail;
    for (;;) {
      view.log.add(placeKey({ segment, offsetBytes }));
      const at = segments.dataOffsetBytes[segment] + offsetBytes;
      kset.attach(pmem.bytes, at);
      if (segment === keyHead.segment && offsetBytes === keyHead.offsetBytes) {
        // Without a magic nothing else was looked at.
        const looked = pmem.sizeBytes - at >= KSET_HEADER_BYTES && kset.magicOk ? KSET_BYTES_MAX : KSET_HEADER_BYTES;
        reader.note(at, Math.min(looked, pmem.sizeBytes - at));
        return;
      }
      reader.note(at, kset.lengthBytes);
      offsetBytes = kset.isLast ? 0 : offsetBytes + kset.lengthBytes;
      if (kset.isLast) segment = kset.nextSegment;
    }
  }

  private judgeAll(view: View): void {
    eachExtent(view.loaded!, (sector, sectors, place) => {
      for (let n = 0; n < sectors; n++) {
        view.set(sector + n, place + n);
        this.judgePlace(sector + n, place + n);
      }
    });
  }

  /** Judges sectors near which stores have been, and those about which the model has become stricter. */
  private judgeChanges(view: View): void {
    const { pmem, model } = this;
    for (let store = view.since; store < pmem.storeCount; store++) {
      const offset = pmem.offsetOfStore(store);
      const last = Math.floor((offset + pmem.lengthOfStore(store) - 1) / SECTOR_BYTES);
      for (let place = Math.floor(offset / SECTOR_BYTES); place <= last; place++) {
        const sector = view.sectorAt[place];
        if (sector !== NOWHERE) this.judgePlace(sector, place);
      }
    }
    for (let n = view.judged; n < model.madeDurable.length; n++) {
      const id = model.madeDurable[n];
      for (let sector = model.startOf(id); sector < model.endOf(id); sector++) {
        const place = view.placeOf[sector];
        if (place !== NOWHERE) this.judgePlace(sector, place);
      }
    }
  }

  private judgePlace(sector: number, place: number): void {
    const { stampSector, stampId, words } = this;
    let id: number;
    if (stampSector[place] === sector) {
      id = stampId[place];
    } else {
      id = readStamp(words, place * WORDS_PER_SECTOR, sector);
      if (id !== NOT_A_STAMP) {
        stampSector[place] = sector;
        stampId[place] = id;
      }
    }
    if (this.model.maySurvive(sector, id) || this.corruption.badVersionAt(place) !== undefined) return;
    const found = describeContents(words, place * WORDS_PER_SECTOR);
    throw new SimFailure(`after a crash the cache is wrong: ${this.model.describe(sector, id)}; found ${found}`);
  }
}

function placeKey({ segment, offsetBytes }: Position): number {
  return segment * PLACES_PER_SEGMENT + offsetBytes;
}

function samePlace(a: Position, b: Position | undefined): boolean {
  return b !== undefined && a.segment === b.segment && a.offsetBytes === b.offsetBytes;
}

/** Calls `visit` with each extent of the cache: first sector, how many, and where they lie, in sectors of the device. */
function eachExtent(loaded: LoadedCache, visit: (sector: number, sectors: number, place: number) => void): void {
  const { index, segments } = loaded;
  for (let subtree = index.nextUsedSubtree(0); subtree >= 0; subtree = index.nextUsedSubtree(subtree + 1)) {
    for (index.seek(subtree, 0); index.valid; index.advance()) {
      const place = segments.dataOffsetBytes[index.segment] / SECTOR_BYTES + index.offsetSectors;
      visit(subtree * SUBTREE_SECTORS + index.start, index.end - index.start, place);
    }
  }
}
