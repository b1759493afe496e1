/** The table of `pcache map`: one row for each version of each part of the range. Pure. */
import type { MappedKey, MappedPiece, MappedRange } from '../engine/inspect/map-range.js';
import { positionText } from '../engine/media/position-text.js';
import type { Column } from './table.js';

/** `current`: a read returns it. `superseded`: a newer key covers it. `stale`: its segment was freed. */
type Role = 'current' | 'superseded' | 'stale';

interface MapRow {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly role: Role;
  /** Null for the backing device. */
  readonly key: MappedKey | null;
}

const ofKey = (show: (key: MappedKey) => string | number) => (row: MapRow) => (row.key === null ? '-' : show(row.key));

export const MAP_COLUMNS: readonly Column<MapRow>[] = [
  { key: 'offset', width: 12, align: 'right', value: (row) => row.offsetBytes },
  { key: 'length', width: 8, align: 'right', value: (row) => row.lengthBytes },
  { key: 'version', width: 10, value: (row) => row.role },
  { key: 'state', width: 12, value: (row) => row.key?.state ?? 'backing' },
  {
    key: 'kset at',
    width: 12,
    align: 'right',
    value: ofKey((key) => positionText({ segment: key.ksetSegment, offsetBytes: key.ksetOffsetBytes })),
  },
  { key: 'key', width: 4, align: 'right', value: ofKey((key) => key.keyIndex) },
  {
    key: 'payload at',
    width: 12,
    align: 'right',
    value: ofKey((key) => positionText({ segment: key.segment, offsetBytes: key.segmentOffsetBytes })),
  },
  { key: 'gen', width: 4, align: 'right', value: ofKey((key) => key.generation) },
  { key: 'CRC', width: 10, value: ofKey((key) => key.crc) },
  { key: 'cache byte', width: 12, align: 'right', value: ofKey((key) => key.deviceOffsetBytes) },
];

/** The part of a key that lies within a part of the range, with the offsets of that part. */
function clipped(key: MappedKey, piece: MappedPiece, role: Role): MapRow {
  const offsetBytes = Math.max(key.offsetBytes, piece.offsetBytes);
  const end = Math.min(key.offsetBytes + key.lengthBytes, piece.offsetBytes + piece.lengthBytes);
  const skipped = offsetBytes - key.offsetBytes;
  return {
    offsetBytes,
    lengthBytes: end - offsetBytes,
    role,
    key: {
      ...key,
      segmentOffsetBytes: key.segmentOffsetBytes + skipped,
      deviceOffsetBytes: key.deviceOffsetBytes + skipped,
    },
  };
}

export function* mapRows({ pieces }: MappedRange): Generator<MapRow> {
  for (const piece of pieces) {
    const { offsetBytes, lengthBytes, key } = piece;
    yield key === null ? { offsetBytes, lengthBytes, role: 'current', key } : clipped(key, piece, 'current');
    for (const other of piece.others) yield clipped(other, piece, other.state === 'stale' ? 'stale' : 'superseded');
  }
}
