/**
 * Moves a cache onto another device: a new cache is made there that holds the newest version of every range that the
 * old one holds, with keys and payload of its own. The old cache is only read.
 *
 * - The log of the new cache has first what the backing device holds too, then what is dirty; dirty_tail lies between.
 *   No two keys overlap, so nothing else depends on their order.
 * - The log takes the first segments, payload those behind it; payload that does not fit into the rest of a segment
 *   becomes two keys.
 * - The superblock is written last, when everything was made durable and read back. A move that is cut off therefore
 *   leaves no cache on the new device.
 */
import { commitCache, prepareSteps, type FormatPlan } from '../engine/create/create-cache.js';
import { copyBackingRecord } from '../engine/copies/backing-record.js';
import type { Signature } from '../engine/create/foreign-signatures.js';
import type { Pmem, PmemReader } from '../engine/device/pmem.js';
import { PcacheError } from '../engine/errors.js';
import { liveEntries } from '../engine/inspect/keys.js';
import type { LoadedCache } from '../engine/log/recovery.js';
import { decodeGeneration, GENERATION_BYTES, type Generation, type Position } from '../engine/media/codecs.js';
import { CRC_SEED, type Crc32c } from '../engine/media/crc32c.js';
import { readDual } from '../engine/media/dual.js';
import { positionText } from '../engine/media/position-text.js';
import {
  generationCopies,
  MIB,
  segmentDataOffsetBytes,
  SUBTREE_BYTES,
  type Geometry,
} from '../engine/media/geometry.js';
import { firstBrokenKset, LogPlaces, MovedLog, type MovedKey } from './moved-log.js';

/** Segments that are left free, so that a cache that is full of dirty data can go on: one for the log, one for payload. */
const FREE_SEGMENTS = 2;
const BYTES_PER_STEP = 16 * MIB;

export interface MoveSource {
  readonly pmem: PmemReader;
  readonly cache: LoadedCache;
  /** Leave out what the backing device holds too. */
  readonly dirtyOnly: boolean;
  readonly crc: Crc32c;
}

/** What a move will make. */
export interface MovePlan {
  /** Keys and bytes of what the backing device holds too, and of what is dirty. */
  readonly cleanKeys: number;
  readonly cleanBytes: number;
  readonly dirtyKeys: number;
  readonly dirtyBytes: number;
  readonly logSegments: number;
  readonly payloadSegments: number;
}

interface Piece extends MovedKey {
  /** Where its payload lies on the old device. */
  fromBytes: number;
  isDirty: boolean;
}

/**
 * What is moved, in the order of the new log, with its place there. Yields the same object every time.
 * @param firstSegment where payload begins
 */
function* piecesOf(
  { cache, dirtyOnly }: MoveSource,
  geometry: Geometry,
  firstSegment: number,
): Generator<Readonly<Piece>> {
  const piece: Piece = {
    offsetBytes: 0,
    lengthBytes: 0,
    segment: firstSegment,
    segmentOffsetBytes: 0,
    isClean: false,
    fromBytes: 0,
    isDirty: false,
  };
  const { dataOffsetBytes } = cache.segments;
  for (const isDirty of dirtyOnly ? [true] : [false, true]) {
    piece.isDirty = isDirty;
    for (const { state, offsetBytes, lengthBytes, segment, segmentOffsetBytes } of liveEntries(cache)) {
      if ((state === 'dirty') !== isDirty) continue;
      piece.isClean = state === 'clean';
      for (let done = 0; done < lengthBytes; done += piece.lengthBytes) {
        if (piece.segmentOffsetBytes === geometry.segmentDataBytes) {
          piece.segment++;
          piece.segmentOffsetBytes = 0;
        }
        piece.offsetBytes = offsetBytes + done;
        piece.fromBytes = dataOffsetBytes[segment] + segmentOffsetBytes + done;
        piece.lengthBytes = Math.min(lengthBytes - done, geometry.segmentDataBytes - piece.segmentOffsetBytes);
        yield piece;
        piece.segmentOffsetBytes += piece.lengthBytes;
      }
    }
  }
}

/** Counts what there is to move, for segments of this size. */
export function planMove(source: MoveSource, geometry: Geometry): MovePlan {
  const counts = { cleanKeys: 0, cleanBytes: 0, dirtyKeys: 0, dirtyBytes: 0 };
  let payloadSegments = 0;
  for (const { isDirty, lengthBytes, segment } of piecesOf(source, geometry, 0)) {
    counts[isDirty ? 'dirtyKeys' : 'cleanKeys']++;
    counts[isDirty ? 'dirtyBytes' : 'cleanBytes'] += lengthBytes;
    payloadSegments = segment + 1;
  }
  const places = new LogPlaces(geometry);
  places.takeKeys(counts.cleanKeys);
  places.takeKeys(counts.dirtyKeys);
  return { ...counts, logSegments: places.head.segment + 1, payloadSegments };
}

/** Segments that the new device must have. */
export function segmentsNeeded({ logSegments, payloadSegments }: MovePlan): number {
  return logSegments + payloadSegments + FREE_SEGMENTS;
}

/** @throws PcacheError TOO_SMALL when what is moved does not fit */
export function refuseTooMuch(source: MoveSource, plan: MovePlan, target: { path: string; format: FormatPlan }): void {
  const { geometry, segmentCount } = target.format;
  const needed = segmentsNeeded(plan);
  if (needed <= segmentCount) return;
  const least = segmentsNeeded(planMove({ ...source, dirtyOnly: true }, geometry));
  const remedy = least <= segmentCount ? ', or --dirty-only' : '';
  throw new PcacheError(
    'TOO_SMALL',
    `${target.path}: has ${segmentCount} segments, and what is in ${source.pmem.path} takes ${needed} (${least} without clean data); give a larger device${remedy}`,
  );
}

/**
 * Makes the new cache, as planned for its geometry; yields the bytes of payload copied or read back so far, of twice
 * those of the plan. Where the generator is not run to its end, there is no cache on the new device.
 * @throws PcacheError as `Pmem` does; IO when something reads back otherwise than it was written
 */
export function* moveSteps(
  source: MoveSource,
  plan: MovePlan,
  target: Pmem,
  format: FormatPlan,
  wipe: readonly Signature[],
): Generator<number, void> {
  for (const segments of prepareSteps(target, format, wipe)) if (segments % 64 === 0) yield 0;
  const dirtyTail = yield* copy(source, plan, target, format);
  target.persist(); // so that what is read back is what is durable
  yield* readBack(source, plan, target, format);
  commitCache(target, format, dirtyTail);
  copyBackingRecord(source.pmem, target);
}

/** @returns dirty_tail */
function* copy(source: MoveSource, plan: MovePlan, target: Pmem, format: FormatPlan): Generator<number, Position> {
  const { pmem, crc } = source;
  const { geometry, dataCrc } = format;
  const generations = generationsOf(target, plan, geometry);
  const log = new MovedLog(target, geometry, crc);
  const payload = new Uint8Array(SUBTREE_BYTES);
  let dirtyTail: Position | undefined;
  let [done, sinceStep] = [0, 0];
  for (const piece of piecesOf(source, geometry, plan.logSegments)) {
    const { lengthBytes } = piece;
    if (piece.isDirty) dirtyTail ??= log.close();
    pmem.read(piece.fromBytes, payload, 0, lengthBytes);
    target.write(addressOf(piece, geometry), payload, 0, lengthBytes);
    log.add(piece, generations[piece.segment], dataCrc ? crc(CRC_SEED, payload, 0, lengthBytes) : 0);
    done += lengthBytes;
    if ((sinceStep += lengthBytes) < BYTES_PER_STEP) continue;
    sinceStep = 0;
    yield done;
  }
  const keyHead = log.close();
  log.end();
  return dirtyTail ?? keyHead;
}

function* readBack(
  source: MoveSource,
  plan: MovePlan,
  target: Pmem,
  { geometry }: FormatPlan,
): Generator<number, void> {
  const copied = plan.cleanBytes + plan.dirtyBytes;
  let [done, sinceStep] = [0, 0];
  for (const piece of piecesOf(source, geometry, plan.logSegments)) {
    const { fromBytes, offsetBytes, lengthBytes } = piece;
    const isSame =
      source.pmem.crc32c(fromBytes, lengthBytes, CRC_SEED) ===
      target.crc32c(addressOf(piece, geometry), lengthBytes, CRC_SEED);
    if (!isSame) {
      throw notAsWritten(target, source, `bytes ${offsetBytes} to ${offsetBytes + lengthBytes} of the logical device`);
    }
    done += lengthBytes;
    if ((sinceStep += lengthBytes) < BYTES_PER_STEP) continue;
    sinceStep = 0;
    yield copied + done;
  }
  const broken = firstBrokenKset(target, geometry, [plan.cleanKeys, plan.dirtyKeys], source.crc);
  if (broken !== undefined) {
    throw notAsWritten(target, source, `the kset at ${positionText(broken)}`);
  }
}

function notAsWritten(target: Pmem, source: MoveSource, what: string): PcacheError {
  return new PcacheError(
    'IO',
    `${target.path}: ${what} did not read back as it was written; nothing attaches it, and ${source.pmem.path} is as it was`,
  );
}

function addressOf({ segment, segmentOffsetBytes }: MovedKey, geometry: Geometry): number {
  return segmentDataOffsetBytes(geometry, segment) + segmentOffsetBytes;
}

/** Generations of the segments that are used; those of an earlier cache on the device went on. */
function generationsOf(target: Pmem, { logSegments, payloadSegments }: MovePlan, geometry: Geometry): number[] {
  return Array.from({ length: logSegments + payloadSegments }, (_, id) => {
    const copies = generationCopies(geometry, id);
    return readDual<Generation>(target, copies, GENERATION_BYTES, decodeGeneration).value?.generation ?? 0;
  });
}
