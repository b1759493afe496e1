/** The tables that are known: what their columns hold, and how a line of each looks (docs/traces.md). */
import { wholeNumber } from './number-field.js';
import { NO_OPERATION } from './types.js';
import type { Column, ColumnRole, TableDefinition } from './types.js';
import { TraceOp } from './types.js';
import type { TraceFormat } from './types.js';

const SECTOR = 512;
const BLOCK = 4096;
const MICROSECOND = 1000;
const MILLISECOND = 1e6;
const SECOND = 1e9;
const TICK = 100;

const col = (role: ColumnRole, name: string, unit = 1): Column => ({ role, name, unit });

/** What `words` mean, in lower case. */
function opWords(words: Readonly<Partial<Record<keyof typeof TraceOp, readonly string[]>>>): Map<string, number> {
  const map = new Map<string, number>();
  for (const [op, list] of Object.entries(words)) {
    for (const word of list) map.set(word, TraceOp[op as keyof typeof TraceOp]);
  }
  return map;
}

const READ = ['r', 'read', 'rd', 'rs'];
const WRITE = ['w', 'write', 'wr', 'ws'];
const FLUSH = ['f', 'flush'];
const DISCARD = ['d', 'discard', 'trim', 'unmap'];
/** Words that need no explanation, for tables of the user's own. */
export const COMMON_OPS = opWords({ read: READ, write: WRITE, flush: FLUSH, discard: DISCARD });
const READ_IS_0 = opWords({ read: [...READ, '0'], write: [...WRITE, '1'] });
const WRITE_IS_0 = opWords({ read: ['1'], write: ['0'] });

/** Operation codes of SCSI as hexadecimal text: READ, WRITE, WRITE AND VERIFY, SYNCHRONIZE CACHE, UNMAP. */
const SCSI_OPS = opWords({
  read: ['08', '8', '28', 'a8', '88'],
  write: ['0a', 'a', '2a', 'aa', '8a', '2e', 'ae', '8e'],
  flush: ['35', '91'],
  discard: ['42'],
});

function byName(columns: readonly Column[], names = columns.map(({ name }) => name)): Map<string, Column> {
  return new Map(columns.map((column, i) => [names[i].toLowerCase(), column]));
}

/** Looks like a line of a table, given its fields without empty ones at the end. */
type Look = (fields: readonly string[], separator: number) => boolean;

const isWhole = (field: string): boolean => wholeNumber(field) >= 0;
const isOp = (field: string, ops: ReadonlyMap<string, number>): boolean => ops.has(field.toLowerCase());
const isLetterOp = (field: string): boolean => /^[a-z]+$/i.test(field) && isOp(field, COMMON_OPS);
const isNumber = (field: string): boolean => /^-?\d+(?:\.\d*)?(?:e[+-]?\d+)?$/i.test(field);
const BLANK = 0x20;

export interface KnownTable {
  readonly definition: TableDefinition;
  /** Without it a header is needed. */
  readonly looks?: Look;
}

function table(
  format: TraceFormat,
  label: string,
  columns: readonly Column[],
  rest: Partial<TableDefinition> & { readonly ops: ReadonlyMap<string, number> },
  looks?: Look,
): KnownTable {
  const definition = { columns, allowsMore: false, named: byName(columns), required: [] as string[] };
  return { definition: { format, label, ...definition, ...rest }, ...(looks === undefined ? {} : { looks }) };
}

const MSR = table(
  'msr',
  'MSR Cambridge CSV',
  [
    col('time', 'Timestamp', TICK),
    col('device', 'Hostname'),
    col('device', 'DiskNumber'),
    col('op', 'Type'),
    col('offset', 'Offset'),
    col('length', 'Size'),
    col('ignored', 'ResponseTime'),
  ],
  { ops: READ_IS_0, fieldsMin: 6, required: ['timestamp', 'disknumber', 'type', 'offset', 'size'] },
  (f) =>
    f.length >= 6 &&
    f.length <= 7 &&
    isWhole(f[0]) &&
    isOp(f[3], READ_IS_0) &&
    isWhole(f[4]) &&
    isWhole(f[5]) &&
    f[2] !== '',
);

const ALIBABA = table(
  'alibaba',
  'Alibaba CSV',
  [
    col('device', 'device_id'),
    col('op', 'opcode'),
    col('offset', 'offset'),
    col('length', 'length'),
    col('time', 'timestamp', MICROSECOND),
  ],
  { ops: READ_IS_0, required: ['device_id', 'opcode', 'offset', 'length', 'timestamp'] },
  (f) => f.length === 5 && isWhole(f[0]) && isLetterOp(f[1]) && isWhole(f[2]) && isWhole(f[3]) && isWhole(f[4]),
);

const TENCENT = table(
  'tencent',
  'Tencent CSV',
  [
    col('time', 'Timestamp', SECOND),
    col('offset', 'Offset', SECTOR),
    col('length', 'Size', SECTOR),
    col('op', 'IOType'),
    col('device', 'VolumeID'),
  ],
  { ops: READ_IS_0, required: ['timestamp', 'offset', 'size', 'iotype', 'volumeid'] },
  // Seconds since 1970 have ten digits from 2001 to 2286.
  (f, separator) =>
    separator !== BLANK &&
    f.length === 5 &&
    /^\d{10}$/.test(f[0]) &&
    /^[01]$/.test(f[3]) &&
    isWhole(f[1]) &&
    isWhole(f[4]),
);

const SYSTOR17 = table(
  'systor17',
  "SYSTOR '17 CSV",
  [
    col('time', 'Timestamp', SECOND),
    col('ignored', 'Response'),
    col('op', 'IOType'),
    col('device', 'LUN'),
    col('offset', 'Offset'),
    col('length', 'Size'),
  ],
  {
    ops: new Map([...COMMON_OPS, ['', NO_OPERATION]]),
    required: ['timestamp', 'response', 'iotype', 'lun', 'offset', 'size'],
  },
  (f) =>
    f.length === 6 && /^\d+\.\d+$/.test(f[0]) && (f[2] === '' || isLetterOp(f[2])) && isWhole(f[4]) && isWhole(f[5]),
);

const SPC = table(
  'spc',
  'SPC trace (UMass)',
  [
    col('device', 'ASU'),
    col('offset', 'LBA', SECTOR),
    col('length', 'Size'),
    col('op', 'Opcode'),
    col('time', 'Timestamp', SECOND),
  ],
  { ops: COMMON_OPS, allowsMore: true, required: ['asu', 'lba', 'size', 'opcode', 'timestamp'] },
  (f) =>
    f.length >= 5 && /^\d{1,6}$/.test(f[0]) && isWhole(f[1]) && isWhole(f[2]) && /^[rw]$/i.test(f[3]) && isNumber(f[4]),
);

const FIU = table(
  'fiu',
  'FIU trace',
  [
    col('time', 'timestamp', 1),
    col('ignored', 'pid'),
    col('ignored', 'process'),
    col('offset', 'lba', SECTOR),
    col('length', 'size', SECTOR),
    col('op', 'operation'),
    col('device', 'major'),
    col('device', 'minor'),
  ],
  { ops: COMMON_OPS, allowsMore: true, deviceJoin: ',' },
  (f) =>
    f.length >= 8 &&
    isWhole(f[0]) &&
    isWhole(f[3]) &&
    isWhole(f[4]) &&
    isLetterOp(f[5]) &&
    isWhole(f[6]) &&
    isWhole(f[7]),
);

const DISKSIM_COLUMNS = (unit: number): Column[] => [
  col('time', 'arrival time', unit),
  col('device', 'device'),
  col('offset', 'block number', SECTOR),
  col('length', 'request size', SECTOR),
  col('op', 'flags'),
];
const looksDiskSim = (f: readonly string[], separator: number): boolean =>
  separator === BLANK && f.length === 5 && isWhole(f[1]) && isWhole(f[2]) && isWhole(f[3]) && /^[01]$/.test(f[4]);

/** DiskSim counts in milliseconds with a decimal point, MQSim in whole nanoseconds. */
const DISKSIM = table(
  'disksim',
  'DiskSim ASCII trace',
  DISKSIM_COLUMNS(MILLISECOND),
  { ops: WRITE_IS_0 },
  (f, separator) => looksDiskSim(f, separator) && /^\d+\.\d+$/.test(f[0]),
);
const MQSIM = table(
  'mqsim',
  'MQSim ASCII trace',
  DISKSIM_COLUMNS(1),
  { ops: WRITE_IS_0 },
  (f, separator) => looksDiskSim(f, separator) && isWhole(f[0]) && !f[0].includes('.'),
);

const IOTRACE_COLUMNS = [
  col('time', 'header.timestamp', 1),
  col('device', 'device.name'),
  col('op', 'io.operation'),
  col('offset', 'io.lba', SECTOR),
  col('length', 'io.len', SECTOR),
  col('flush', 'io.flush'),
  col('fua', 'io.fua'),
];
const IOTRACE = table('iotrace', 'Open CAS iotrace CSV', IOTRACE_COLUMNS, {
  columns: undefined,
  ops: new Map([...COMMON_OPS, ['', NO_OPERATION]]),
  required: ['header.timestamp', 'io.lba', 'io.len', 'io.operation'],
});

const HFPLAYER_COLUMNS = [
  col('time', 'ELAPSED_USECS.D', MICROSECOND),
  col('op', 'CMD.S'),
  col('offset', 'LBA.I', SECTOR),
  col('length', 'NBLKS.I', SECTOR),
  col('device', 'LUN_SSID.I'),
];
const HFPLAYER = table('hfplayer', 'hfplayer CSV', HFPLAYER_COLUMNS, {
  columns: undefined,
  ops: COMMON_OPS,
  required: ['elapsed_usecs.d', 'cmd.s', 'lba.i', 'nblks.i'],
});

const LIBCACHESIM_COLUMNS = [
  col('time', 'time', SECOND),
  col('op', 'op'),
  col('length', 'size'),
  col('offset', 'lbn', SECTOR),
];
const LIBCACHESIM_CSV = table('libcachesim-csv', 'libCacheSim CSV of block requests', LIBCACHESIM_COLUMNS, {
  columns: undefined,
  ops: SCSI_OPS,
  required: ['time', 'op', 'size', 'lbn'],
});

const LIBCACHESIM_TXT = table(
  'libcachesim-txt',
  'libCacheSim text, an object of 4 KiB a line',
  [col('offset', 'object', BLOCK)],
  { ops: COMMON_OPS, op: TraceOp.read, lengthBytes: BLOCK },
  (f) => f.length === 1 && /^\d+$/.test(f[0]),
);

const OWN_COLUMNS = [
  col('time', 'time_ns', 1),
  col('op', 'op'),
  col('offset', 'offset_bytes'),
  col('length', 'length_bytes'),
  col('flags', 'flags'),
  col('device', 'device'),
];
const OWN = table('csv', 'pcache CSV', OWN_COLUMNS, {
  columns: undefined,
  ops: COMMON_OPS,
  required: ['op', 'offset_bytes', 'length_bytes'],
  namesUnknown: true,
});

export const KNOWN_TABLES: readonly KnownTable[] = [
  OWN,
  MSR,
  ALIBABA,
  TENCENT,
  SYSTOR17,
  SPC,
  FIU,
  DISKSIM,
  MQSIM,
  IOTRACE,
  HFPLAYER,
  LIBCACHESIM_CSV,
  LIBCACHESIM_TXT,
];

export function knownTable(format: TraceFormat): TableDefinition | undefined {
  return KNOWN_TABLES.find(({ definition }) => definition.format === format)?.definition;
}
