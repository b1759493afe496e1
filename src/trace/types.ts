/**
 * What a trace reader hands out: batches of requests as parallel arrays, and the tally of what it met.
 * A batch belongs to the reader, which refills it: use it up before asking for the next.
 */
import type { Readable } from 'node:stream';

/** What a request does; the values of `TraceBatch.op`. */
export const TraceOp = { read: 0, write: 1, flush: 2, discard: 3 } as const;

/** Bits of `TraceBatch.flags`. */
export const TraceFlag = { fua: 1, preflush: 2, sync: 4, meta: 8, ahead: 16 } as const;

export interface TraceBatch {
  /** Requests in this batch: entries `[0, count)` of every array, never zero. */
  count: number;
  /** Time since the first request of the stream, ns; never decreases. */
  readonly timeNs: Float64Array;
  /** A `TraceOp`. */
  readonly op: Uint8Array;
  /** `TraceFlag` bits. */
  readonly flags: Uint8Array;
  /** A multiple of 512; 0 for a flush. */
  readonly offsetBytes: Float64Array;
  /** A multiple of 512; 0 for a flush. `offsetBytes + lengthBytes` is a safe integer. */
  readonly lengthBytes: Float64Array;
}

/** A batch whose requests say which device they are of. */
export interface DeviceBatch extends TraceBatch {
  /** An index into `TraceReader.deviceNames`. */
  readonly device: Uint32Array;
}

/** The formats that are read, beside blktrace's; docs/traces.md says what their fields mean. */
export const TRACE_FORMATS = [
  'blktrace',
  'blkparse',
  'iolog',
  'msr',
  'alibaba',
  'tencent',
  'vscsi1',
  'vscsi2',
  'csv',
  'tracepoints',
  'ftrace-blk',
  'biosnoop',
  'systor17',
  'spc',
  'fiu',
  'disksim',
  'mqsim',
  'iotrace',
  'xperf',
  'hfplayer',
  'libcachesim-csv',
  'libcachesim-txt',
  'oracle-general',
] as const;
/** `columns` is a table whose columns the user names. */
export type TraceFormat = (typeof TRACE_FORMATS)[number] | 'columns';

/** The point of a request's life that stands for the request. */
export type TraceAction = 'queue' | 'issue' | 'complete';

export interface TraceOptions {
  /**
   * `queue`: what the users of the device asked for. `issue`: what went to the driver, after merges and splits;
   * a request that the driver gave back counts once. `complete`: what the driver finished.
   */
  readonly action: TraceAction;
  /**
   * The device whose requests are wanted, as the trace names it (`major,minor` where it is the kernel's); needed
   * when several devices have some.
   */
  readonly device?: string;
  /** Take the requests of all devices instead, one beside the other. */
  readonly allDevices?: boolean;
  /** What the trace is; recognised by its content when left out. */
  readonly format?: TraceFormat;
  /** The columns of a table, instead of a format. */
  readonly table?: TableDefinition | undefined;
  /** What to call the trace in messages; its path when left out. For a copy that its user knows nothing of. */
  readonly name?: string | undefined;
  /** So many malformed records are passed over (100); one more is an error. */
  readonly malformedLimit?: number;
  /** What `-` reads: the process's standard input, which this layer does not know. Needed for that only. */
  readonly stdin?: NodeJS.ReadableStream;
  /** Hears of a pipe that was opened by its name: destroying it ends a wait for its writer. */
  readonly onPipe?: ((pipe: Readable) => void) | undefined;
}

/** `records` is the sum of `notify` down to `malformed`; `selected` that of the four kinds of request. */
export interface TraceCounts {
  records: number;
  /** Process names, clock marks and messages; in an iolog, lines that add, open or close a file, or wait. */
  notify: number;
  /** Events of other actions than the wanted one. */
  otherActions: number;
  /** Requests of devices other than the wanted one. */
  otherDevices: number;
  /** Commands that bypass the block layer's reads and writes, such as SCSI INQUIRY: they have no place on the disk. */
  passthrough: number;
  /** Commands to zones of a zoned device: reset, open, close, finish. */
  zoneManagement: number;
  /** Records whose operation is blank: requests that were never answered, or events that are not requests. */
  withoutOperation: number;
  /** Requests that were issued again after their driver had given them back: counted once. */
  requeued: number;
  /** Events without length that are no flush, such as the completion of a flush's carrier. */
  skippedZeroLength: number;
  /** Records that cannot be read, and requests that name no possible range. */
  malformed: number;
  /** Requests delivered. */
  selected: number;
  reads: number;
  writes: number;
  flushes: number;
  discards: number;
  /** Writes with a flush before them. */
  preflushes: number;
  /** Writes with forced unit access. */
  fuas: number;
  /** Of `selected`, those that carry an error (only completions do). */
  failed: number;
  /** Of `selected`, those that did not begin or end at a sector of 512 bytes: they are larger now, up to the next. */
  widened: number;
  /** Of `selected`, those found too late to be put in their place: delivered where they were found. */
  outOfOrder: number;
  /** Files of a recording of several CPUs that are not there, though those of higher CPUs are. */
  missingFiles: number;
  /** Files that end inside a record. */
  truncated: number;
}

export interface TraceTally extends TraceCounts {
  /** Requests of the wanted action by device. */
  readonly devices: ReadonlyMap<string, number>;
}

/** A record that was passed over because it cannot be read. */
export interface MalformedRecord {
  /** `line 17` or `byte 480`. */
  readonly where: string;
  readonly why: string;
}

export function zeroCounts(): TraceCounts {
  return {
    records: 0,
    notify: 0,
    otherActions: 0,
    otherDevices: 0,
    passthrough: 0,
    zoneManagement: 0,
    withoutOperation: 0,
    requeued: 0,
    skippedZeroLength: 0,
    malformed: 0,
    selected: 0,
    reads: 0,
    writes: 0,
    flushes: 0,
    discards: 0,
    preflushes: 0,
    fuas: 0,
    failed: 0,
    widened: 0,
    outOfOrder: 0,
    missingFiles: 0,
    truncated: 0,
  };
}

export function makeBatch(capacity: number): DeviceBatch {
  return {
    count: 0,
    timeNs: new Float64Array(capacity),
    op: new Uint8Array(capacity),
    flags: new Uint8Array(capacity),
    offsetBytes: new Float64Array(capacity),
    lengthBytes: new Float64Array(capacity),
    device: new Uint32Array(capacity),
  };
}

/** What a column holds. `flush` and `fua` are true or false; a device may be of several columns. */
export type ColumnRole = 'time' | 'op' | 'offset' | 'length' | 'device' | 'flags' | 'flush' | 'fua' | 'ignored';

export interface Column {
  readonly role: ColumnRole;
  /** As its users call it. */
  readonly name: string;
  /** Of a time, nanoseconds in its unit; of an offset or length, bytes. */
  readonly unit: number;
}

/** What an operation's word says besides the `TraceOp`: nothing is done, for the reason that the table's format has. */
export const NO_OPERATION = -2;

export interface TableDefinition {
  readonly format: TraceFormat;
  /** What it is, for people. */
  readonly label: string;
  /** Columns in order, for tables without a header; undefined where there must be one. */
  readonly columns: readonly Column[] | undefined;
  /** Fields a line has at least, without a header; all if not said. */
  readonly fieldsMin?: number;
  /** Whether there may be further fields, which mean nothing. */
  readonly allowsMore: boolean;
  /** Columns by their names in a header, in lower case. */
  readonly named: ReadonlyMap<string, Column>;
  /** Names that a header has at least. */
  readonly required: readonly string[];
  /** By words in lower case; a word that is not here is malformed. */
  readonly ops: ReadonlyMap<string, number>;
  /** The operation of all requests, where there is no column for it. */
  readonly op?: number;
  /** Bytes of all requests, where there is no column for it. */
  readonly lengthBytes?: number;
  /** Between the parts of a device's name. */
  readonly deviceJoin?: string;
  /** Whether to name the columns of a header that mean nothing. */
  readonly namesUnknown?: boolean;
  /** The separator; found out from the first lines if not said. */
  readonly separator?: number;
  /** Lines at the beginning that are not looked at. */
  readonly skipLines?: number;
}
