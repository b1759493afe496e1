/**
 * The oracle of `--verify`: knows for every sector which versions a read may return. A version is a write's
 * place among the writes to that sector, from 1. A read may return any version from the last one acknowledged
 * before it was submitted up to the last one submitted before it ended, and nothing else.
 *
 * A sector that was not written in this replay is zero on ephemeral devices; on the user's own it must stay
 * what its first read gave. Memory is 12 bytes for each sector of the 4 MiB regions that the trace touches.
 */
import { SECTOR_BYTES, SECTOR_SHIFT, SUBTREE_SECTORS } from '../engine/media/geometry.js';
import { hashSector, isZeroSector, readStamp, SECTOR_WORDS, stampSector } from './stamp.js';

/** Mismatches that are kept in full; all are counted. */
const KEPT_MISMATCHES = 20;

export interface Mismatch {
  readonly where: 'read' | 'backing';
  readonly offsetBytes: number;
  /** What should be there, and what is, for people. */
  readonly expected: string;
  readonly found: string;
}

export interface VerifyResult {
  readonly sectorsWritten: number;
  readonly readSectorsChecked: number;
  readonly backingSectorsChecked: number;
  readonly mismatchCount: number;
  readonly mismatches: readonly Mismatch[];
}

/** The versions of the sectors of one 4 MiB region. */
class Region {
  readonly submitted = new Uint32Array(SUBTREE_SECTORS);
  readonly acknowledged = new Uint32Array(SUBTREE_SECTORS);
  /** Hash of what the first read of an unwritten sector gave; 0 when there was none. */
  readonly first = new Uint32Array(SUBTREE_SECTORS);
}

export class Verifier {
  private readonly regions = new Map<number, Region>();
  private sectorsWritten = 0;
  private readSectorsChecked = 0;
  private backingSectorsChecked = 0;
  private mismatchCount = 0;
  private readonly mismatches: Mismatch[] = [];

  /** @param startsAsZeroes both devices hold nothing but zeroes. */
  constructor(private readonly startsAsZeroes: boolean) {}

  private region(sector: number): Region {
    const number = Math.floor(sector / SUBTREE_SECTORS);
    let region = this.regions.get(number);
    if (!region) this.regions.set(number, (region = new Region()));
    return region;
  }

  /** Calls `body` for each sector of a range. */
  private each(
    offsetBytes: number,
    lengthBytes: number,
    body: (region: Region, at: number, sector: number, n: number) => void,
  ): void {
    const first = offsetBytes / SECTOR_BYTES;
    const count = lengthBytes >>> SECTOR_SHIFT;
    let region: Region | undefined;
    for (let n = 0; n < count; n++) {
      const sector = first + n;
      const at = sector % SUBTREE_SECTORS;
      if (!region || at === 0) region = this.region(sector);
      body(region, at, sector, n);
    }
  }

  /**
   * Before a write is submitted: stamps its payload.
   * @param versions receives the version of each of its sectors, for `writeEnded`.
   */
  beforeWrite(offsetBytes: number, lengthBytes: number, payload: Uint32Array, versions: Uint32Array): void {
    this.each(offsetBytes, lengthBytes, (region, at, sector, n) => {
      const version = ++region.submitted[at];
      if (version === 1) this.sectorsWritten++;
      versions[n] = version;
      stampSector(payload, n * SECTOR_WORDS, sector, version);
    });
  }

  /** When a write was acknowledged. */
  writeEnded(offsetBytes: number, lengthBytes: number, versions: Uint32Array): void {
    this.each(offsetBytes, lengthBytes, (region, at, _sector, n) => {
      if (versions[n] > region.acknowledged[at]) region.acknowledged[at] = versions[n];
    });
  }

  /** Before a read is submitted. @param floors receives the oldest version that each of its sectors may have. */
  beforeRead(offsetBytes: number, lengthBytes: number, floors: Uint32Array): void {
    this.each(offsetBytes, lengthBytes, (region, at, _sector, n) => {
      floors[n] = region.acknowledged[at];
    });
  }

  /** When a read has ended: checks what it gave. */
  readEnded(offsetBytes: number, lengthBytes: number, payload: Uint32Array, floors: Uint32Array): void {
    this.each(offsetBytes, lengthBytes, (region, at, sector, n) => {
      this.readSectorsChecked++;
      this.check('read', region, at, sector, payload, n * SECTOR_WORDS, floors[n], region.submitted[at]);
    });
  }

  /** After draining: checks a piece of the backing device, which must hold the newest version of everything. */
  checkBacking(offsetBytes: number, lengthBytes: number, payload: Uint32Array): void {
    this.each(offsetBytes, lengthBytes, (region, at, sector, n) => {
      this.backingSectorsChecked++;
      const newest = region.submitted[at];
      this.check('backing', region, at, sector, payload, n * SECTOR_WORDS, newest, newest);
    });
  }

  private check(
    where: Mismatch['where'],
    region: Region,
    at: number,
    sector: number,
    words: Uint32Array,
    word: number,
    floor: number,
    newest: number,
  ): void {
    const version = newest === 0 ? -1 : readStamp(words, word, sector);
    if (version >= floor && version >= 1 && version <= newest) return;
    if (floor === 0 && this.isOriginal(region, at, words, word, newest === 0)) return;
    this.mismatchCount++;
    if (this.mismatches.length >= KEPT_MISMATCHES) return;
    this.mismatches.push({
      where,
      offsetBytes: sector * SECTOR_BYTES,
      expected:
        newest === 0 ? 'never written' : floor === newest ? `version ${newest}` : `version ${floor} to ${newest}`,
      found: describe(words, word, sector),
    });
  }

  /** Whether the sector still has what it had before the replay. */
  private isOriginal(region: Region, at: number, words: Uint32Array, word: number, unwritten: boolean): boolean {
    if (this.startsAsZeroes) return isZeroSector(words, word);
    const hash = hashSector(words, word);
    // Once a write is under way a first look may already be at the new version: nothing to remember then.
    if (region.first[at] === 0 && unwritten) region.first[at] = hash;
    return region.first[at] === 0 || region.first[at] === hash;
  }

  /** The regions that any request has touched, as byte offsets. */
  touchedOffsets(): number[] {
    return [...this.regions.keys()].sort((a, b) => a - b).map((number) => number * SUBTREE_SECTORS * SECTOR_BYTES);
  }

  result(): VerifyResult {
    const { sectorsWritten, readSectorsChecked, backingSectorsChecked, mismatchCount, mismatches } = this;
    return { sectorsWritten, readSectorsChecked, backingSectorsChecked, mismatchCount, mismatches };
  }
}

function describe(words: Uint32Array, at: number, sector: number): string {
  if (isZeroSector(words, at)) return 'zeroes';
  const version = readStamp(words, at, sector);
  if (version >= 1) return `version ${version}`;
  const other = words[at + 1] * 2 ** 32 + words[at];
  const foreign = readStamp(words, at, other);
  return foreign >= 1 ? `version ${foreign} of byte ${other * SECTOR_BYTES}` : 'no whole stamp';
}
