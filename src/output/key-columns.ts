/** Columns of `pcache dump-keys`. Pure. */
import type { KeyRow, LogKeyRow } from '../engine/inspect/keys.js';
import { positionText } from '../engine/media/position-text.js';
import type { Column, RowFormat } from './table.js';

const KEY_COLUMNS: readonly Column<Readonly<KeyRow>>[] = [
  { key: 'offsetBytes', title: 'offset', width: 14, align: 'right', value: (row) => row.offsetBytes },
  { key: 'lengthBytes', title: 'length', width: 8, align: 'right', value: (row) => row.lengthBytes },
  { key: 'segment', width: 7, align: 'right', value: (row) => row.segment },
  { key: 'segmentOffsetBytes', title: 'at', width: 9, align: 'right', value: (row) => row.segmentOffsetBytes },
  { key: 'generation', title: 'gen', width: 5, align: 'right', value: (row) => row.generation },
  { key: 'state', width: 12, value: (row) => row.state },
];

export const LIVE_COLUMNS = KEY_COLUMNS;

const KSET_PLACE: Column<Readonly<LogKeyRow>> = {
  key: 'ksetSegment',
  title: 'kset at',
  width: 12,
  align: 'right',
  value: (row) => row.ksetSegment,
  show: (row) => positionText({ segment: row.ksetSegment, offsetBytes: row.ksetOffsetBytes }),
};

const KSET_OFFSET: Column<Readonly<LogKeyRow>> = { key: 'ksetOffsetBytes', value: (row) => row.ksetOffsetBytes };

const LOG_COLUMNS: readonly Column<Readonly<LogKeyRow>>[] = [
  { key: 'kset', width: 7, align: 'right', value: (row) => row.kset },
  { key: 'keyIndex', title: 'key', width: 4, align: 'right', value: (row) => row.keyIndex },
  ...KEY_COLUMNS,
  { key: 'flags', align: 'right', value: (row) => row.flags, show: (row) => `0x${row.flags.toString(16)}` },
  {
    key: 'dataCrc',
    title: 'data_crc',
    width: 8,
    align: 'right',
    value: (row) => row.dataCrc,
    show: (row) => row.dataCrc.toString(16).padStart(8, '0'),
  },
];

/** A table shows the place of a kset in one column; for programs it is two numbers. */
export function logColumns(format: RowFormat): readonly Column<Readonly<LogKeyRow>>[] {
  return format === 'table' ? [KSET_PLACE, ...LOG_COLUMNS] : [KSET_PLACE, KSET_OFFSET, ...LOG_COLUMNS];
}
