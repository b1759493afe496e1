/**
 * Follows ksets that are not part of the log, to tell whether they should be. A run is a row of good ksets,
 * through LAST ksets into further segments. It is one of two things:
 *
 * - what an earlier lap of the log left behind. Such a run was complete: at the end of its segment a LAST kset
 *   leads on, and so forth, until it enters the log as it is now, or a segment that was put to other use.
 * - the rest of a log that was cut in two by damage. Such a run ends as a log ends: in 24 zero bytes behind its
 *   last kset. All its keys are of their segments' present generations, for nothing of it was collected yet,
 *   and none claims payload that a key of the log claims.
 */
import type { Position } from '../engine/media/codecs.js';
import type { Geometry } from '../engine/media/geometry.js';
import {
  KeyFields,
  KSET_BYTES_MAX,
  KSET_HEADER_BYTES,
  KSET_MAGIC_HIGH,
  KSET_MAGIC_LOW,
  KsetView,
} from '../engine/media/kset.js';
import type { CheckedChain } from './chain.js';
import type { CheckContext } from './context.js';
import { LastClaim, PayloadMap } from './payload-map.js';
import { payloadMatch } from './payload-match.js';
import { beginsWritten } from './unnamed-payload.js';
import { walkFrom } from './walk-from.js';

/** A run that belongs to the log. */
export interface LostRun {
  readonly first: Position;
  ksets: number;
  keys: number;
  /** Bytes of keys that are not CLEAN. */
  dirtyBytes: number;
  /** Where it ends as a log ends, if it does. */
  end?: Position;
  /**
   * Its keys prove that this cache wrote it behind the present end of the log: one has its payload behind all that the
   * log claims in its segment, and segments are written from their beginning to their end.
   */
  isNewer?: boolean;
  /**
   * A key has its payload at the beginning of a segment, and it is there: creating a cache blanks that, so no earlier
   * cache left the run. With data_crc the payload must match, since a crash leaves payload there that no kset names.
   */
  isOfThisCache?: boolean;
}

export interface RunSearch {
  /** So many keys runs must have that end on broken ksets; 2 if not given. */
  readonly keysMin?: number;
  /** Whether to look behind what an earlier lap left, too: blocks may have changed places. */
  readonly pastStale?: boolean;
  /**
   * It is certain that damage ended the log: a few stale keys do not say that what follows is of an earlier lap, but
   * that generations are damaged too. Few are less than half of the ksets, or half of them but less than half of the keys.
   */
  readonly isDamaged?: boolean;
  /** Told of what else is met. */
  readonly broken?: BrokenSearch;
}

/** What begins like a kset and is no good one. */
export interface BrokenSearch {
  look(kset: KsetView, readableBytes: number, offsetBytes: number): void;
  /** Set when it was told of all there are to the end of the segment, but for what lies in good ksets. */
  isComplete: boolean;
}

/** The present log, which a run must not enter. */
export interface PresentLog {
  readonly extents: ReadonlyMap<number, unknown>;
  readonly payload: PayloadMap;
}

/** Small: each page of a new buffer costs a page fault, and a small cache is checked in milliseconds. */
const SEARCH_BYTES = 1 << 19;
/** Damage that cuts a log into more pieces than this is beyond telling apart. */
const RUNS_MAX = 256;
/** A single key among broken ksets may be left from anything. */
const KEYS_OF_BROKEN_MIN = 2;
const MAGIC_OFFSET = 8;
const MAGIC_BYTES = new Uint8Array(8);
new DataView(MAGIC_BYTES.buffer).setUint32(0, KSET_MAGIC_LOW, true);
new DataView(MAGIC_BYTES.buffer).setUint32(4, KSET_MAGIC_HIGH, true);

export class OrphanKsets {
  /** A kset with stale keys was met since this was last set to false. */
  private sawStale = false;
  private readonly searchBytes: number;
  private readonly buffer: Buffer;
  private readonly view: KsetView;
  /** Segments whose ksets, from offset 0 on, lead into the log: they are of an earlier lap. */
  private readonly leadsIntoLog = new Set<number>();
  /** What is known of runs from offset 0 of a segment: true when they belong to the log. */
  private readonly known = new Map<number, LostRun | undefined>();

  constructor(
    private readonly context: CheckContext,
    private readonly chain: CheckedChain,
    private readonly log: PresentLog,
  ) {
    this.view = new KsetView(context.crc);
    this.searchBytes = Math.min(SEARCH_BYTES, context.geometry.segmentDataBytes);
    this.buffer = Buffer.alloc(this.searchBytes + KSET_BYTES_MAX);
  }

  /**
   * Looks for ksets that belong to the log in a segment, from `fromBytes` on.
   * @returns what the runs that belong to it hold together, or undefined when there are none.
   */
  findAfter(segment: number, fromBytes: number, search: RunSearch = {}): LostRun | undefined {
    let from = fromBytes;
    let broken: LostRun | undefined;
    const claims = new RunClaims(this.context.geometry);
    const isWanted = (kset: KsetView, readableBytes: number, at: number): boolean => {
      if (isGood(kset, readableBytes)) return true;
      search.broken?.look(kset, readableBytes, at);
      return false;
    };
    for (let runs = 0; runs < RUNS_MAX; runs++) {
      const offsetBytes = this.nextKset(segment, from, isWanted);
      if (offsetBytes === undefined && search.broken !== undefined) search.broken.isComplete = true;
      const run =
        offsetBytes === undefined ? undefined : this.follow({ segment, offsetBytes }, claims, search.isDamaged);
      if (run === undefined) break;
      from = run.endBytes;
      if (run.verdict === 'stale') {
        if (search.pastStale) continue;
        break;
      }
      const found = broken === undefined ? run.lost : merge(broken, run.lost);
      if (run.verdict === 'lost') return found;
      // Runs that end on broken ksets are of a log that is damaged in several places.
      if (run.lost.ksets > 0) broken = found;
    }
    const keysMin = broken?.isNewer === true ? 1 : (search.keysMin ?? KEYS_OF_BROKEN_MIN);
    return broken !== undefined && broken.keys >= keysMin ? broken : undefined;
  }

  /** Whether the run that starts segment `segment` belongs to the log. */
  findAtStart(segment: number): LostRun | undefined {
    if (this.known.has(segment)) return this.known.get(segment);
    this.known.set(segment, undefined);
    // Most segments hold payload; and what a key claims is payload, whatever it looks like.
    if (!this.hasMagicAtStart(segment) || this.log.payload.isClaimed(segment, 0, KSET_HEADER_BYTES)) return undefined;
    this.sawStale = false;
    const lost = this.findAfter(segment, 0);
    // The log has led on to it from behind key_tail, so it does not begin with what is stale.
    const found = this.sawStale && lost?.first.offsetBytes !== 0 ? undefined : lost;
    this.known.set(segment, found);
    return found;
  }

  /** Does a segment's data area begin with the magic of a kset, good or not? */
  hasMagicAtStart(segment: number): boolean {
    const at = this.chain.dataOffsetBytes[segment] + MAGIC_OFFSET;
    this.context.source.read(at, this.buffer, 0, MAGIC_BYTES.length);
    return this.buffer.compare(MAGIC_BYTES, 0, MAGIC_BYTES.length, 0, MAGIC_BYTES.length) === 0;
  }

  /** The longest run in another segment, for when a LAST kset is broken: where it led to is not known then. */
  longestElsewhere(): LostRun | undefined {
    let found: LostRun | undefined;
    for (let segment = 0; segment < this.chain.length; segment++) {
      if (this.log.extents.has(segment)) continue;
      const run = this.findAtStart(segment);
      // The longest: shorter ones begin in the middle of it.
      if (run !== undefined && (found === undefined || run.ksets > found.ksets)) found = run;
    }
    return found;
  }

  /**
   * @param isWanted whether what has a kset's magic there is looked for: good ksets are, if not given; it is told how
   * many bytes from there on can be read, and where it is
   * @returns where the next good kset begins, from `fromBytes` on.
   */
  nextKset(
    segment: number,
    fromBytes: number,
    isWanted: (kset: KsetView, readableBytes: number, offsetBytes: number) => boolean = isGood,
  ): number | undefined {
    const { source, geometry, examined } = this.context;
    const { segmentDataBytes } = geometry;
    const base = this.chain.dataOffsetBytes[segment];
    for (let at = fromBytes; at + KSET_HEADER_BYTES <= segmentDataBytes; at += this.searchBytes) {
      const length = Math.min(this.buffer.length, segmentDataBytes - at);
      source.read(base + at, this.buffer, 0, length);
      examined.searchedBytes += Math.min(this.searchBytes, length);
      const piece = this.buffer.subarray(0, length);
      for (let found = piece.indexOf(MAGIC_BYTES); found >= 0; found = piece.indexOf(MAGIC_BYTES, found + 1)) {
        const begin = found - MAGIC_OFFSET;
        // What begins beyond this piece is seen whole in the next one.
        if (begin >= this.searchBytes) break;
        if (begin < 0 || (at + begin) % 8 !== 0) continue;
        if (isWanted(this.view.attach(this.buffer, begin), length - begin, at + begin)) return at + begin;
      }
    }
    return undefined;
  }

  /**
   * Follows the run from `first`; `broken` when it ends neither as a log does nor as an earlier lap. Ksets with stale
   * keys, and what comes before them, are of an earlier lap: the run begins behind them.
   */
  private follow(first: Position, claims: RunClaims, isDamaged = false): Run {
    const { context, chain, log } = this;
    const walker = walkFrom(context, chain, first);
    const entered = new Set([first.segment]);
    let lost: LostRun = { first, ksets: 0, keys: 0, dirtyBytes: 0 };
    const whole: LostRun = { first, ksets: 0, keys: 0, dirtyBytes: 0 };
    let staleKsets = 0;
    let staleKeys = 0;
    let endBytes = first.offsetBytes;
    const stale = (): Run => ({ verdict: 'stale', lost: NOTHING_LOST, endBytes });
    while (walker.next()) {
      const { kset } = walker;
      lost.ksets++;
      if (walker.segment === first.segment) endBytes = walker.offsetBytes + kset.lengthBytes;
      if (!kset.isLast) {
        const verdict = this.judge(kset, lost, claims);
        if (verdict === 'foreign') {
          // The rest of it is of the same time.
          while (walker.segment === first.segment && walker.next() && walker.segment === first.segment)
            endBytes = walker.offsetBytes + kset.lengthBytes;
          return stale();
        }
        if (verdict === 'current') continue;
        this.sawStale = true;
        staleKsets++;
        staleKeys += this.staleKeysIn(kset);
        add(whole, lost);
        whole.keys += kset.keyCount;
        const behind = { segment: walker.segment, offsetBytes: walker.offsetBytes + kset.lengthBytes };
        lost = { first: behind, ksets: 0, keys: 0, dirtyBytes: 0 };
        continue;
      }
      const next = kset.nextSegment;
      if (next >= chain.length) return stale();
      if (next === walker.segment) {
        lost.ksets--; // nobody writes that: it is of another place, and as good as broken
        break;
      }
      if (entered.has(next)) return stale();
      if (log.extents.has(next) || this.leadsIntoLog.has(next)) {
        for (const segment of entered) if (segment !== first.segment) this.leadsIntoLog.add(segment);
        return stale();
      }
      if (this.known.has(next)) {
        const rest = this.known.get(next);
        return rest === undefined ? stale() : { verdict: 'lost', lost: merge(lost, rest), endBytes: 0 };
      }
      entered.add(next);
    }
    // A log that was led on goes on where it was led to.
    const ends = walker.offsetBytes > 0 && isLogEnd(context, chain, walker.position);
    const endsHere = walker.segment === first.segment;
    if (isDamaged && staleKsets > 0 && (ends || endsHere)) {
      add(whole, lost);
      const balance = 2 * staleKsets - whole.ksets || 2 * staleKeys - whole.keys;
      if (balance < 0) lost = whole;
    }
    // What begins in another segment cannot be reached from here: nothing leads to the middle of one.
    if (ends) {
      const reached = lost.ksets > 0 && lost.first.segment === first.segment;
      return reached
        ? { verdict: 'lost', lost: { ...lost, end: walker.position }, endBytes: walker.offsetBytes }
        : stale();
    }
    if (endsHere) return { verdict: 'broken', lost, endBytes };
    // Led on to where a kset began that is broken now: what was put to other use does not begin like one.
    const goesOn = walker.offsetBytes === 0 && lost.ksets > 0 && lost.first.segment === first.segment;
    if (!goesOn || !this.hasMagicAtStart(walker.segment)) return stale();
    // LAST ksets alone do not say when they were written; what is left of the keys there may.
    const isOld = lost.keys === 0 && this.isMostlyStale(walker.segment);
    return isOld ? stale() : { verdict: 'lost', lost, endBytes: 0 };
  }

  /** Of the keys that are whole in what begins a segment like a kset, are more of past generations than of present ones? */
  private isMostlyStale(segment: number): boolean {
    const { context, chain } = this;
    const length = Math.min(KSET_BYTES_MAX, context.geometry.segmentDataBytes);
    context.source.read(chain.dataOffsetBytes[segment], this.buffer, 0, length);
    const kset = this.view.attach(this.buffer, 0);
    const count = kset.keysWithin(length);
    let balance = 0;
    for (let index = 0; index < count; index++) {
      if (kset.keyProblem(index, context.geometry, chain.length, context.backingBytes) !== '') continue;
      const present = chain.generation[kset.keySegment(index)];
      if (kset.keyGeneration(index) < present) balance++;
      else if (kset.keyGeneration(index) === present) balance--;
    }
    return balance > 0;
  }

  private staleKeysIn(kset: KsetView): number {
    const { context, chain } = this;
    let keys = 0;
    for (let index = 0; index < kset.keyCount; index++) {
      const isGood = kset.keyProblem(index, context.geometry, chain.length, Infinity) === '';
      if (!isGood || kset.keyGeneration(index) < chain.generation[kset.keySegment(index)]) keys++;
    }
    return keys;
  }

  /** `stale`: of an earlier lap. `foreign`: it claims what others claim, so it is of an earlier cache. */
  private judge(kset: KsetView, lost: LostRun, claims: RunClaims): 'current' | 'stale' | 'foreign' {
    const { context, chain, log } = this;
    for (let index = 0; index < kset.keyCount; index++) {
      if (kset.keyProblem(index, context.geometry, chain.length, Infinity) !== '') return 'stale';
      const segment = kset.keySegment(index);
      if (kset.keyGeneration(index) < chain.generation[segment]) return 'stale';
      if (log.extents.has(segment)) return 'foreign';
      const length = kset.keyLengthBytes(index);
      if (log.payload.isClaimed(segment, kset.keySegmentOffsetBytes(index), length)) return 'foreign';
      if (claims.isTaken(kset, index)) return 'foreign';
      if (!kset.keyIsClean(index)) lost.dirtyBytes += length;
      lost.isNewer ||= isBehindClaims(log.payload, kset, index);
      if (kset.keySegmentOffsetBytes(index) === 0 && !lost.isOfThisCache) {
        lost.isOfThisCache = beginsWritten(context, chain, segment) && mayHaveWritten(context, chain, kset, index);
      }
    }
    lost.keys += kset.keyCount;
    return 'current';
  }
}

/** Has a key its payload behind all that the log claims in its segment? */
export function isBehindClaims(payload: PayloadMap, kset: KsetView, index: number): boolean {
  const segment = kset.keySegment(index);
  const endOfClaims = payload.covers(segment) ? payload.endOfClaims(segment) : 0;
  return endOfClaims > 0 && kset.keySegmentOffsetBytes(index) >= endOfClaims;
}

/** Whether the payload at a key's place may be the key's own. A CRC can tell that it is not. */
function mayHaveWritten(context: CheckContext, chain: CheckedChain, kset: KsetView, index: number): boolean {
  if (context.dataCrc === false || (context.dataCrc === undefined && kset.keyDataCrc(index) === 0)) return true;
  return payloadMatch(context, chain, kset, index) !== false;
}

interface Run {
  readonly verdict: 'lost' | 'stale' | 'broken';
  readonly lost: LostRun;
  /** Where it ends, in the segment that it began in. */
  readonly endBytes: number;
}

function isGood(kset: KsetView, readableBytes: number): boolean {
  return kset.verdict(readableBytes, readableBytes) === 'ok';
}

const NOTHING_LOST: LostRun = { first: { segment: 0, offsetBytes: 0 }, ksets: 0, keys: 0, dirtyBytes: 0 };

/** What the keys of one run claim. Two that claim the same are not of one log, unless one kset says it twice. */
class RunClaims {
  private readonly map: PayloadMap;
  private readonly last = new LastClaim();
  private readonly key = new KeyFields();

  constructor(geometry: Geometry) {
    this.map = new PayloadMap(geometry);
  }

  isTaken(kset: KsetView, index: number): boolean {
    const segment = kset.keySegment(index);
    if (!this.map.covers(segment)) return false;
    const again = this.last.isRepeatedBy(kset.readKey(index, this.key));
    const taken = this.map.claim(segment, kset.keySegmentOffsetBytes(index), kset.keyLengthBytes(index));
    return taken && !(again && index > 0);
  }
}

function add(sum: LostRun, more: LostRun): void {
  sum.ksets += more.ksets;
  sum.keys += more.keys;
  sum.dirtyBytes += more.dirtyBytes;
  sum.isNewer ||= more.isNewer ?? false;
  sum.isOfThisCache ||= more.isOfThisCache ?? false;
}

function merge(a: LostRun, b: LostRun): LostRun {
  return {
    first: a.first,
    ksets: a.ksets + b.ksets,
    keys: a.keys + b.keys,
    dirtyBytes: a.dirtyBytes + b.dirtyBytes,
    ...(b.end ? { end: b.end } : {}),
    isNewer: (a.isNewer ?? false) || (b.isNewer ?? false),
    isOfThisCache: (a.isOfThisCache ?? false) || (b.isOfThisCache ?? false),
  };
}

/** How many zero bytes lie at `position`, up to `limitBytes` or the end of the segment. */
export function zeroBytesAt(
  context: CheckContext,
  chain: CheckedChain,
  position: Position,
  limitBytes: number,
): number {
  const length = Math.min(limitBytes, context.geometry.segmentDataBytes - position.offsetBytes);
  if (length <= 0) return 0;
  const bytes = new Uint8Array(length);
  context.source.read(chain.dataOffsetBytes[position.segment] + position.offsetBytes, bytes, 0, length);
  const end = bytes.findIndex((byte) => byte !== 0);
  return end < 0 ? length : end;
}

/** Whether the 24 bytes at `position` are zero, which is how the log ends. */
function isLogEnd(context: CheckContext, chain: CheckedChain, position: Position): boolean {
  return zeroBytesAt(context, chain, position, KSET_HEADER_BYTES) === KSET_HEADER_BYTES;
}
