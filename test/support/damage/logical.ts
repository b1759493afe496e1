/**
 * What a cache reads as, compared without reading what cannot differ: by the pieces of its index, and by bytes where
 * two caches have a range from different places, or from a place that was written.
 */
import type { PmemReader } from '../../../src/engine/device/pmem.js';
import type { Geometry } from '../../../src/engine/media/geometry.js';
import { liveEntries } from '../../../src/engine/inspect/keys.js';
import { loadCache } from '../../../src/engine/log/recovery.js';
import { mergeRanges, type ByteRange } from '../../../src/fsck/repair/ranges.js';
import type { Overlay, OverlayBase } from './overlay.js';

/** A range of the logical device that the cache holds, and where on the cache device. */
export interface Piece {
  readonly start: number;
  readonly end: number;
  readonly at: number;
}

export interface Shape {
  readonly geometry: Geometry;
  readonly backingBytes: number;
}

/** Opens a cache as the engine does. @returns its pieces in order, or the codes of what keeps it from opening */
export function openPieces(
  device: Pick<PmemReader, 'path' | 'sizeBytes' | 'read' | 'crc32c'>,
  shape: Shape,
  checkPayload = true,
): { pieces: Piece[] } | { problems: string[] } {
  const reader = { ...bound(device), close: () => undefined };
  const loaded = loadCache(reader, { ...shape, checkPayload });
  if (!('cache' in loaded)) return { problems: loaded.problems.map(({ code, detail }) => `${code}: ${detail}`) };
  const { segments } = loaded.cache;
  const pieces: Piece[] = [];
  for (const row of liveEntries(loaded.cache)) {
    pieces.push({
      start: row.offsetBytes,
      end: row.offsetBytes + row.lengthBytes,
      at: segments.dataOffsetBytes[row.segment] + row.segmentOffsetBytes,
    });
  }
  return { pieces };
}

function bound(device: Pick<PmemReader, 'path' | 'sizeBytes' | 'read' | 'crc32c'>): PmemReader {
  return {
    path: device.path,
    sizeBytes: device.sizeBytes,
    read: (...args) => device.read(...args),
    crc32c: (...args) => device.crc32c(...args),
    close: () => undefined,
  };
}

const HOLE = -1;

/** Steps through two lists of pieces at once. */
function* together(
  a: readonly Piece[],
  b: readonly Piece[],
): Generator<{ start: number; end: number; a: number; b: number }> {
  let [i, j, at] = [0, 0, 0];
  while (i < a.length || j < b.length) {
    while (i < a.length && a[i].end <= at) i++;
    while (j < b.length && b[j].end <= at) j++;
    const starts = [a[i]?.start ?? Infinity, b[j]?.start ?? Infinity];
    if (starts[0] > at && starts[1] > at) {
      at = Math.min(starts[0], starts[1]);
      if (at === Infinity) return;
      continue;
    }
    const inA = starts[0] <= at;
    const inB = starts[1] <= at;
    const end = Math.min(inA ? a[i].end : starts[0], inB ? b[j].end : starts[1]);
    yield {
      start: at,
      end,
      a: inA ? a[i].at + at - a[i].start : HOLE,
      b: inB ? b[j].at + at - b[j].start : HOLE,
    };
    at = end;
  }
}

const SECTOR_BYTES = 512;

/** Ranges that `other` reads differently than `base` does, over the same backing device; by whole sectors. */
export function differingRanges(
  base: { device: Overlay; pieces: readonly Piece[] },
  other: { device: Overlay; pieces: readonly Piece[] },
  backing: OverlayBase,
): ByteRange[] {
  const ranges: ByteRange[] = [];
  for (const { start, end, a, b } of together(base.pieces, other.pieces)) {
    const length = end - start;
    if (a === b && !base.device.isTouched(a, length) && !other.device.isTouched(b, length)) continue;
    const bytes = (device: Overlay, at: number): Uint8Array => {
      if (at !== HOLE) return device.bytes(at, length);
      const read = new Uint8Array(length);
      backing.read(start, read, 0, length);
      return read;
    };
    const [first, second] = [bytes(base.device, a), bytes(other.device, b)];
    if (Buffer.compare(first, second) === 0) continue;
    for (let at = 0; at < length; at += SECTOR_BYTES) {
      if (Buffer.compare(first.subarray(at, at + SECTOR_BYTES), second.subarray(at, at + SECTOR_BYTES)) !== 0) {
        ranges.push({ offsetBytes: start + at, lengthBytes: SECTOR_BYTES });
      }
    }
  }
  return mergeRanges(ranges);
}
