/**
 * Which key holds a range of the logical device, and which older versions of it the log still has. Changes
 * nothing. The log is followed as far as it goes: what lies behind damage is not known, and `problem` says so.
 *
 * Every piece of the range is held by one key, or by none and is then read from the backing device. With it
 * come all other keys of the log that touch the piece, newest first: those that it was written over, and
 * stale ones, whose payload is gone.
 */
import type { PmemReader } from '../device/pmem.js';
import { TolerantReader } from '../device/tolerant-reader.js';
import { PcacheError } from '../errors.js';
import { LogKeys, type KeyState } from './keys.js';
import { damagedCache, isForeign, type InspectedDevices } from './open.js';
import { CRC_SEED, type Crc32c } from '../media/crc32c.js';
import { SECTOR_BYTES, SUBTREE_BYTES, SUBTREE_SECTORS, type Geometry } from '../media/geometry.js';
import type { CacheMetadata } from '../media/metadata.js';
import type { MediaProblem } from '../media/problem.js';
import { readMetadataOf } from '../log/recovery.js';

/** Does the payload match the CRC of its key? `none`: the cache keeps no CRCs. */
export type CrcVerdict = 'good' | 'bad' | 'unreadable' | 'none';

/** One key of the log. Offsets and lengths are those of the whole key. */
export interface MappedKey {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly state: KeyState;
  /** Number of its kset from key_tail on, where that begins, and which of its keys it is. */
  readonly kset: number;
  readonly ksetSegment: number;
  readonly ksetOffsetBytes: number;
  readonly keyIndex: number;
  /** Logical segment of the payload, where in its data area, and the byte on the cache device. */
  readonly segment: number;
  readonly segmentOffsetBytes: number;
  readonly deviceOffsetBytes: number;
  readonly generation: number;
  readonly dataCrc: number;
  readonly crc: CrcVerdict;
}

export interface MappedPiece {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** The key that holds it; null where it is read from the backing device. */
  readonly key: MappedKey | null;
  /** Further keys that touch it, newest first. */
  readonly others: readonly MappedKey[];
}

export interface MappedRange {
  readonly startBytes: number;
  readonly endBytes: number;
  readonly dataCrc: boolean;
  readonly pieces: readonly MappedPiece[];
  /** What is wrong with the cache, as far as that was noticed. */
  readonly problems: readonly MediaProblem[];
}

export interface MapOptions {
  readonly geometry: Geometry;
  readonly crc: Crc32c;
  /** Widened to whole sectors. Infinity ends it where the keys and the backing device do. */
  readonly startBytes: number;
  readonly endBytes: number;
}

/**
 * @throws PcacheError OUT_OF_RANGE for a range beyond the backing device; BAD_MEDIA or NOT_PCACHE when there is
 * no log to follow
 */
export function mapRange({ pmem, backing }: InspectedDevices, options: MapOptions): MappedRange {
  const metadata = readMetadataOf(pmem, options.geometry);
  if (isForeign(metadata) || !LogKeys.canWalk(metadata)) throw damagedCache(pmem.path, metadata, metadata.problems);
  const startBytes = Math.floor(options.startBytes / SECTOR_BYTES) * SECTOR_BYTES;
  const wantedEnd = Math.ceil(options.endBytes / SECTOR_BYTES) * SECTOR_BYTES;
  if (backing !== undefined && startBytes >= backing.sizeBytes) {
    throw new PcacheError(
      'OUT_OF_RANGE',
      `${backing.path}: ends at byte ${backing.sizeBytes}; give a range that begins before that`,
    );
  }
  const keys = new LogKeys(new TolerantReader(pmem), metadata, backing?.sizeBytes ?? Infinity, options.crc);
  const describe = new KeyDescriber(pmem, metadata);
  const bySubtree = new Map<number, MappedKey[]>();
  let reachBytes = startBytes;
  while (keys.next()) {
    const { row } = keys;
    const end = row.offsetBytes + row.lengthBytes;
    if (row.offsetBytes >= wantedEnd || end <= startBytes) continue;
    reachBytes = Math.max(reachBytes, end);
    const subtree = Math.floor(row.offsetBytes / SUBTREE_BYTES);
    const found = bySubtree.get(subtree);
    const key = describe.key(row);
    if (found === undefined) bySubtree.set(subtree, [key]);
    else found.push(key);
  }
  const endBytes = Math.min(wantedEnd, backing?.sizeBytes ?? (wantedEnd === Infinity ? reachBytes : wantedEnd));
  return {
    startBytes,
    endBytes,
    dataCrc: metadata.flags.dataCrc,
    pieces: [...piecesOf(bySubtree, startBytes, endBytes)],
    problems: keys.problem === undefined ? metadata.problems : [keys.problem, ...metadata.problems],
  };
}

class KeyDescriber {
  constructor(
    private readonly pmem: PmemReader,
    private readonly metadata: CacheMetadata,
  ) {}

  key({ flags: _flags, ...row }: Readonly<LogKeys['row']>): MappedKey {
    const deviceOffsetBytes = this.metadata.chain.dataOffsetBytes[row.segment] + row.segmentOffsetBytes;
    return { ...row, deviceOffsetBytes, crc: this.verdict(deviceOffsetBytes, row.lengthBytes, row.dataCrc) };
  }

  private verdict(deviceOffsetBytes: number, lengthBytes: number, dataCrc: number): CrcVerdict {
    if (!this.metadata.flags.dataCrc) return 'none';
    try {
      return this.pmem.crc32c(deviceOffsetBytes, lengthBytes, CRC_SEED) === dataCrc ? 'good' : 'bad';
    } catch (error) {
      if (!(error instanceof PcacheError) || error.code !== 'IO') throw error;
      return 'unreadable';
    }
  }
}

/** Pieces of the range in order; those next to one another that no key holds are one. */
function* piecesOf(
  bySubtree: ReadonlyMap<number, readonly MappedKey[]>,
  startBytes: number,
  endBytes: number,
): Generator<MappedPiece> {
  let holeStart = startBytes;
  const hole = (end: number): MappedPiece[] =>
    end > holeStart ? [{ offsetBytes: holeStart, lengthBytes: end - holeStart, key: null, others: [] }] : [];
  const subtrees = [...bySubtree.keys()].sort((a, b) => a - b);
  for (const subtree of subtrees) {
    for (const piece of piecesOfSubtree(bySubtree.get(subtree)!, subtree, startBytes, endBytes)) {
      if (piece.key === null && piece.others.length === 0) continue;
      yield* hole(piece.offsetBytes);
      yield piece;
      holeStart = piece.offsetBytes + piece.lengthBytes;
    }
  }
  yield* hole(endBytes);
}

/** @param keys those that touch the range in this subtree, in log order */
function* piecesOfSubtree(
  keys: readonly MappedKey[],
  subtree: number,
  startBytes: number,
  endBytes: number,
): Generator<MappedPiece> {
  const base = subtree * SUBTREE_BYTES;
  // Who holds each sector: later keys go over earlier ones, stale ones hold nothing.
  const holder = new Int32Array(SUBTREE_SECTORS).fill(-1);
  for (const [n, key] of keys.entries()) {
    if (key.state === 'stale') continue;
    const from = (key.offsetBytes - base) / SECTOR_BYTES;
    holder.fill(n, from, from + key.lengthBytes / SECTOR_BYTES);
  }
  const inOrder = [...keys.keys()].sort((a, b) => keys[a].offsetBytes - keys[b].offsetBytes);
  const endOf = (n: number): number => keys[n].offsetBytes + keys[n].lengthBytes;
  let entered = 0;
  // Keys that touch the piece: those that begin before its end and end after its start.
  let touching: number[] = [];
  const first = Math.max(0, startBytes - base) / SECTOR_BYTES;
  const last = Math.min(SUBTREE_BYTES, endBytes - base) / SECTOR_BYTES;
  for (let from = first, to: number; from < last; from = to) {
    for (to = from + 1; to < last && holder[to] === holder[from]; to++);
    const offsetBytes = base + from * SECTOR_BYTES;
    const end = base + to * SECTOR_BYTES;
    touching = touching.filter((n) => endOf(n) > offsetBytes);
    for (; entered < inOrder.length && keys[inOrder[entered]].offsetBytes < end; entered++) {
      if (endOf(inOrder[entered]) > offsetBytes) touching.push(inOrder[entered]);
    }
    yield {
      offsetBytes,
      lengthBytes: end - offsetBytes,
      key: holder[from] < 0 ? null : keys[holder[from]],
      others: touching
        .filter((n) => n !== holder[from])
        .sort((a, b) => b - a)
        .map((n) => keys[n]),
    };
  }
}
